"""An event object as the plain values fastavro writes, by a path compiled once per class.

Knows the classes' annotations. What an object holds beyond its class's fields would be dropped in silence, so it is
refused. A class whose fields are all plain costs one look at its own field dict.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import cache, cached_property
from operator import attrgetter
from typing import Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from choreo.adapters.avro.types import Place, decimal_of, required_of, without_constraints

Plain: TypeAlias = Callable[[Any], Any]

_value_of: Plain = attrgetter("value")


@cache
def plain_of(model: type[BaseModel]) -> Plain:
    """How an object of this class becomes a mapping of its fields; the mapping is to be read, not changed.

    Raises ValueError or TypeError on an object that holds more than its fields, or another kind of value.
    """
    conversions, count = conversions_of(model), len(model.model_fields)

    def fields(part: Any) -> Any:
        values = part.__dict__
        if len(values) != count:
            _refuse_extra(model, values)
        return values

    if not conversions:
        return fields

    def converted(part: Any) -> dict[str, Any]:
        values = dict(fields(part))
        for name, conversion in conversions.items():
            values[name] = conversion(values[name])
        return values

    return converted


def _refuse_extra(model: type[BaseModel], values: Mapping[str, Any]) -> None:
    """Refuse what `model_copy` or `__dict__` has added, or lacks; a cached property is no field."""
    for name in values:
        if name not in model.model_fields and not isinstance(getattr(model, name, None), cached_property):
            message = f"{model.__name__} has no field {name!r}"
            raise ValueError(message)
    for name in model.model_fields:
        if name not in values:
            message = f"{model.__name__} lacks its field {name!r}"
            raise ValueError(message)


@cache
def conversions_of(model: type[BaseModel]) -> dict[str, Plain]:
    """What each field needs before fastavro takes it, for those that need anything."""
    return {
        name: conversion
        for name, field in model.model_fields.items()
        if (conversion := _conversion(field.rebuild_annotation())) is not None
    }


def _conversion(annotation: Any) -> Plain | None:
    """What a value of this type needs before fastavro takes it; None for nothing."""
    required = required_of(annotation)
    if required is not None:
        return _unless_none(_conversion(required))
    inner, metadata = without_constraints(annotation)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if origin in (list, dict):
        return (_each_item if origin is list else _each_value)(_conversion(arguments[-1]))
    if inner is Decimal:
        return decimal_conversion(*decimal_of(metadata, Place("", "")))
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return _exactly(inner, plain_of(inner))
    if isinstance(inner, type) and issubclass(inner, enum.Enum):
        return _value_of
    return in_utc if inner is datetime else None


def decimal_conversion(digits: int, places: int) -> Plain:
    """Give a decimal exactly so many places: zeros come or go, a digit never does."""
    unit = Decimal(1).scaleb(-places)
    context = Context(prec=digits, traps=[Inexact, InvalidOperation])

    def exact(value: Any) -> Decimal:
        if not isinstance(value, Decimal):
            if isinstance(value, bool) or not isinstance(value, int):
                message = f"{type(value).__name__} is no Decimal"
                raise TypeError(message)
            value = Decimal(value)
        number: Decimal = value
        try:
            return number.quantize(unit, context=context)
        except Inexact:
            message = f"{value} has more than {places} digits behind the point"
        except InvalidOperation:
            message = f"{value} has more than {digits} digits, {places} of them behind the point"
        raise ValueError(message)

    return exact


def _exactly(model: type[BaseModel], conversion: Plain) -> Plain:
    """Refuse an object of a subclass, whose further fields would be dropped."""

    def checked(part: Any) -> Any:
        if type(part) is not model:
            message = f"it is a {type(part).__name__}, not a {model.__name__}"
            raise TypeError(message)
        return conversion(part)

    return checked


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


def in_utc(moment: datetime) -> datetime:
    """Return a moment in UTC; raises ValueError without a zone (Avro would take this machine's), or out of range."""
    if moment.tzinfo is None:
        message = f"{moment.isoformat()} has no time zone"
        raise ValueError(message)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        message = f"{moment.isoformat()} lies outside of the years 1 to 9999 in UTC"
        raise ValueError(message) from error


def filter_text(annotation: Any, text: str) -> str:
    """Return a text as a field of this type shows its value; raises ValueError or TypeError where it is none of it."""
    inner, metadata = without_constraints(required_of(annotation) or annotation)
    if inner is Decimal:
        return str(decimal_conversion(*decimal_of(metadata, Place("", "")))(Decimal(text)))
    if inner is datetime:
        return str(TypeAdapter(datetime).dump_python(in_utc(datetime.fromisoformat(text)), mode="json"))
    if inner is float:
        return str(float(text))
    if inner is int:
        return str(int(text))
    return str(UUID(text)) if inner is UUID else text
