"""JSON at the doors, in both directions without loss: a number keeps its digits, a name stands once, nothing is NaN."""

from __future__ import annotations

import base64
import enum
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

_encode = msgspec.json.Encoder(decimal_format="number").encode
_LONG_MAX = 2**63 - 1


def read(text: bytes | str) -> Any:
    """Return the value in a JSON text, numbers with a fraction as Decimal; raises ValueError on what it cannot be."""
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        return json.loads(decoded, parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_object)
    except RecursionError as error:
        message = "it is nested too deeply"
        raise ValueError(message) from error


def written(value: Any) -> bytes:
    """Return a value of Python as JSON; raises ValueError or TypeError on what JSON cannot hold exactly."""
    try:
        return _encode(_plain(value))
    except RecursionError as error:
        message = "it is nested too deeply"
        raise ValueError(message) from error


def _plain(value: Any) -> Any:
    """The value with what JSON has no type for as the text that an event's class reads."""
    if value is None or type(value) in (bool, str):
        return value
    for kinds, plain in _FORMS:
        if isinstance(value, kinds):
            return plain(value)
    if hasattr(value, "model_dump"):
        return _plain(dict(value))
    message = f"a {type(value).__name__} has no form in JSON"
    raise TypeError(message)


def _number(value: Any) -> Any:
    if not math.isfinite(value):
        message = f"{value} is no number of JSON"
        raise ValueError(message)
    return Decimal(value) if isinstance(value, int) and abs(value) > _LONG_MAX else value


# The first that fits rules: a member of an enum may be a text or a number, too.
_FORMS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (enum.Enum, lambda member: _plain(member.value)),
    (str, str.__str__),
    ((int, float, Decimal), _number),
    (Mapping, lambda fields: {name: _plain(each) for name, each in fields.items()}),
    ((list, tuple), lambda values: [_plain(each) for each in values]),
    ((datetime, date), lambda moment: moment.isoformat()),
    (UUID, str),
    (bytes, lambda data: base64.urlsafe_b64encode(data).decode()),
)


def _no_number(text: str) -> Any:
    message = f"{text} is no number of JSON"
    raise ValueError(message)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of two values under one name only one could be kept, and nobody said which."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        message = f"{twice!r:.100} is given twice"
        raise ValueError(message)
    return fields
