"""Payloads that matter: of each event with conditions or moments, one payload for each combination of verdicts.

A condition is data, so that its fields can be tried with the values that it names and those between and beyond them.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import islice, product
from typing import Any

from choreo.core.conditions import Among, Compare, Leaf, leaves, on_one
from choreo.core.errors import DeclarationError
from choreo.core.events import Envelope, Record
from choreo.core.fields import FieldType, comparable
from choreo.core.flow_table import FlowTable
from choreo.testing.verification.routing import MOMENTS

_MOMENT = "2100-01-01T00:00:00+00:00"
_STEPS: Mapping[str, Any] = {"number": Decimal(1), "time": timedelta(days=1), "day": timedelta(days=1)}
"""The distance of a value beyond the last one that a condition names, by kind."""
TRIED_MAX = 100_000
"""Combinations of fields that are tried for one event: 10 s of work."""


def payloads_of(table: FlowTable) -> dict[str, tuple[bytes, ...]]:
    """Return type → the payloads to try; a type is left out where nobody reads its fields."""
    found: dict[str, tuple[bytes, ...]] = {}
    compared = _compared(table)
    for type_ in sorted({*table.moments, *compared}):
        moments = dict.fromkeys(table.moments.get(type_, ()), _MOMENT)
        rest = {MOMENTS: moments} if moments else {}
        told_apart = _told_apart(table, type_, compared.get(type_, ()))
        found[type_] = tuple(json.dumps(fields | rest).encode() for fields in told_apart)
    return found


def _compared(table: FlowTable) -> dict[str, list[Leaf]]:
    """Return type → the comparisons with its fields."""
    found: dict[str, list[Leaf]] = {}
    for step in table.flow.steps:
        if step.when is None:
            continue
        for type_ in step.triggers:
            known = leaves(step.when) if step.all_of else leaves(on_one(step.when, type_))
            found.setdefault(type_, []).extend(leaf for leaf in known if leaf.of in ("", type_))
    return found


def _told_apart(table: FlowTable, type_: str, compared: Iterable[Leaf]) -> list[dict[str, Any]]:
    """Return one set of fields for each combination of verdicts, in a fixed order."""
    by_field: dict[str, list[Leaf]] = {}
    for leaf in compared:
        by_field.setdefault(leaf.field, []).append(leaf)
    choices = [[(name, value) for value in _values(found)] for name, found in sorted(by_field.items())]
    every = list(islice(product(*choices), TRIED_MAX + 1))
    if len(every) > TRIED_MAX:
        raise DeclarationError(
            f"its conditions have more than {TRIED_MAX:,} combinations of values",
            where=f"flow {table.flow.name}, event {type_}",
            remedy="Compare fewer fields with fewer values, for instance with a field that sums them up.",
        )
    found: dict[Hashable, dict[str, Any]] = {}
    for fields in map(dict, every):
        found.setdefault(_verdict(table, type_, fields), fields)
    return list(found.values())


def _verdict(table: FlowTable, type_: str, fields: dict[str, Any]) -> Hashable:
    """Return all that the flow concludes from these fields."""
    record = Record("", 0, 0, 0, Envelope(id="", type=type_, key="", flow=table.flow.name), fields=fields)
    skips = table.branches[type_].judge(record).skips if type_ in table.branches else ()
    held = table.member_tests[type_].test(record).held if type_ in table.member_tests else ()
    return skips, held


def _values(compared: list[Leaf]) -> list[Any]:
    """Return the values to try for one field: those that are named, between them, and beyond them; None if allowed."""
    types = [leaf.type for leaf in compared if leaf.type is not None]
    type_ = types[0] if types else FieldType("text")
    found = list(type_.values) or list(_around(type_, {value for leaf in compared for value in _named(leaf)}))
    return [None, *found] if type_.optional else found


def _named(leaf: Leaf) -> tuple[Any, ...]:
    if isinstance(leaf, Compare):
        return (leaf.value,)
    return leaf.values if isinstance(leaf, Among) else ()


def _around(type_: FieldType, named: set[Any]) -> Iterator[Any]:
    if type_.kind == "truth":
        yield from (True, False)
        return
    if type_.kind == "text":
        texts = sorted(map(str, named))
        yield from (*texts, "".join(texts) + "?")
        return
    known = sorted({comparable(type_.kind, value) for value in named}) or [_SOME[type_.kind]]
    step = _STEPS[type_.kind]
    yield _plain(known[0] - step)
    for value, following in zip(known, [*known[1:], known[-1] + 2 * step], strict=True):
        yield _plain(value)
        yield _plain(value + (following - value) / 2) if type_.kind != "day" else _plain(value + step)


_SOME: Mapping[str, Any] = {
    "number": Decimal(0),
    "time": datetime.fromisoformat(_MOMENT),
    "day": date(2100, 1, 1),
}
"""A value where a condition only asks whether there is one."""


def _plain(value: Any) -> str:
    """Return a value as it stands in JSON."""
    return value.isoformat() if isinstance(value, date) else str(value)
