"""The declared type of an event's field, as conditions and search attributes see it."""

from __future__ import annotations

import enum
import typing
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from choreo.core.fields import FieldType, Kind
from choreo.event.types import Place, required_of, shown, without_constraints

_KINDS: dict[Any, Kind] = {
    str: "text",
    UUID: "text",
    int: "number",
    float: "number",
    Decimal: "number",
    bool: "truth",
    datetime: "time",
    date: "day",
}


def field_type_of(annotation: Any, place: Place) -> FieldType:
    """Return the type in an annotation; raises DeclarationError on one that holds more than one plain value."""
    required = required_of(annotation)
    inner, _ = without_constraints(annotation if required is None else required)
    optional = required is not None
    if inner in _KINDS:
        return FieldType(_KINDS[inner], optional, whole=inner is int)
    if typing.get_origin(inner) is typing.Literal:
        values = typing.get_args(inner)
        return FieldType("text" if isinstance(values[0], str) else "number", optional, values)
    if isinstance(inner, type) and issubclass(inner, enum.Enum):
        return FieldType("text", optional, tuple(member.value for member in inner))
    raise place.refuse(
        f"{shown(inner)} cannot be compared",
        "Add a field to the event that holds the one value: a text, a number, a bool, a date or a datetime",
    )
