"""Branches on data: which steps do not run, by their conditions. Pure; tracker and hosts judge alike.

The conditions of steps on one event, or on any of several, are judged on that event. The condition of a join is judged
on all its events: the tracker tests each comparison when the event with the field comes, and keeps those that hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from choreo.core.conditions import AnyCondition, Leaf, Otherwise, holds, key_of, leaves, on_one, satisfied, text
from choreo.core.definition import StepDefinition
from choreo.core.events import Record
from choreo.core.fields import UnreadableFieldError


class Judged(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The verdict on one event: the steps that it does not trigger."""

    skips: tuple[str, ...]
    unreadable: str = ""
    """Why the conditions cannot be judged; `skips` then names every step that has one."""


class Tested(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The comparisons of joins on one of their events, as texts: those that hold."""

    held: tuple[str, ...]
    unreadable: str = ""
    """Why they cannot be tested."""


class Branches:
    """The conditions of the steps on one event type of a flow, or of the joins of the same types."""

    def __init__(self, conditions: Iterable[tuple[str, AnyCondition]]) -> None:
        """Take (step, condition) pairs."""
        pairs = list(conditions)
        self._tests = [(name, condition) for name, condition in pairs if not isinstance(condition, Otherwise)]
        self._otherwise = tuple(name for name, condition in pairs if isinstance(condition, Otherwise))
        self.steps: tuple[str, ...] = tuple(name for name, _ in pairs)

    def skipped(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the steps with a false condition; raises UnreadableFieldError on a value of a wrong kind."""
        return self._skipped(lambda condition: holds(condition, fields))

    def skipped_by(self, tested: Mapping[str, Tested]) -> tuple[str, ...]:
        """Return the joins with a false condition, by the comparisons that were tested on each of their events."""
        held = {type_: each.held for type_, each in tested.items()}
        return self._skipped(lambda condition: satisfied(condition, lambda leaf: text(leaf) in held.get(leaf.of, ())))

    def judge(self, record: Record) -> Judged:
        """Return the verdict on a record with its fields; one that cannot be read triggers none of these steps."""
        if record.fields is None or record.unreadable:
            return Judged(self.steps, record.unreadable or _NOT_DECODED)
        try:
            return Judged(self.skipped(record.fields))
        except UnreadableFieldError as error:
            return Judged(self.steps, str(error))

    def _skipped(self, true: Callable[[AnyCondition], bool]) -> tuple[str, ...]:
        false = tuple(name for name, condition in self._tests if not true(condition))
        return false if len(false) == len(self._tests) else (*false, *self._otherwise)


class MemberTests:
    """The comparisons that joins make with the fields of one of their events."""

    def __init__(self, comparisons: Iterable[Leaf]) -> None:
        """Take the comparisons, all of one type."""
        self._comparisons = tuple(dict.fromkeys(comparisons))

    def test(self, record: Record) -> Tested:
        """Return the comparisons that hold for a record with its fields."""
        if record.fields is None or record.unreadable:
            return Tested((), record.unreadable or _NOT_DECODED)
        try:
            return Tested(tuple(text(leaf) for leaf in self._comparisons if holds(leaf, _keyed(leaf, record.fields))))
        except UnreadableFieldError as error:
            return Tested((), str(error))


_NOT_DECODED = "its payload was not decoded"


def _keyed(leaf: Leaf, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key_of(leaf): fields.get(leaf.field)}


def branches_of(steps: Iterable[StepDefinition]) -> dict[str, Branches]:
    """Return type → the conditions of the steps on it, where one has a condition; joins are left out."""
    found: dict[str, list[tuple[str, AnyCondition]]] = {}
    for step in steps:
        if step.when is None or step.all_of:
            continue
        for type_ in step.triggers:
            found.setdefault(type_, []).append((step.name, on_one(step.when, type_)))
    return {type_: Branches(conditions) for type_, conditions in found.items()}


def join_branches_of(steps: Iterable[StepDefinition]) -> dict[str, Branches]:
    """Return join → the conditions of the joins on the same types, itself included, where it has a condition."""
    found: dict[frozenset[str], list[tuple[str, AnyCondition]]] = {}
    for step in steps:
        if step.all_of and step.when is not None:
            found.setdefault(frozenset(step.all_of), []).append((step.name, step.when))
    groups = map(Branches, found.values())
    return {name: group for group in groups for name in group.steps}


def member_tests_of(steps: Iterable[StepDefinition]) -> dict[str, MemberTests]:
    """Return type → the comparisons that joins make with its fields."""
    found: dict[str, list[Leaf]] = {}
    for step in steps:
        for leaf in leaves(step.when) if step.all_of and step.when is not None else ():
            found.setdefault(leaf.of, []).append(leaf)
    return {type_: MemberTests(comparisons) for type_, comparisons in found.items()}
