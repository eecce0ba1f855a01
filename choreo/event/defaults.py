"""Decide if a field's default is part of the contract, and write it as Avro's JSON.

A default that is made anew for each event (`default_factory=uuid4`) is not part of it: two readers would fill in two
values, so for Avro such a field has no default. The producer fills it in, and the written value contains it.
"""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from choreo.event.plain import decimal_conversion, in_utc
from choreo.event.types import Place, decimal_of, required_of, without_constraints

_ALWAYS_THE_SAME: frozenset[Any] = frozenset({list, dict, str, int, float, bool, bytes})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONG_MAX = 2**63 - 1


def has_default(field: FieldInfo) -> bool:
    """Return whether a reader may fill the field in: it has a default, and the same one each time."""
    return not field.is_required() and not made_each_time(field)


def made_each_time(field: FieldInfo) -> bool:
    """Return whether the field's default is made anew for each event."""
    factory = field.default_factory
    if factory is None or factory in _ALWAYS_THE_SAME:
        return False
    if isinstance(factory, type) and issubclass(factory, BaseModel):
        return any(made_each_time(inner) for inner in factory.model_fields.values())
    return True


def null_first(field: FieldInfo) -> bool:
    """Return whether the union of an optional field begins with null.

    Avro reads a default as a value of the first branch.
    """
    optional = required_of(field.rebuild_annotation()) is not None
    return optional and has_default(field) and field.get_default(call_default_factory=True) is None


def default_json(value: Any, annotation: Any) -> Any:
    """Return a value as Avro's JSON writes a default; raises ValueError or TypeError if it is not of the type."""
    inner, metadata = without_constraints(annotation)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if origin is list:
        return [_branch(each, arguments[0], begins_with_null=False) for each in _is_a(list, value)]
    if origin is dict:
        items = _is_a(dict, value).items()
        return {_text(_is_a(str, key)): _branch(each, arguments[1], begins_with_null=False) for key, each in items}
    if inner is Decimal:
        sign, digits, _ = decimal_conversion(*decimal_of(metadata, Place("", "")))(value).as_tuple()
        unscaled = int("".join(map(str, digits))) * (-1 if sign else 1)  # no arithmetic of Decimal, which rounds
        return unscaled.to_bytes((unscaled + (unscaled < 0)).bit_length() // 8 + 1, "big", signed=True).decode(
            "latin-1"
        )
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return {
            name: _branch(getattr(_is_a(inner, value), name), field.rebuild_annotation(), null_first(field))
            for name, field in inner.model_fields.items()
        }
    return _plain(inner, origin, value)


def _branch(value: Any, annotation: Any, begins_with_null: bool) -> Any:  # noqa: FBT001
    """Return a value inside a default; where it may be null, it must be of the first branch."""
    required = required_of(annotation)
    if required is None:
        return default_json(value, annotation)
    if (value is None) != begins_with_null:
        message = "Avro cannot write this optional value inside of a default"
        raise ValueError(message)
    return None if value is None else default_json(value, required)


def _plain(inner: Any, origin: Any, value: Any) -> Any:
    """Return a default that is not a container."""
    if origin is typing.Literal:
        return value
    if isinstance(inner, type) and issubclass(inner, enum.Enum):
        return _is_a(inner, value).value
    if inner is float:
        return float(_is_a((int, float), value))
    if inner is int and abs(_is_a(int, value)) > _LONG_MAX:
        message = "a whole number has at most 63 bits"
        raise ValueError(message)
    return _WRITTEN.get(inner, _same)(_is_a(inner, value))


def _is_a(kinds: Any, value: Any) -> Any:
    """Return the value; raises TypeError if it is of another class. True is not a number here."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        message = f"it is of type {type(value).__name__}"
        raise TypeError(message)
    return value


def _text(value: str) -> str:
    """Return a text; raises UnicodeEncodeError where it holds half a surrogate pair."""
    value.encode()
    return value


def _same(value: Any) -> Any:
    return value


_WRITTEN: dict[Any, Callable[[Any], Any]] = {
    str: _text,
    bytes: lambda value: value.decode("latin-1"),
    UUID: str,
    date: lambda value: (value - _EPOCH.date()).days,
    datetime: lambda value: (in_utc(value) - _EPOCH) // timedelta(microseconds=1),
}
