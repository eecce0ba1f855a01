"""Fields of events in conditions: their kinds, and values in the one form in which they are compared.

Decoded values and values from JSON become equal here: a Decimal and its text, a datetime and its ISO text, an Enum
and its value. Knows no event class and no payload.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec

Kind: TypeAlias = Literal["text", "number", "truth", "time", "day"]
"""The kind of a field's values; only numbers, times and days have an order."""

Value: TypeAlias = bool | int | float | str
"""A value as it stands in the flow's JSON: a number that is not whole, a time and a day are texts."""

ORDERED: frozenset[Kind] = frozenset({"number", "time", "day"})

KINDS: Mapping[Kind, str] = {
    "text": "a text",
    "number": "a number",
    "truth": "True or False",
    "time": "a datetime with a time zone",
    "day": "a date",
}
"""Each kind in a sentence."""


class FieldType(msgspec.Struct, frozen=True, omit_defaults=True):
    """The declared type of a field, as far as conditions need it."""

    kind: Kind
    optional: bool = False
    values: tuple[str | int, ...] = ()
    """All values that it may have, of a Literal or an Enum; empty where they are not listed."""
    whole: bool = False
    """Whether a number is an int: no value lies between 2 and 3."""


class UnreadableFieldError(ValueError):
    """A field has a value of another kind than its event declares."""


def kind_of(value: object) -> Kind | None:
    """Return the kind of a value that a person wrote in a condition; None of a value that no field can have."""
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, enum.Enum):
        return kind_of(value.value)
    if isinstance(value, int | float | Decimal):
        return "number" if Decimal(value).is_finite() else None
    if isinstance(value, datetime):
        return "time" if value.tzinfo is not None else None
    if isinstance(value, date):
        return "day"
    return "text" if isinstance(value, str | UUID) else None


def stored(value: object) -> Value:
    """Return a person's value as it stands in JSON; its kind must be known."""
    if isinstance(value, enum.Enum):
        return stored(value.value)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return str(Decimal(repr(value)))
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)


def comparable(kind: Kind, value: object) -> Any:
    """Return a value in the form in which values of its kind are compared.

    Raises UnreadableFieldError on a value of another kind.
    """
    if isinstance(value, enum.Enum):
        value = value.value
    try:
        found = _READ[kind](value)
    except (ValueError, InvalidOperation, OverflowError):
        found = None
    if found is None:
        message = f"{value!r:.60} is not {KINDS[kind]}"
        raise UnreadableFieldError(message)
    return found


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str | UUID) else None


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    number = Decimal(repr(value) if isinstance(value, float) else value)
    return number if number.is_finite() else None


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _time(value: object) -> datetime | None:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _day(value: object) -> date | None:
    day = date.fromisoformat(value) if isinstance(value, str) else value
    return day if isinstance(day, date) and not isinstance(day, datetime) else None


_READ: Mapping[Kind, Any] = {"text": _text, "number": _number, "truth": _truth, "time": _time, "day": _day}
