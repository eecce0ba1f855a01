"""Choices that an event needs: the outcomes, answers and branches without which it cannot come in a run.

Two events whose choices exclude each other never come in one run. Reads the definition only; judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import NamedTuple

from choreo.core.checks.branches import exclusive
from choreo.core.definition import FlowDefinition, StepDefinition, WaitDefinition
from choreo.core.flow_table import FlowTable


class Choice(NamedTuple):
    """One event of a part that brings about only one of several; `picked` is "" for a step that has a condition."""

    part: str
    picked: str

    @property
    def shown(self) -> str:
        """Return the choice as a part of a sentence."""
        return f"{self.picked} of {self.part}" if self.picked else f"the branch of step {self.part}"


Needs = frozenset[Choice]


class Choices:
    """The choices that each event of the way forward needs."""

    def __init__(self, flow: FlowDefinition, table: FlowTable) -> None:
        """Follow the events from the start until nothing changes; parts on a cycle choose anew in each round."""
        self._table = table
        self._exclusive = exclusive(flow)
        self._made = list(_made(flow, table))
        self._needs: dict[str, Needs] = {flow.starts: frozenset()}
        while self._round(flow.starts):
            pass

    def _round(self, start: str) -> bool:
        """Follow every part once; return whether an event needs other choices than before."""
        found: dict[str, list[Needs]] = {}
        for part, event, choice in self._made:
            if (needs := self.trigger(part)) is not None:
                found.setdefault(event, []).append(needs | choice)
        before = dict(self._needs)
        for event, ways in found.items():
            if event != start:
                self._needs[event] = reduce(frozenset.intersection, ways)
        return before != self._needs

    def trigger(self, part: StepDefinition | WaitDefinition) -> Needs | None:
        """Return the choices that the start of a step or wait needs; None if it is never reached."""
        if isinstance(part, WaitDefinition):
            return self._needs.get(part.on)
        conditional = part.when is not None and part.name not in self._table.cyclic
        own: Needs = frozenset({Choice(part.name, "")}) if conditional else frozenset()
        known = [self._needs[type_] for type_ in part.triggers if type_ in self._needs]
        if not known or (part.all_of and len(known) < len(part.all_of)):
            return None
        join = frozenset.union if part.all_of else frozenset.intersection
        return reduce(join, known) | own

    def of(self, event: str) -> Needs:
        """Return the choices that an event needs; none of one that is never reached."""
        return self._needs.get(event, Needs())

    def exclude(self, one: Iterable[Choice], other: Iterable[Choice]) -> tuple[Choice, Choice] | None:
        """Return two choices that never come in one run, one of each side; None if there are none."""
        others = list(other)
        for mine in one:
            for theirs in others:
                if mine.picked and mine.part == theirs.part and mine.picked != theirs.picked and theirs.picked:
                    return mine, theirs
                if not mine.picked and not theirs.picked and {mine.part, theirs.part} in self._exclusive:
                    return mine, theirs
        return None


def _made(flow: FlowDefinition, table: FlowTable) -> Iterator[tuple[StepDefinition | WaitDefinition, str, Needs]]:
    """Yield each event of the way forward with the part that brings it about, and the choice that this is."""
    for step in flow.steps:
        if step.name in table.reactions:
            continue
        chooses = len(step.emits) > 1 and not (step.emits_all or step.emits_some) and step.name not in table.cyclic
        for event in step.emits:
            yield step, event, frozenset({Choice(step.name, event)}) if chooses else Needs()
    for wait in flow.waits:
        chooses = len(wait.leads_to) > 1 and wait.name in table.waits_once
        for event in wait.leads_to:
            yield wait, event, frozenset({Choice(wait.name, event)}) if chooses else Needs()
        for event in wait.says:
            yield wait, event, Needs()
