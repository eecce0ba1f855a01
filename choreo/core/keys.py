"""The business key as text, as it stands in the message key, for a field of any type that can be a key.

One value has one text, its JSON, so that two events about the same thing belong to one instance.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from choreo.core.errors import DecodeError


def key_text(value: Any) -> str:
    """Return the text of a key; raises TypeError on a value that cannot be a key, such as None or a list."""
    if type(value) is str:
        return value
    for kinds, text in _TEXTS:
        if isinstance(value, kinds):
            return text(value)
    message = f"a {type(value).__name__} is no key"
    raise TypeError(message)


def require_own_key(event: Any, field: str, key: str) -> Any:
    """Return the event of a record with this message key.

    Raises DecodeError where the event's own key field names another: a run would do the work of another one.
    """
    own = getattr(event, field, None)
    if own is not None and own != key and key_text(own) != key:
        raise DecodeError(
            f"it is about {key_text(own)!r:.100}, and its message key is {key!r:.100}",
            where=f"{type(event).event_type}.{field}",
            remedy="Write the event's own key as the message key.",
        )
    return event


def _decimal(value: Decimal) -> str:
    text = format(value, "f") if value else "0"  # not normalize(), which rounds to the context's digits
    return text.rstrip("0").rstrip(".") if "." in text else text


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


# The first rule that fits applies: True is an int, a datetime is a date, and a member of an enum may be a str.
_TEXTS: tuple[tuple[Any, Callable[[Any], str]], ...] = (
    (enum.Enum, lambda member: key_text(member.value)),
    (str, str.__str__),
    (bool, lambda value: "true" if value else "false"),
    (Decimal, _decimal),
    (datetime, _moment),
    (float, lambda value: str(value + 0.0)),  # -0.0 is 0.0
    ((int, UUID), str),
    (date, date.isoformat),
)
KEY_TYPES = (str, bool, int, float, Decimal, datetime, date, UUID)
"""Types of a key field; besides these, an Enum of texts and a Literal."""
