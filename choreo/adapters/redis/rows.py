"""Where a flow's views lie in Redis, and how: names of keys, ids of rows, cursors, values.

Below a flow's root: `rows` (row → view) and `states` (key → fold), hashes; `positions` (partition → offset); `all`,
`status:<s>`, `attribute:<a>`, `runs:<key>`, sets of rows by start; `history:<key>`, offsets. A root ends with the
number of its generation: dropping is counting on, and what has been dropped is swept away after.
"""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

import msgspec

from choreo.core.errors import NotFoundError, StorageError
from choreo.ports.read_model import Filter, InstanceView

PLAIN_BYTES = 100
"""A longer attribute is named in its index by a digest: what a row holds decides, its index only narrows."""

_encode = msgspec.msgpack.Encoder().encode
_view = msgspec.msgpack.Decoder(InstanceView).decode
_fold = msgspec.msgpack.Decoder(tuple[bytes, dict[str, dict[str, str]]]).decode
_cursor = msgspec.msgpack.Decoder(tuple[int, bytes, bytes]).decode


class Place(NamedTuple):
    """A row's place in a list; lists go from the highest to the lowest, as Redis orders a set of equal scores."""

    started_ms: int
    row: bytes
    flow: bytes


FIRST = Place(1 << 62, b"", b"")
"""Before every row."""


def row_id(key: str, run: str) -> str:
    """The row of this run; with the key's length, so that no two runs share one."""
    return f"{len(key)}:{key}:{run}"


def attribute_index(name: str, value: str) -> str:
    """The index of the rows with this attribute, below the flow's root."""
    text = f"{len(name)}:{name}={value}"
    data = text.encode()
    return f"attribute:{text}" if len(data) <= PLAIN_BYTES else f"attribute:{hashlib.blake2b(data).hexdigest()}"


def cursor_after(place: Place) -> str:
    """The cursor of a page that ended here."""
    return base64.urlsafe_b64encode(_encode(place)).decode()


def place_of(cursor: str) -> Place:
    """Where the page before ended; raises NotFoundError on a cursor that is not one of ours."""
    if not cursor:
        return FIRST
    try:
        return Place(*_cursor(base64.b64decode(cursor, altchars=b"-_", validate=True)))
    except (ValueError, msgspec.MsgspecError) as error:
        raise NotFoundError(
            f"{cursor!r} is not a cursor of this list",
            where="cursor",
            remedy="Pass the cursor of the page before as it was given, or none to begin with the newest.",
        ) from error


def fits(view: InstanceView, wanted: Filter) -> bool:
    """Whether the filter lets this row through; the flow is given by where the row lies."""
    return (
        wanted.status in ("", view.status)
        and wanted.key in ("", view.key)
        and view.started_ms >= wanted.started_from_ms
        and (not wanted.started_before_ms or view.started_ms < wanted.started_before_ms)
        and all(view.attributes.get(name) == value for name, value in wanted.attributes.items())
    )


def bytes_of_view(view: InstanceView) -> bytes:
    """A row's value."""
    return _encode(view)


def view_of(data: bytes) -> InstanceView:
    """The view in a row's value; raises StorageError."""
    try:
        return _view(data)
    except msgspec.MsgspecError as error:
        raise _unreadable("row", error) from error


def bytes_of_fold(state: bytes, attributes: object) -> bytes:
    """What is kept of a key."""
    return _encode((state, attributes))


def fold_of(data: bytes) -> tuple[bytes, dict[str, dict[str, str]]]:
    """The state and the attributes in what is kept of a key; raises StorageError."""
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
