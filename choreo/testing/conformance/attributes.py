"""The suite of search attributes: every store compares their values as plain Python does.

Values and comparisons are drawn by chance from a seed, so that a failure can be repeated.
"""
# ruff: noqa: S101, S311 -- a suite is made of asserts; chance here keeps no secret

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from choreo.core.attributes import (
    OPERATORS,
    OUTCOME,
    AttributeDefinition,
    AttributeKind,
    AttributeSource,
    key_of,
    keys_of,
    shown,
)
from choreo.ports.read_model import Condition, Filter, InstanceView
from choreo.testing.conformance import TOPIC, Backend
from choreo.testing.conformance.read_model import filled, view

KINDS: tuple[AttributeKind, ...] = ("text", "number", "time")
DECLARED = tuple(AttributeDefinition(kind, kind, (AttributeSource("X", kind),)) for kind in KINDS)

_COMPARE = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_TEXTS = (
    "",
    "a",
    "ab",
    "abc",
    "abd",
    "b",
    "A",
    "é",
    "~",
    "\U0010ffff",
    "a\U0010ffff",
    "\x1b",
    "a\0",
    "a\0b",
    "%",
    "a" * 400,
)
_NUMBERS = (
    "0",
    "-0.00",
    "1",
    "1.0",
    "1E+3",
    "1000",
    "999.99",
    "-1",
    "-1.5",
    "-10",
    "1e-30",
    "-1e-30",
    "12345678901234567890.5",
)


def text(random: Random) -> str:
    """Return a text: a special one, or one that shares a beginning with others, also a long one."""
    return random.choice(_TEXTS) if random.random() < 0.6 else random.choice("ab" * 2) * random.choice((1, 2, 300, 700))


def number(random: Random) -> Decimal | float | int:
    """Return a number: a special one, or one of any size and precision."""
    if random.random() < 0.5:
        return Decimal(random.choice(_NUMBERS))
    if random.random() < 0.5:
        return random.choice((random.uniform(-2, 2), random.randint(-100, 100), 1e300, -1e-300))
    return Decimal(random.randint(-(10**21), 10**21)).scaleb(random.randint(-40, 40))


def time(random: Random) -> datetime | date:
    """Return a moment in some zone, or a day; several are close to each other or equal."""
    day = datetime(2026, 3, 29, tzinfo=UTC) + timedelta(days=random.randint(-1, 1))
    if random.random() < 0.2:
        return day.date()
    moment = day + timedelta(hours=random.randint(0, 2), microseconds=random.choice((0, 0, 1, 999_999)))
    return moment.astimezone(timezone(timedelta(hours=random.choice((0, 2, -5, 14)))))


def value(kind: AttributeKind, random: Random) -> Any:
    """Return a value of this kind."""
    return {"text": text, "number": number, "time": time}[kind](random)


def meets(one: Any, op: str, other: Any) -> bool:
    """Return whether a value meets a comparison: the plain reference."""
    if one is None:
        return False
    if op == "^=":
        return bool(one.startswith(other))
    return bool(_COMPARE[op](_plain(one), _plain(other)))


def _plain(one: Any) -> Any:
    if isinstance(one, float):
        return Decimal(repr(one))
    if isinstance(one, date) and not isinstance(one, datetime):
        return datetime(one.year, one.month, one.day, tzinfo=UTC)
    return one


def run(number: int, values: Mapping[str, Any]) -> InstanceView:
    """Return the view of a run with these attributes."""
    texts = {name: shown(one) for name, one in values.items() if one is not None}
    return replace(view(number), attributes={"city": "Bern", **texts}, keys=keys_of(DECLARED, texts))


async def _listed(backend: Backend, *conditions: Condition, limit: int = 7) -> list[str]:
    """Return the keys of all runs that meet the conditions, page by page."""
    found: list[str] = []
    cursor = ""
    while True:
        page = await backend.read_model.instances(Filter(flow=TOPIC, conditions=conditions), limit, cursor)
        found += [item.key for item in page.items]
        cursor = page.cursor
        if not cursor:
            return found


def _expected(runs: Mapping[int, Mapping[str, Any]], asked: Sequence[tuple[AttributeKind, str, Any]]) -> list[str]:
    return [
        f"o-{number}"
        for number in sorted(runs, reverse=True)
        if all(meets(runs[number][kind], op, other) for kind, op, other in asked)
    ]


class AttributesSuite:
    """Search attributes, stored and compared."""

    @pytest.mark.parametrize("seed", range(3))
    async def test_every_comparison_is_that_of_python(self, backend: Backend, seed: int) -> None:
        """Give the answer of the plain reference, before and after the attributes change or go away."""
        random = Random(seed)
        runs: dict[int, dict[str, Any]] = {}
        for _ in range(2):
            for n in range(1, 41):
                if n not in runs or random.random() < 0.5:
                    runs[n] = {kind: value(kind, random) if random.random() < 0.9 else None for kind in KINDS}
            await filled(backend, *(run(n, values) for n, values in runs.items()))
            for _ in range(60):
                kinds = random.choices(KINDS, k=random.choice((1, 1, 2)))
                asked = [(kind, random.choice(OPERATORS[kind]), value(kind, random)) for kind in kinds]
                conditions = [Condition(kind, op, key_of(kind, shown(other))) for kind, op, other in asked]
                assert await _listed(backend, *conditions) == _expected(runs, asked), asked

    async def test_many_and_few_matches_are_found(self, backend: Backend) -> None:
        """Find all of 1,500 runs and the one among them, whichever way a store takes for it."""
        for first in range(1, 1_501, 500):
            await filled(backend, *(run(n, {"number": n, "text": f"sh-{n}"}) for n in range(first, first + 500)))
        many = await _listed(backend, Condition("number", ">=", key_of("number", "2")), limit=400)
        assert many == [f"o-{n}" for n in range(1_500, 1, -1)]
        assert await _listed(backend, Condition("number", "=", key_of("number", "1.00"))) == ["o-1"]
        both = Condition("text", "^=", "sh-"), Condition("number", "<", key_of("number", "3"))
        assert await _listed(backend, *both) == ["o-2", "o-1"]

    async def test_a_view_keeps_its_attributes_exactly(self, backend: Backend) -> None:
        """Return what was written, also after a later event has replaced one and cleared another."""
        before, after = {"text": "a\0b", "number": Decimal("1.50")}, {"number": Decimal(-2), "time": date(2026, 1, 2)}
        for values in (before, after):
            await filled(backend, run(1, values))
            shown_now = await backend.read_model.instance(TOPIC, "o-1")
            assert shown_now == run(1, values)
        assert await _listed(backend, Condition("text", "^=", "a")) == []

    async def test_a_dropped_view_leaves_no_attribute(self, backend: Backend) -> None:
        """Find none after the drop, and those that are folded again."""
        await filled(backend, run(1, {"text": "a"}))
        await backend.read_model.drop(TOPIC)
        assert await _listed(backend, Condition("text", "=", "a")) == []
        await filled(backend, run(1, {"text": "b"}))
        assert await _listed(backend, Condition("text", "=", "a")) == []
        assert await _listed(backend, Condition("text", "=", "b")) == ["o-1"]

    async def test_completed_runs_are_counted_by_outcome(self, backend: Backend) -> None:
        """Count a run once, move it with its outcome, and forget it when it is no longer completed or dropped."""
        no = "declined\0"

        async def ended(number: int, outcome: str | None) -> None:
            status = "running" if outcome is None else "completed"
            await filled(backend, replace(view(number, status=status), keys={OUTCOME: outcome}))

        assert await backend.read_model.outcomes(TOPIC) == {}
        for number in (1, 2, 3):
            await ended(number, "paid")
        await ended(4, no)
        for _ in range(2):
            await ended(5, None)
            await ended(3, no)
        assert await backend.read_model.outcomes(TOPIC) == {"paid": 2, no: 2}
        assert await backend.read_model.counts(TOPIC) == {"completed": 4, "running": 1}
        await ended(4, None)
        assert await backend.read_model.outcomes(TOPIC) == {"paid": 2, no: 1}
        assert await _listed(backend, Condition(OUTCOME, "=", "paid")) == ["o-2", "o-1"]
        await backend.read_model.drop(TOPIC)
        assert await backend.read_model.outcomes(TOPIC) == {}
        await ended(2, no)
        assert await backend.read_model.outcomes(TOPIC) == {no: 1}
