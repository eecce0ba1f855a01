"""Conditions in a declaration: each comparison gets its field's declared type, and is checked against it."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from choreo.core.conditions import (
    Among,
    AnyCondition,
    Compare,
    Either,
    Every,
    Leaf,
    Missing,
    Not,
    condition_of,
)
from choreo.core.errors import DeclarationError
from choreo.core.fields import KINDS, ORDERED, FieldType, kind_of, stored
from choreo.core.signatures import EventClass
from choreo.core.wording import did_you_mean


def bound(value: object, on: EventClass, where: str) -> AnyCondition | None:
    """Return the condition of a step on this event, with the types of its fields. Raises DeclarationError."""
    if value is None:
        return None
    condition = condition_of(value)
    if condition is None:
        raise DeclarationError(
            f"when={value!r:.60} is no condition",
            where=where,
            remedy='A condition is data: write when=field("amount") > 100, or when=otherwise().',
        )
    return _bound(condition, on, f"{where}, when=")


def field_type(on: EventClass, name: str, where: str) -> FieldType | None:
    """Return the declared type of an event's field; None where the class tells no types. Raises DeclarationError."""
    known = tuple(on.event_fields())
    if name not in known:
        outer = name.partition(".")[0]
        if outer != name and outer in known:
            raise DeclarationError(
                f"{name} lies inside of {on.event_type}.{outer}",
                where=where,
                remedy=f"Only a field of the event itself can be used: add one to {on.event_type} that holds it.",
            )
        raise DeclarationError(
            f"{on.event_type} has no field {name}",
            where=where,
            remedy=f"{did_you_mean(name, known)}Its fields: {', '.join(known)}.",
        )
    typed: Any = getattr(on, "event_field_type", None)
    return typed(name) if typed is not None else None


def _bound(condition: AnyCondition, on: EventClass, where: str) -> AnyCondition:
    match condition:
        case Every(parts) | Either(parts):
            return replace(condition, parts=tuple(_bound(part, on, where) for part in parts))
        case Not(part):
            return Not(_bound(part, on, where))
        case Compare() | Among() | Missing():
            return _typed(condition, on, where)
    return condition


def _typed(leaf: Leaf, on: EventClass, where: str) -> Leaf:
    if leaf.of and leaf.of != on.event_type:
        raise DeclarationError(
            f"compares {leaf.of}.{leaf.field}, and the step is on {on.event_type}",
            where=where,
            remedy=f"Compare a field of {on.event_type}.",
        )
    place = f"{on.event_type}.{leaf.field}"
    declared = field_type(on, leaf.field, where)
    if isinstance(leaf, Missing):
        if declared is not None and not declared.optional:
            raise DeclarationError(
                f"{place} is never None", where=where, remedy="Leave is_none() out, or declare the field `... | None`."
            )
        return Missing(leaf.field, declared or FieldType("text", optional=True))
    values = leaf.values if isinstance(leaf, Among) else (leaf.value,)
    if not values:
        raise DeclarationError(f"{place} is in_() no value", where=where, remedy="Name the values in in_(...).")
    for value in values:
        declared = declared or _guessed(value, place, where)
        _check_value(value, declared, place, where)
    if isinstance(leaf, Among):
        return Among(leaf.field, tuple(stored(value) for value in values), declared)
    if declared is not None and leaf.op not in ("==", "!=") and declared.kind not in ORDERED:
        raise DeclarationError(
            f"{place} {leaf.op} {leaf.value!r}: {KINDS[declared.kind]} has no order",
            where=where,
            remedy="Use == or in_(...), or declare the field as a number, a date or a datetime.",
        )
    return Compare(leaf.field, leaf.op, stored(leaf.value), declared)


def _guessed(value: object, place: str, where: str) -> FieldType:
    """Return the type of a field from a value that it is compared with: its class tells none."""
    kind = kind_of(value)
    if kind is None:
        raise DeclarationError(
            f"{place} is compared with {value!r:.60}, which no field can be",
            where=where,
            remedy="Compare it with a text, a number, True or False, a date, or a datetime with a time zone.",
        )
    return FieldType(kind, optional=True)


def _check_value(value: object, declared: FieldType, place: str, where: str) -> None:
    if kind_of(value) != declared.kind:
        raise DeclarationError(
            f"{place} is compared with {value!r:.60}, and the field is {KINDS[declared.kind]}",
            where=where,
            remedy=f"Compare it with {KINDS[declared.kind]}.",
        )
    if declared.values and stored(value) not in declared.values:
        raise DeclarationError(
            f"{place} is never {stored(value)!r}",
            where=where,
            remedy=f"{did_you_mean(stored(value), map(str, declared.values))}"
            f"Its values: {', '.join(map(str, declared.values))}.",
        )
