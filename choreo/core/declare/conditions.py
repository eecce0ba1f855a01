"""Conditions in a declaration: each comparison gets its field's declared type, and is checked against it."""

from __future__ import annotations

from typing import Any, NamedTuple

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


class Subject(NamedTuple):
    """The events on which a condition is judged: one, any of several, or several `together`."""

    classes: tuple[EventClass, ...]
    together: bool = False

    @property
    def shown(self) -> str:
        """Return the events by name."""
        names = [cls.event_type for cls in self.classes]
        return f"all of {', '.join(names)}" if self.together else " or ".join(names)


def bound(value: object, on: Subject, where: str) -> AnyCondition | None:
    """Return the condition of a step on these events, with the types of its fields. Raises DeclarationError."""
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


def require_moment(on: EventClass, name: str, where: str) -> None:
    """Check that an event's field always holds a moment. Raises DeclarationError."""
    if not isinstance(name, str):
        raise DeclarationError(
            f"{name!r:.60} is no name of a field", where=where, remedy='Name it as a text: at="renews_at".'
        )
    declared = field_type(on, name, where)
    if declared is not None and (declared.kind != "time" or declared.optional):
        may_be = "may be None" if declared.kind == "time" else f"is {KINDS[declared.kind]}"
        raise DeclarationError(
            f"{on.event_type}.{name} {may_be}, and a timer needs a moment",
            where=where,
            remedy="Declare the field as datetime, or give after= with a duration.",
        )


def _bound(condition: AnyCondition, on: Subject, where: str) -> AnyCondition:
    match condition:
        case Every(parts) | Either(parts):
            return replace(condition, parts=tuple(_bound(part, on, where) for part in parts))
        case Not(part):
            return Not(_bound(part, on, where))
        case Compare() | Among() | Missing():
            return _typed(condition, on, where)
    return condition


class _Field(NamedTuple):
    """The field of a comparison: its place in sentences, its declared type, and its event type among several."""

    place: str
    declared: FieldType | None
    of: str


def _field_of(leaf: Leaf, on: Subject, where: str) -> _Field:
    """Find the field among the events of the step. Raises DeclarationError where it is not clear whose it is."""
    if leaf.of and leaf.of not in [cls.event_type for cls in on.classes]:
        raise DeclarationError(
            f"compares {leaf.of}.{leaf.field}, and the step is on {on.shown}",
            where=where,
            remedy=f"Compare a field of {on.shown}.",
        )
    if leaf.of or len(on.classes) == 1:
        having = [cls for cls in on.classes if leaf.of in ("", cls.event_type)]
    else:
        having = _having(leaf.field, on, where)
    named = len(on.classes) > 1 and (bool(leaf.of) or on.together)
    declared = _common([field_type(cls, leaf.field, where) for cls in having], leaf.field, on, where)
    if named and declared is not None and not on.together:
        declared = replace(declared, optional=True)
    type_ = having[0].event_type
    return _Field(f"{type_}.{leaf.field}", declared, type_ if named else "")


def _having(name: str, on: Subject, where: str) -> list[EventClass]:
    """Return the event of a join that has the field, or any of several, which all have it."""
    having = [cls for cls in on.classes if name in cls.event_fields()]
    if not having:
        known = dict.fromkeys(each for cls in on.classes for each in cls.event_fields())
        remedy = f"{did_you_mean(name, known)}Their fields: {', '.join(known)}."
        names = ", ".join(cls.event_type for cls in on.classes)
        raise DeclarationError(f"none of {names} has a field {name}", where=where, remedy=remedy)
    if on.together and len(having) > 1:
        names = " and ".join(cls.event_type for cls in having)
        remedy = f'Say which one is meant: field({having[0].event_type}, "{name}").'
        raise DeclarationError(f"{names} have a field {name}", where=where, remedy=remedy)
    if not on.together and len(having) < len(on.classes):
        lacking = next(cls for cls in on.classes if cls not in having)
        raise DeclarationError(
            f"{lacking.event_type} has no field {name}, and the step is on {on.shown}",
            where=where,
            remedy=f'Write field({having[0].event_type}, "{name}"): it is None in the others.',
        )
    return having


def _common(types: list[FieldType | None], name: str, on: Subject, where: str) -> FieldType | None:
    """Return the type that holds a field's values in each of several events."""
    declared = [each for each in types if each is not None]
    if len(declared) < len(types):
        return None
    if len({each.kind for each in declared}) > 1:
        raise DeclarationError(
            f"{name} is {' or '.join(dict.fromkeys(KINDS[each.kind] for each in declared))} in {on.shown}",
            where=where,
            remedy=f'Declare it alike in each, or compare field({on.classes[0].event_type}, "{name}").',
        )
    listed = all(each.values for each in declared)
    return FieldType(
        declared[0].kind,
        optional=any(each.optional for each in declared),
        values=tuple(dict.fromkeys(value for each in declared for value in each.values)) if listed else (),
        whole=all(each.whole for each in declared),
    )


def _typed(leaf: Leaf, on: Subject, where: str) -> Leaf:
    place, declared, of = _field_of(leaf, on, where)
    if isinstance(leaf, Missing):
        if declared is not None and not declared.optional:
            raise DeclarationError(
                f"{place} is never None", where=where, remedy="Leave is_none() out, or declare the field `... | None`."
            )
        return Missing(leaf.field, declared or FieldType("text", optional=True), of)
    values = leaf.values if isinstance(leaf, Among) else (leaf.value,)
    if not values:
        raise DeclarationError(f"{place} is in_() no value", where=where, remedy="Name the values in in_(...).")
    for value in values:
        declared = declared or _guessed(value, place, where)
        _check_value(value, declared, place, where)
    if isinstance(leaf, Among):
        return Among(leaf.field, tuple(stored(value) for value in values), declared, of)
    if declared is not None and leaf.op not in ("==", "!=") and declared.kind not in ORDERED:
        raise DeclarationError(
            f"{place} {leaf.op} {leaf.value!r}: {KINDS[declared.kind]} has no order",
            where=where,
            remedy="Use == or in_(...), or declare the field as a number, a date or a datetime.",
        )
    return Compare(leaf.field, leaf.op, stored(leaf.value), declared, of)


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
