"""JSON of REST and CLI, read and written without loss: a number keeps its digits, no name is repeated, no NaN."""

from __future__ import annotations

import base64
import enum
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import msgspec

_encode = msgspec.json.Encoder(decimal_format="number").encode
_LONG_MAX = 2**63 - 1
_DIGITS_MAX = 4_300
"""Python's own limit of texts that become whole numbers (sys.set_int_max_str_digits)."""


def read(text: bytes | str) -> Any:
    """Return the value in a JSON text, numbers with a fraction as Decimal; raises ValueError on invalid JSON."""
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        return json.loads(
            decoded, parse_float=_fraction, parse_int=_whole, parse_constant=_no_number, object_pairs_hook=_object
        )
    except RecursionError as error:
        message = "it is nested too deeply"
        raise ValueError(message) from error


def written(value: Any) -> bytes:
    """Return a value of Python as JSON; raises ValueError or TypeError on one that JSON cannot hold exactly."""
    try:
        return _encode(_plain(value))
    except RecursionError as error:
        message = "it is nested too deeply"
        raise ValueError(message) from error


def _plain(value: Any) -> Any:
    """Return the value; a type that JSON lacks becomes the text that an event's class reads."""
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
    if not isinstance(value, int) and not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
        message = f"{value} is no number of JSON"
        raise ValueError(message)
    return Decimal(value) if isinstance(value, int) and abs(value) > _LONG_MAX else value


# The first that matches decides: a member of an enum may also be a text or a number.
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


def _whole(text: str) -> int:
    """Return a whole number; raises ValueError on one that is too long for Python's limit."""
    if len(text) > _DIGITS_MAX:
        message = f"a whole number of {len(text):,} digits is too large"
        raise ValueError(message)
    return int(text)


def _fraction(text: str) -> Decimal:
    """Return a number with a fraction or an exponent; raises ValueError on an exponent that no Decimal has."""
    try:
        return Decimal(text)
    except InvalidOperation as error:
        message = f"{text:.60} is too large"
        raise ValueError(message) from error


def _no_number(text: str) -> Any:
    message = f"{text} is no number of JSON"
    raise ValueError(message)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; raises ValueError on a repeated name, of which only one value could be kept."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        message = f"{twice!r:.100} is given twice"
        raise ValueError(message)
    return fields
