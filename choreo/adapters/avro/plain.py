"""An event object as the plain values fastavro writes, by a path compiled once per class.

Knows the classes' annotations. A class whose fields are all plain costs one attribute access: its own field dict.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, TypeAlias

from choreo.adapters.avro.event import Part
from choreo.adapters.avro.types import optional_of, without_constraints

Plain: TypeAlias = Callable[[Any], Any]

_fields_of: Plain = attrgetter("__dict__")
_value_of: Plain = attrgetter("value")


@cache
def plain_of(model: type[Part]) -> Plain:
    """How an object of this class becomes a mapping of its fields; the mapping is to be read, not changed."""
    conversions = conversions_of(model)
    if not conversions:
        return _fields_of

    def converted(part: Any) -> dict[str, Any]:
        values = dict(part.__dict__)
        for name, conversion in conversions.items():
            values[name] = conversion(values[name])
        return values

    return converted


@cache
def conversions_of(model: type[Part]) -> dict[str, Plain]:
    """What each field needs before fastavro takes it, for those that need anything."""
    return {
        name: conversion
        for name, field in model.model_fields.items()
        if (conversion := _conversion(field.rebuild_annotation())) is not None
    }


def _conversion(annotation: Any) -> Plain | None:
    """What a value of this type needs before fastavro takes it; None for nothing."""
    inner, _ = without_constraints(annotation)
    optional = optional_of(inner)
    if optional is not None:
        return _unless_none(_conversion(optional))
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if origin is list:
        return _each_item(_conversion(arguments[0]))
    if origin is dict:
        return _each_value(_conversion(arguments[1]))
    if isinstance(inner, type) and issubclass(inner, Part):
        return plain_of(inner)
    if isinstance(inner, type) and issubclass(inner, enum.Enum):
        return _value_of
    return _aware if inner is datetime else None


def _unless_none(conversion: Plain | None) -> Plain | None:
    if conversion is None:
        return None
    return lambda value: None if value is None else conversion(value)


def _each_item(conversion: Plain | None) -> Plain | None:
    if conversion is None:
        return None
    return lambda values: [conversion(value) for value in values]


def _each_value(conversion: Plain | None) -> Plain | None:
    if conversion is None:
        return None
    return lambda values: {key: conversion(value) for key, value in values.items()}


def _aware(moment: datetime) -> datetime:
    """Refuse a moment without a zone: Avro would take it for one of this machine's zone."""
    if moment.tzinfo is None:
        message = f"{moment.isoformat()} has no time zone"
        raise ValueError(message)
    return moment
