"""Search attributes: their declaration as data, and keys by which every store compares their values.

A key is a text whose order by bytes is the order of the values: numbers exactly, times as instants. A store compares
keys alone and needs to know no kinds.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from choreo.core.fields import Kind

AttributeKind: TypeAlias = Literal["text", "number", "time"]

KIND_OF: Final[Mapping[Kind, AttributeKind]] = {
    "text": "text",
    "truth": "text",
    "number": "number",
    "time": "time",
    "day": "time",
}
"""The kind of a search attribute, by that of the field it comes from."""

KINDS_SHOWN: Final[Mapping[AttributeKind, str]] = {
    "text": "a text",
    "number": "a number, such as 12.50",
    "time": "a time, such as 2026-01-31T12:00:00Z or 2026-01-31",
}
"""Each kind in a sentence, with an example."""

OPERATORS: Final[Mapping[AttributeKind, tuple[str, ...]]] = {
    "text": ("=", "^="),
    "number": ("=", "<", "<=", ">", ">="),
    "time": ("=", "<", "<=", ">", ">="),
}
"""The comparisons of each kind; `^=` is "begins with"."""

RESERVED: Final = frozenset(
    {
        "before",
        "cause",
        "changed",
        "cursor",
        "flow",
        "key",
        "limit",
        "outcome",
        "partition",
        "position",
        "run",
        "since",
        "started",
        "started_before",
        "started_from",
        "status",
    }
)
"""Names that a list has for its own filters and columns."""

OUTCOME: Final = "outcome"
"""The attribute that completed runs have by themselves, of a flow that may complete in several ways."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,6})?\Z", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_TOO_FINE = re.compile(r"[.,]\d{7}")
_EXPONENT_OFFSET = 5 * 10**18
"""Added to a Decimal's exponent, which has at most 18 digits: no key has a sign in it."""
_COMPLEMENT = str.maketrans("0123456789", "9876543210")
_FIRST_MOMENT = datetime(1, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MOMENTS = (datetime.max.replace(tzinfo=UTC) - _FIRST_MOMENT) // _MICROSECOND + 1


class AttributeSource(msgspec.Struct, frozen=True):
    """An event that sets an attribute, and the field with the value."""

    type: str
    field: str


class AttributeDefinition(msgspec.Struct, frozen=True):
    """A search attribute of a flow's runs: the newest event of `sources` in log order sets it."""

    name: str
    kind: AttributeKind
    sources: tuple[AttributeSource, ...]


def shown(value: object) -> str:
    """Return a field's value as the read model holds and shows it, exactly."""
    if isinstance(value, enum.Enum):
        return shown(value.value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str | int | float | Decimal | UUID):
        return str(value)
    message = f"{type(value).__name__} is no value of a search attribute"
    raise TypeError(message)


def key_of(kind: AttributeKind, text: str) -> str:
    """Return the key of a value from its text; raises ValueError on a text of another kind."""
    try:
        return _KEYS[kind](text)
    except (ValueError, InvalidOperation, OverflowError) as error:
        message = f"{text!r:.80} is not {KINDS_SHOWN[kind]}"
        raise ValueError(message) from error


def _number_key(text: str) -> str:
    """Return the key of a number: its sign, its exponent and its digits; for a negative one their complements."""
    if not _NUMBER.match(text):
        raise ValueError(text)
    sign, digits, exponent = Decimal(text).as_tuple()
    plain = "".join(map(str, digits)).lstrip("0")
    if not plain:
        return "1"
    assert isinstance(exponent, int)  # noqa: S101 - the pattern lets no infinity and no NaN through
    key = f"{len(plain) + exponent + _EXPONENT_OFFSET:019d}{plain.rstrip('0')}"
    return f"0{key.translate(_COMPLEMENT)}~" if sign else f"2{key}"


def _time_key(text: str) -> str:
    """Return the key of a moment: its microseconds since the year 1 in UTC. A date is its first moment in UTC."""
    moment = datetime.fromisoformat(text)
    if _DATE.match(text):
        moment = moment.replace(tzinfo=UTC)
    if moment.tzinfo is None or _TOO_FINE.search(text):
        raise ValueError(text)
    since = (moment - _FIRST_MOMENT) // _MICROSECOND
    if not 0 <= since < _MOMENTS:
        raise ValueError(text)
    return f"{since:018d}"


def _text_key(text: str) -> str:
    return text


_KEYS: Mapping[AttributeKind, Callable[[str], str]] = {"text": _text_key, "number": _number_key, "time": _time_key}


def keys_of(attributes: tuple[AttributeDefinition, ...], texts: Mapping[str, str]) -> dict[str, str | None]:
    """Return the key of each declared attribute of a run; None where it has no value, or one of another kind."""
    keys: dict[str, str | None] = {}
    for attribute in attributes:
        text = texts.get(attribute.name)
        try:
            keys[attribute.name] = None if text is None else key_of(attribute.kind, text)
        except ValueError:
            keys[attribute.name] = None  # it was declared with another kind when the event was folded
    return keys


class Setter(msgspec.Struct, frozen=True):
    """An attribute that an event sets."""

    name: str
    field: str
    kind: AttributeKind


def setters_of(attributes: tuple[AttributeDefinition, ...]) -> dict[str, tuple[Setter, ...]]:
    """Return event type → the attributes that events of this type set."""
    found: dict[str, tuple[Setter, ...]] = {}
    for attribute in attributes:
        for source in attribute.sources:
            setter = Setter(attribute.name, source.field, attribute.kind)
            found[source.type] = (*found.get(source.type, ()), setter)
    return found


def with_values(texts: Mapping[str, str], setters: tuple[Setter, ...], fields: Mapping[str, Any]) -> Mapping[str, str]:
    """Return a run's attributes after an event with these fields; a field that is None, or missing, clears its own.

    A value that is no plain one leaves its attribute as it was: the event's class has changed since the declaration.
    """
    changed = dict(texts)
    for setter in setters:
        value = fields.get(setter.field)
        if value is None:
            changed.pop(setter.name, None)
        else:
            try:
                changed[setter.name] = shown(value)
            except TypeError:
                continue
    return changed
