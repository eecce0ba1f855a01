"""Branches on data: which steps on one event do not run, by their conditions. Pure; tracker and hosts judge alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from choreo.core.conditions import AnyCondition, Otherwise, holds
from choreo.core.events import Record
from choreo.core.fields import UnreadableFieldError


class Judged(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The verdict on one event: the steps that it does not trigger."""

    skips: tuple[str, ...]
    unreadable: str = ""
    """Why the conditions cannot be judged; `skips` then names every step that has one."""


class Branches:
    """The conditions of the steps on one event type of a flow."""

    def __init__(self, conditions: Iterable[tuple[str, AnyCondition]]) -> None:
        """Take (step, condition) pairs."""
        pairs = list(conditions)
        self._tests = [(name, condition) for name, condition in pairs if not isinstance(condition, Otherwise)]
        self._otherwise = tuple(name for name, condition in pairs if isinstance(condition, Otherwise))
        self.steps: tuple[str, ...] = tuple(name for name, _ in pairs)

    def skipped(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the steps with a false condition; raises UnreadableFieldError on a value of a wrong kind."""
        false = tuple(name for name, condition in self._tests if not holds(condition, fields))
        return false if len(false) == len(self._tests) else (*false, *self._otherwise)

    def judge(self, record: Record) -> Judged:
        """Return the verdict on a record with its fields; one that cannot be read triggers none of these steps."""
        if record.fields is None or record.unreadable:
            return Judged(self.steps, record.unreadable or "its payload was not decoded")
        try:
            return Judged(self.skipped(record.fields))
        except UnreadableFieldError as error:
            return Judged(self.steps, str(error))
