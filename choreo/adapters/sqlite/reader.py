"""A second connection, which only reads, in a thread of its own: a long read does not block the event loop.

Not for short reads: changing the thread costs more than they do. Knows no table.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from choreo.adapters.sqlite.database import Database

_WAIT_S = 10.0
"""How long a read waits for the process that recovers the file after another was killed."""
_SETTINGS = ("query_only = ON", "temp_store = MEMORY", "cache_size = -16384")


class Reader:
    """Opens when it is first used. One read at a time: the next one waits."""

    def __init__(self, database: Database) -> None:
        """Use the path of `database`, and its explanation of errors."""
        self._database = database
        self._thread: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    async def query(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """Return all rows of a reading statement over all earlier commits; raises StorageError."""
        self._database.refuse_read()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "choreo-read")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._rows, sql, values)
        except sqlite3.Error as error:
            raise self._database.explained(error) from error

    async def close(self) -> None:
        """Close the connection, once the read under way is over."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            await asyncio.get_running_loop().run_in_executor(thread, self._close)
            thread.shutdown()

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        if self._connection is None:
            connection = sqlite3.connect(
                f"{self._database.path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_WAIT_S
            )
            for setting in _SETTINGS:
                connection.execute(f"PRAGMA {setting}")
            self._connection = connection
        return self._connection.execute(sql, values).fetchall()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
