"""Write many rows with few statements.

Each step of a statement releases the interpreter's lock. With a busy handler thread beside it, getting the lock again
takes up to 5 ms, so 500 rows take 7 steps here and not 500.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from itertools import chain
from typing import Any

# Powers of two, so that any number of rows takes at most 8 different statements, each compiled once.
_SIZES = (128, 64, 32, 16, 8, 4, 2, 1)


class Bulk:
    """`INSERT INTO {into} VALUES …` and a conflict clause; rows have as many values as `into` names columns."""

    def __init__(self, into: str, conflict: str = "") -> None:
        row = f"({', '.join('?' * (into.count(',') + 1))})"
        self._statements = {
            size: f"INSERT INTO {into} VALUES {', '.join([row] * size)} {conflict}"  # noqa: S608 -- our own names
            for size in _SIZES
        }

    def write(self, connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> None:
        """Write the rows in order."""
        rows = list(rows)
        at = 0
        for size in _SIZES:
            while len(rows) - at >= size:
                connection.execute(self._statements[size], list(chain.from_iterable(rows[at : at + size])))
                at += size
