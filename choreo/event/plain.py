"""Convert an event object to the plain values that fastavro writes, by a path compiled once per class.

Knows the classes' annotations. An object with more values than its class's fields is refused: they would be dropped in
silence. A class whose fields are all plain costs one look at its own field dict.
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

from choreo.event.exact_text import is_number, is_too_fine
from choreo.event.types import Place, decimal_of, required_of, without_constraints

Plain: TypeAlias = Callable[[Any], Any]

_value_of: Plain = attrgetter("value")


@cache
def plain_of(model: type[BaseModel]) -> Plain:
    """Return the function that converts an object of this class to a mapping of its fields, which is read-only.

    The function raises ValueError or TypeError on an object that holds more than its fields, or a value of another
    kind.
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
    """Refuse values that `model_copy` or `__dict__` has added, and missing ones; a cached property is not a field."""
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
    """Return the conversion of each field that fastavro does not take as it is."""
    return {
        name: conversion
        for name, field in model.model_fields.items()
        if (conversion := _conversion(field.rebuild_annotation())) is not None
    }


def _conversion(annotation: Any) -> Plain | None:
    """Return the conversion of a value of this type for fastavro; None if it needs none."""
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
    """Return the conversion of a decimal to exactly so many places: zeros are added or removed, a digit never is."""
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
    """Refuse an object of a subclass: its further fields would be dropped."""

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
    """Return a time in UTC; raises ValueError without a zone (Avro would take this machine's), or out of range."""
    if moment.tzinfo is None:
        message = f"{moment.isoformat()} has no time zone"
        raise ValueError(message)
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        message = f"{moment.isoformat()} lies outside of the years 1 to 9999 in UTC"
        raise ValueError(message) from error


def filter_text(annotation: Any, text: str) -> str:
    """Return a text as a field of this type shows its value; raises ValueError or TypeError if it is no such value."""
    inner, metadata = without_constraints(required_of(annotation) or annotation)
    if inner in (Decimal, float, int) and not is_number(text):
        message = f"{text!r:.60} is no number"
        raise ValueError(message)
    if inner is datetime and is_too_fine(text):
        message = f"{text!r:.60} is finer than microseconds"
        raise ValueError(message)
    if inner is Decimal:
        return str(decimal_conversion(*decimal_of(metadata, Place("", "")))(Decimal(text)))
    if inner is datetime:
        return str(TypeAdapter(datetime).dump_python(in_utc(datetime.fromisoformat(text)), mode="json"))
    if inner is float:
        return str(float(text))
    if inner is int:
        return str(int(text))
    return str(UUID(text)) if inner is UUID else text
