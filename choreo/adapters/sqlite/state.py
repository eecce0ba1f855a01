"""The tracker's states as rows, with an index over the keys that have a timer or an unacknowledged decision."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from choreo.adapters.sqlite.bulk import Bulk
from choreo.adapters.sqlite.database import Database
from choreo.adapters.sqlite.writer import Writer
from choreo.ports.state import PendingKey, StateRow

_COLUMNS = "topic, partition, key, position, state, due_ms, unacknowledged"
_STATES = Bulk(
    f"states ({_COLUMNS})",
    """ON CONFLICT (topic, partition, key) DO UPDATE
    SET position = excluded.position, state = excluded.state, due_ms = excluded.due_ms,
        unacknowledged = excluded.unacknowledged""",
)
_SELECT = f"SELECT {_COLUMNS} FROM states WHERE topic = ? AND partition = ?"  # noqa: S608 -- our own names
_PENDING = """SELECT key, due_ms, unacknowledged FROM states
    WHERE topic = ? AND partition = ? AND key > ? AND (due_ms > 0 OR unacknowledged) ORDER BY key LIMIT ?"""

_SCAN = 1_000
"""Rows that a scan reads at a time: about 3 ms in which nothing else runs."""


class SqliteStates:
    """`choreo.ports.state.StateStore` in a file. Everything raises StorageError when the file cannot be used."""

    def __init__(self, database: Database, writer: Writer, rewind: Callable[[str], None]) -> None:
        self._database = database
        self._writer = writer
        self._rewind = rewind

    def write(self, rows: Sequence[StateRow]) -> None:
        """Write the rows, inside a transaction."""
        values = [(r.topic, r.partition, r.key, r.position, r.state, r.due_ms, r.unacknowledged) for r in rows]
        _STATES.write(self._database.connection, values)

    async def load(self, topic: str, partition: int, keys: Sequence[str]) -> dict[str, StateRow]:
        """Return the rows of these keys."""
        listed = msgspec.json.encode(list(keys)).decode()
        sql = f"{_SELECT} AND key IN (SELECT value FROM json_each(?))"  # noqa: S608 -- our own words
        return {row.key: row for row in self._rows(sql, topic, partition, listed)}

    async def pending(self, topic: str, partition: int) -> AsyncIterator[PendingKey]:
        """Yield the keys with a timer or an unacknowledged decision, from the index alone."""
        last, more = "", True
        while more:
            found = self._database.query(_PENDING, (topic, partition, last, _SCAN))
            for key, due_ms, unacknowledged in found:
                yield PendingKey(key, due_ms, unacknowledged == 1)
                last = key
            more = len(found) == _SCAN

    async def scan(self, topic: str, partition: int) -> AsyncIterator[StateRow]:
        """Yield every row of the partition by key; a row that is written meanwhile may be in it or not."""
        sql = f"{_SELECT} AND key > ? ORDER BY key LIMIT {_SCAN}"
        rows, last = self._rows(sql, topic, partition, ""), ""
        while rows:
            for row in rows:
                yield row
            last = rows[-1].key
            rows = self._rows(sql, topic, partition, last)

    async def drop(self, topic: str) -> None:
        """Forget every state of the topic and set the tracker back to its beginning."""

        def job() -> None:
            self._database.connection.execute("DELETE FROM states WHERE topic = ?", (topic,))
            self._rewind(topic)

        await self._writer.write(job)

    def _rows(self, sql: str, *values: Any) -> list[StateRow]:
        rows: list[list[Any]] = [
            [*plain, unacknowledged == 1] for *plain, unacknowledged in self._database.query(sql, values)
        ]
        return [StateRow(*row) for row in rows]
