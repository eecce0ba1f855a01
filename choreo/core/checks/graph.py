"""The graph of a flow: its forward steps and waits as nodes, joined by the events between them.

Reads the definition only; judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from graphlib import TopologicalSorter
from typing import NamedTuple

from choreo.core.checks.branches import exclusive
from choreo.core.definition import FlowDefinition, StepDefinition
from choreo.core.flow_table import FlowTable


class Node(NamedTuple):
    """A forward step or a wait: the events that start it and that it may lead to, and its longest time."""

    name: str
    on: tuple[str, ...]
    leads_to: tuple[str, ...]
    lasts_ms: int
    fails: bool
    """Whether it can fail by its declaration, besides by exception or deadline."""

    @property
    def shown(self) -> str:
        """Return the node's name in a sentence."""
        return self.name if self.name.startswith(("wait.", "timer.")) else f"step {self.name}"


class Graph:
    """The forward graph of a flow, indexed once."""

    def __init__(self, flow: FlowDefinition, table: FlowTable) -> None:
        """Collect the forward steps and the waits; reactions are not on the way to the end."""
        self.nodes: dict[str, Node] = {}
        for step in flow.steps:
            if step.name not in table.reactions:
                self.nodes[step.name] = Node(step.name, step.triggers, step.emits, step.deadline_ms, bool(step.fails))
        for wait in flow.waits:
            self.nodes[wait.name] = Node(
                wait.name, (wait.on,), wait.leads_to, wait.timeout_ms, fails=bool(wait.fails or wait.refused)
            )
            if wait.says:  # a branch of its own: nothing must follow it, and the wait goes on beside it
                lasts_ms = max(wait.escalate_ms, wait.remind_ms * wait.reminds_max)
                lasts_ms = min(lasts_ms, wait.timeout_ms or lasts_ms)
                said = f"{wait.name}, its reminders"
                self.nodes[said] = Node(said, (wait.on,), wait.says, lasts_ms, fails=False)
        self._on: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for type_ in node.on:
                self._on.setdefault(type_, []).append(node.name)
        self._forks = [branches for branches in self._on.values() if len(branches) > 1]
        self._exclusive = exclusive(flow)
        self._beside: dict[str, frozenset[str]] = {}
        self._ends = frozenset(flow.ends)
        self.after: dict[str, frozenset[str]] = {name: self._beyond(name) for name in self.nodes}
        """Node → the nodes that may follow it, itself if it lies on a cycle."""

    def next(self, name: str) -> list[str]:
        """Return the nodes that a node may start."""
        return [after for type_ in self.nodes[name].leads_to for after in self._on.get(type_, ())]

    def beside(self, name: str) -> frozenset[str]:
        """Return the nodes that may run at the same time: on another branch from an event with several reactions."""
        if name in self._beside:
            return self._beside[name]
        found: set[str] = set()
        for branches in self._forks:
            mine = [branch for branch in branches if name in self._from(branch)]
            for branch in branches if mine else ():
                if any(other != branch and {other, branch} not in self._exclusive for other in mine):
                    found |= self._from(branch)
        self._beside[name] = frozenset(other for other in found if name not in self._from(other))
        return self._beside[name]

    def unordered(self, name: str) -> frozenset[str]:
        """Return the nodes whose order with this one nothing fixes: beside it, and neither before nor after it."""
        return frozenset(other for other in self.beside(name) if other not in self._from(name))

    def ends_without(self, name: str, other: str) -> bool:
        """Return whether the flow's end can follow this node without the other node."""
        seen: set[str] = {other}
        front = {name}
        while front:
            if any(self._completes(node) for node in front):
                return True
            seen |= front
            front = {after for node in front for after in self.next(node)} - seen
        return False

    def may_end(self, name: str) -> bool:
        """Return whether nothing must follow this node: the flow's end comes before it, or on a branch beside it."""
        before = any(name in self._from(node) for end in self._ends for node in self._on.get(end, ()))
        return before or any(self._completes(node) for node in self.beside(name))

    def ends_beside(self, step: StepDefinition, type_: str) -> bool:
        """Return whether the flow's end follows from another event that always comes together with this one."""
        others = [other for other in step.emits if other != type_] if step.emits_all else []
        starts = [self._from(node) for other in others for node in self._on.get(other, ())]
        return not self._ends.isdisjoint(others) or any(self._completes(node) for front in starts for node in front)

    def _completes(self, name: str) -> bool:
        """Return whether the node may bring about an end of the flow."""
        return not self._ends.isdisjoint(self.nodes[name].leads_to)

    def longest(self) -> tuple[int, list[str]]:
        """Return the longest path, each node once, and its length in milliseconds; a cycle counts as one round."""
        best: dict[str, tuple[int, list[str]]] = {}
        before = self._before()
        for name in TopologicalSorter(before).static_order():
            length, way = max((best[earlier] for earlier in before[name]), default=(0, []))
            best[name] = (length + self.nodes[name].lasts_ms, [*way, name])
        return max(best.values(), default=(0, []))

    def _before(self) -> dict[str, set[str]]:
        """Return node → the nodes before it, without the edges on a cycle."""
        before: dict[str, set[str]] = {name: set() for name in self.nodes}
        for name in self.nodes:
            for after in self.next(name):
                if name not in self._from(after):
                    before[after].add(name)
        return before

    def _from(self, name: str) -> frozenset[str]:
        return self.after[name] | {name}

    def _beyond(self, name: str) -> frozenset[str]:
        seen: set[str] = set()
        front = set(self.next(name))
        while front:
            seen |= front
            front = {after for node in front for after in self.next(node)} - seen
        return frozenset(seen)


def emitters(flow: FlowDefinition) -> dict[str, list[str]]:
    """Return type → the steps and waits that bring it about, in any role."""
    found: dict[str, list[str]] = {}
    outside = set(flow.movers_outside)
    for step in flow.steps:
        undone = step.compensation.emits if step.compensation else ()
        for type_ in (*step.emits, *step.fails, *undone):
            found.setdefault(type_, []).append(step.name)
    for wait in flow.waits:
        for type_ in (*wait.answers, wait.late, *wait.says, *({wait.moved_by} & outside)):
            found.setdefault(type_, []).append(wait.name)
    return found


def reached(flow: FlowDefinition, sources: Iterable[str], without: str = "") -> frozenset[str]:
    """Return the event types that can occur in a run, from those that can occur without a step.

    `without`: those that can occur before any event of that type.
    """
    seen = set(sources) - {without}
    while more := {*_following(flow, seen)} - seen - {without}:
        seen |= more
    return frozenset(seen)


def _following(flow: FlowDefinition, seen: AbstractSet[str]) -> Iterator[str]:
    """Yield the types that steps and waits bring about from these; what moves a timer comes once it is open."""
    outside = set(flow.movers_outside)
    for step in flow.steps:
        if set(step.all_of) <= seen and not seen.isdisjoint(step.triggers):
            yield from (*step.emits, *step.fails, *(step.compensation.emits if step.compensation else ()))
    for wait in flow.waits:
        if wait.on in seen:
            yield from (*wait.answers, wait.late, *wait.says, *({wait.moved_by} & outside))
