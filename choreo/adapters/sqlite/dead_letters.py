"""Dead letters as rows, in order of arrival."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from choreo.adapters.errors import no_dead_letter
from choreo.adapters.sqlite.bulk import Bulk
from choreo.adapters.sqlite.database import Database
from choreo.adapters.sqlite.envelopes import record_of, text_of
from choreo.adapters.sqlite.writer import Writer
from choreo.ports.dead_letters import DeadLetter

_COLUMNS = "id, topic, partition, offset, service, step, cause, set_aside_ms, stamp_ms, event, redriven"
_DEAD_LETTERS = Bulk(f"dead_letters ({_COLUMNS})", "ON CONFLICT (id) DO NOTHING")


class SqliteDeadLetters:
    """`choreo.ports.dead_letters.DeadLetters` in a file. Everything raises StorageError when that cannot be used."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def add(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Store dead letters durably; one that is already stored stays unchanged."""
        if dead_letters:
            await self._writer.write(lambda: self.write(dead_letters))

    def write(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Store dead letters as `add` does, inside a transaction."""
        _DEAD_LETTERS.write(self._database.connection, [_row(dead_letter) for dead_letter in dead_letters])

    async def list(self, topic: str | None = None, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Return dead letters, newest first; raises NotFoundError if no dead letter has the id `after`."""
        conditions, values = ["1"], list[Any]()
        if topic is not None:
            conditions.append("topic = ?")
            values.append(topic)
        if after:
            conditions.append("number < ?")
            values.append(self._number(after))
        sql = f"SELECT {_COLUMNS} FROM dead_letters WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT ?"  # noqa: S608
        return [_dead_letter(row) for row in self._database.query(sql, (*values, limit))]

    async def get(self, dead_letter_id: str) -> DeadLetter:
        """Return one dead letter; raises NotFoundError."""
        rows = self._database.query(f"SELECT {_COLUMNS} FROM dead_letters WHERE id = ?", (dead_letter_id,))  # noqa: S608
        if not rows:
            raise no_dead_letter(dead_letter_id)
        return _dead_letter(rows[0])

    async def count(self, topic: str | None = None) -> int:
        """Count the dead letters."""
        rows = self._database.query("SELECT count(*) FROM dead_letters WHERE ?1 IS NULL OR topic = ?1", (topic,))
        return int(rows[0][0])

    async def redriven(self, dead_letter_id: str) -> None:
        """Count one more redrive; raises NotFoundError."""

        def job() -> None:
            number = self._number(dead_letter_id)
            run = self._database.connection.execute
            run("UPDATE dead_letters SET redriven = redriven + 1 WHERE number = ?", (number,))

        await self._writer.write(job)

    def _number(self, dead_letter_id: str) -> int:
        rows = self._database.query("SELECT number FROM dead_letters WHERE id = ?", (dead_letter_id,))
        if not rows:
            raise no_dead_letter(dead_letter_id)
        return int(rows[0][0])


def _row(dead_letter: DeadLetter) -> tuple[Any, ...]:
    return (
        dead_letter.id,
        dead_letter.topic,
        dead_letter.partition,
        dead_letter.offset,
        dead_letter.service,
        dead_letter.step,
        dead_letter.cause,
        dead_letter.set_aside_ms,
        dead_letter.record.stamp_ms,
        text_of([dead_letter.record.event]),
        dead_letter.redriven,
    )


def _dead_letter(row: Sequence[Any]) -> DeadLetter:
    *about, stamp_ms, event, redriven = row
    topic, partition, offset = row[1:4]
    values: list[Any] = [*about, record_of(topic, partition, offset, stamp_ms, event), redriven]
    return DeadLetter(*values)
