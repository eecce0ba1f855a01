"""Cursors of lists with numbered rows, and views as values.

A cursor is the place of a page's last row in the order (start, row number), newest first. A row number never changes,
and new rows sort before old ones: pages neither repeat nor miss a row that existed before.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from choreo.core.errors import NotFoundError
from choreo.ports.read_model import InstanceView

_CURSOR = re.compile(r"(-?\d{1,18})\.(\d{1,18})")

FIRST = (2**62, 2**62)
"""Before every row."""


def cursor_after(started_ms: int, row: int) -> str:
    """Return the cursor of a page that ended with this row."""
    return f"{started_ms}.{row}"


def place_of(cursor: str) -> tuple[int, int]:
    """Return (start in epoch milliseconds, row) of a cursor; raises NotFoundError if no list has issued it."""
    if not cursor:
        return FIRST
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise not_a_cursor(cursor)
    return int(found[1]), int(found[2])


def due_place_of(cursor: str) -> tuple[int, int]:
    """Return (due time, row) of a cursor of a list by due times; raises NotFoundError if no list has issued it."""
    return place_of(cursor) if cursor else (0, 0)


def as_values(view: InstanceView) -> dict[str, Any]:
    """Return a view as plain values that compare by content."""
    return {**msgspec.structs.asdict(view), "attributes": dict(view.attributes), "keys": dict(view.keys)}


def not_a_cursor(cursor: str) -> NotFoundError:
    """Return the error for a cursor that no list has issued."""
    return NotFoundError(
        f"{cursor!r} is not a cursor of this list",
        where="cursor",
        remedy="Pass the cursor of the page before as it was given, or none to begin with the newest.",
    )
