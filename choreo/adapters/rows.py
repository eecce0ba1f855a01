"""Rows of a read model beside the log: their ids, their values, their places in lists, cursors, filters.

A list goes from the newest start to the oldest, and from the highest row id to the lowest within a millisecond: the
order stays the same over a rebuild. Knows no store.
"""

from __future__ import annotations

import base64
import hashlib
import operator
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from choreo.adapters.cursors import not_a_cursor
from choreo.core.errors import StorageError
from choreo.ports.read_model import Condition, Filter, InstanceView

PLAIN_BYTES = 100
"""An index has a digest in place of a longer attribute: the row itself decides, its index only narrows."""

_encode = msgspec.msgpack.Encoder().encode
_view = msgspec.msgpack.Decoder(InstanceView).decode
_fold = msgspec.msgpack.Decoder(tuple[bytes, dict[str, dict[str, str]]]).decode
_cursor = msgspec.msgpack.Decoder(tuple[int, bytes, bytes]).decode


class Place(NamedTuple):
    """The place of a row in a list; lists go from the highest place to the lowest."""

    started_ms: int
    row: bytes
    flow: bytes


FIRST = Place(1 << 62, b"", b"")
"""Before every row."""


BEFORE_ALL = Place(0, b"", b"")
"""Before every row of a list by due times."""


def row_id(key: str, run: str) -> str:
    """Return the id of this run's row; with the key's length, so that no two runs share one."""
    return f"{len(key)}:{key}:{run}"


def attribute_index(name: str, value: str) -> str:
    """Return the name of the index of the rows with this attribute."""
    text = f"{len(name)}:{name}={value}"
    data = text.encode()
    return f"attribute:{text}" if len(data) <= PLAIN_BYTES else f"attribute:{hashlib.blake2b(data).hexdigest()}"


def cursor_after(place: Place) -> str:
    """Return the cursor of a page that ended at this place."""
    return base64.urlsafe_b64encode(_encode(place)).decode()


def place_of(cursor: str) -> Place:
    """Return the place at which the page before ended; raises NotFoundError on a cursor that no list has issued."""
    if not cursor:
        return FIRST
    try:
        return Place(*_cursor(base64.b64decode(cursor, altchars=b"-_", validate=True)))
    except (ValueError, msgspec.MsgspecError) as error:
        raise not_a_cursor(cursor) from error


def due_place_of(cursor: str) -> Place:
    """Return the place in a list by due times, earliest first; raises NotFoundError on a cursor of no such list."""
    return place_of(cursor) if cursor else BEFORE_ALL


def fits(view: InstanceView, wanted: Filter) -> bool:
    """Return whether the view matches the filter."""
    return (
        wanted.flow in ("", view.flow)
        and wanted.status in ("", view.status)
        and wanted.key in ("", view.key)
        and view.started_ms >= wanted.started_from_ms
        and (not wanted.started_before_ms or view.started_ms < wanted.started_before_ms)
        and all(view.attributes.get(name) == value for name, value in wanted.attributes.items())
        and all(holds(view.keys.get(condition.name), condition) for condition in wanted.conditions)
    )


def holds(key: str | None, condition: Condition) -> bool:
    """Return whether a run's key of an attribute meets a condition."""
    if key is None:
        return False
    if condition.operator == "^=":
        return key.startswith(condition.key)
    return _COMPARE[condition.operator](key, condition.key)


_COMPARE: Mapping[str, Callable[[str, str], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def after_prefix(prefix: str) -> str:
    """Return the first text behind all that begin with this prefix, in the order of UTF-8; "" if there is none."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return ""
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)  # 0xD800 to 0xDFFF are no characters


def bytes_of_view(view: InstanceView) -> bytes:
    """Return the value of a row."""
    return _encode(view)


def view_of(data: bytes) -> InstanceView:
    """Return the view in a row's value; raises StorageError."""
    try:
        return _view(data)
    except msgspec.MsgspecError as error:
        raise _unreadable("row", error) from error


def bytes_of_fold(state: bytes, attributes: object) -> bytes:
    """Return the stored value of a key."""
    return _encode((state, attributes))


def fold_of(data: bytes) -> tuple[bytes, dict[str, dict[str, str]]]:
    """Return state and attributes from the stored value of a key; raises StorageError."""
    try:
        return _fold(data)
    except msgspec.MsgspecError as error:
        raise _unreadable("state", error) from error


def _unreadable(what: str, error: Exception) -> StorageError:
    return StorageError(
        f"a {what} cannot be read: {error}",
        where="read model",
        remedy="Rebuild it from the log with `choreo projections rebuild`.",
    )
