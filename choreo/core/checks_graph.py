"""What follows what in a flow: its forward steps and waits as nodes, joined by the events between them.

Reads the definition only; says nothing about right or wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import TopologicalSorter
from typing import NamedTuple

from choreo.core.definition import FlowDefinition, FlowTable


class Node(NamedTuple):
    """A forward step or a wait: what starts it, what it may lead to, how long it may take."""

    name: str
    on: str
    leads_to: tuple[str, ...]
    lasts_ms: int
    fails: bool
    """It can fail by its declaration, besides by exception or deadline."""

    @property
    def shown(self) -> str:
        """As it is named in a sentence."""
        return self.name if self.name.startswith("wait.") else f"step {self.name}"


class Graph:
    """The forward graph of a flow, indexed once."""

    def __init__(self, flow: FlowDefinition, table: FlowTable) -> None:
        """Take the forward steps and the waits; reactions are no part of the way to the end."""
        self.nodes: dict[str, Node] = {}
        for step in flow.steps:
            if step.name not in table.reactions:
                self.nodes[step.name] = Node(step.name, step.on, step.emits, step.deadline_ms, bool(step.fails))
        for wait in flow.waits:
            self.nodes[wait.name] = Node(wait.name, wait.on, (wait.until,), wait.timeout_ms, fails=True)
        self._on: dict[str, list[str]] = {}
        for node in self.nodes.values():
            self._on.setdefault(node.on, []).append(node.name)
        self._end = flow.completes
        self.after: dict[str, frozenset[str]] = {name: self._beyond(name) for name in self.nodes}
        """Node → the nodes that may follow it, itself if it lies on a cycle."""

    def next(self, name: str) -> list[str]:
        """The nodes that a node may start."""
        return [after for type_ in self.nodes[name].leads_to for after in self._on.get(type_, ())]

    def beside(self, name: str) -> frozenset[str]:
        """The nodes that may be under way at the same time: on another branch from an event that several react to."""
        found: set[str] = set()
        for branches in self._on.values():
            mine = [branch for branch in branches if name in self._from(branch)]
            for branch in branches if mine else ():
                if mine != [branch]:
                    found |= self._from(branch)
        return frozenset(other for other in found if name not in self._from(other))

    def ends_without(self, name: str, other: str) -> bool:
        """Return whether the flow's end can follow this node without the other node."""
        seen: set[str] = {other}
        front = {name}
        while front:
            if any(self._end in self.nodes[node].leads_to for node in front):
                return True
            seen |= front
            front = {after for node in front for after in self.next(node)} - seen
        return False

    def may_end(self, name: str) -> bool:
        """Return whether nothing need follow this node: the flow's end comes before it, or on a branch beside it."""
        before = any(name in self._from(node) for node in self._on.get(self._end, ()))
        return before or any(self._end in self.nodes[node].leads_to for node in self.beside(name))

    def longest(self) -> tuple[int, list[str]]:
        """The longest way through, each node once, and its length in milliseconds; a cycle counts as one round."""
        best: dict[str, tuple[int, list[str]]] = {}
        before = self._before()
        for name in TopologicalSorter(before).static_order():
            length, way = max((best[earlier] for earlier in before[name]), default=(0, []))
            best[name] = (length + self.nodes[name].lasts_ms, [*way, name])
        return max(best.values(), default=(0, []))

    def _before(self) -> dict[str, set[str]]:
        """Node → the nodes before it, without the edges that lie on a cycle."""
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
    """Type → the steps and waits that bring it about, in any role."""
    found: dict[str, list[str]] = {}
    for step in flow.steps:
        undone = step.compensation.emits if step.compensation else ()
        for type_ in (*step.emits, *step.fails, *undone):
            found.setdefault(type_, []).append(step.name)
    for wait in flow.waits:
        for type_ in (wait.until, wait.fails):
            found.setdefault(type_, []).append(wait.name)
    return found


def reached(flow: FlowDefinition, sources: Iterable[str]) -> frozenset[str]:
    """The event types that can come about in a run, given those that can be there without a step."""
    made: dict[str, set[str]] = {}
    for step in flow.steps:
        undone = step.compensation.emits if step.compensation else ()
        made.setdefault(step.on, set()).update(step.emits, step.fails, undone)
    for wait in flow.waits:
        made.setdefault(wait.on, set()).update((wait.until, wait.fails))
    seen: set[str] = set()
    front = set(sources)
    while front:
        seen |= front
        front = {type_ for event in front for type_ in made.get(event, ())} - seen
    return frozenset(seen)
