"""The tracker's states as rows, with an index over those that have a timer and one over those with something unsaid."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from choreo.adapters.sqlite.bulk import Bulk
from choreo.adapters.sqlite.database import Database
from choreo.adapters.sqlite.writer import Writer
from choreo.ports.state import StateRow

_COLUMNS = "topic, partition, key, position, state, due_ms, unsaid"
_STATES = Bulk(
    f"states ({_COLUMNS})",
    """ON CONFLICT (topic, partition, key) DO UPDATE
    SET position = excluded.position, state = excluded.state, due_ms = excluded.due_ms, unsaid = excluded.unsaid""",
)
_SELECT = f"SELECT {_COLUMNS} FROM states WHERE topic = ? AND partition = ?"  # noqa: S608 -- our own names

# Rows read at a time by a scan: about 3 ms in which nothing else runs.
_SCAN = 1_000


class SqliteStates:
    """`choreo.ports.state.StateStore` in a file. Everything raises StorageError when the file cannot be used."""

    def __init__(self, database: Database, writer: Writer, rewind: Callable[[str], None]) -> None:
        self._database = database
        self._writer = writer
        self._rewind = rewind

    def write(self, rows: Sequence[StateRow]) -> None:
        """Inside a transaction: write the rows."""
        values = [(r.topic, r.partition, r.key, r.position, r.state, r.due_ms, r.unsaid) for r in rows]
        _STATES.write(self._database.connection, values)

    async def load(self, topic: str, partition: int, keys: Sequence[str]) -> dict[str, StateRow]:
        """The rows of these keys."""
        listed = msgspec.json.encode(list(keys)).decode()
        sql = f"{_SELECT} AND key IN (SELECT value FROM json_each(?))"  # noqa: S608 -- our own words
        return {row.key: row for row in self._rows(sql, topic, partition, listed)}

    async def due(self, topic: str, partition: int, now_ms: int, limit: int) -> list[StateRow]:
        """Rows whose timer is set and not after now, earliest first."""
        sql = f"{_SELECT} AND due_ms > 0 AND due_ms <= ? ORDER BY due_ms, key LIMIT ?"
        return self._rows(sql, topic, partition, now_ms, limit)

    async def next_due(self, topic: str, partition: int) -> int:
        """The earliest timer, 0 if there is none."""
        sql = "SELECT min(due_ms) FROM states WHERE topic = ? AND partition = ? AND due_ms > 0"
        return self._database.query(sql, (topic, partition))[0][0] or 0

    async def scan(self, topic: str, partition: int, *, unsaid_only: bool = False) -> AsyncIterator[StateRow]:
        """Every row of the partition by key; what is written meanwhile may be in it or not."""
        sql = f"{_SELECT} AND key > ? {'AND unsaid' if unsaid_only else ''} ORDER BY key LIMIT {_SCAN}"
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
        rows: list[list[Any]] = [[*plain, unsaid == 1] for *plain, unsaid in self._database.query(sql, values)]
        return [StateRow(*row) for row in rows]
