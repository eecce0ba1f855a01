"""Dead letters as rows, in the order they came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from choreo.adapters.refusals import no_letter
from choreo.adapters.sqlite.bulk import Bulk
from choreo.adapters.sqlite.database import Database
from choreo.adapters.sqlite.envelopes import record_of, text_of
from choreo.adapters.sqlite.writer import Writer
from choreo.ports.dead_letters import DeadLetter

_COLUMNS = "id, topic, partition, offset, service, step, cause, set_aside_ms, stamp_ms, event, redriven"
_LETTERS = Bulk(f"letters ({_COLUMNS})", "ON CONFLICT (id) DO NOTHING")


class SqliteDeadLetters:
    """`choreo.ports.dead_letters.DeadLetters` in a file. Everything raises StorageError when that cannot be used."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep them, durably; one already there stays as it is."""
        if letters:
            await self._writer.write(lambda: self.write(letters))

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """As `add`, inside a transaction."""
        _LETTERS.write(self._database.connection, [_row(letter) for letter in letters])

    async def list(self, topic: str | None = None, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Newest first; raises NotFoundError if `after` is no letter."""
        conditions, values = ["1"], list[Any]()
        if topic is not None:
            conditions.append("topic = ?")
            values.append(topic)
        if after:
            conditions.append("number < ?")
            values.append(self._number(after))
        sql = f"SELECT {_COLUMNS} FROM letters WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT ?"  # noqa: S608
        return [_letter(row) for row in self._database.query(sql, (*values, limit))]

    async def get(self, letter_id: str) -> DeadLetter:
        """One letter; raises NotFoundError."""
        rows = self._database.query(f"SELECT {_COLUMNS} FROM letters WHERE id = ?", (letter_id,))  # noqa: S608
        if not rows:
            raise no_letter(letter_id)
        return _letter(rows[0])

    async def count(self, topic: str | None = None) -> int:
        """How many there are."""
        rows = self._database.query("SELECT count(*) FROM letters WHERE ?1 IS NULL OR topic = ?1", (topic,))
        return int(rows[0][0])

    async def redriven(self, letter_id: str) -> None:
        """Count one more redrive; raises NotFoundError."""

        def job() -> None:
            number = self._number(letter_id)
            run = self._database.connection.execute
            run("UPDATE letters SET redriven = redriven + 1 WHERE number = ?", (number,))

        await self._writer.write(job)

    def _number(self, letter_id: str) -> int:
        rows = self._database.query("SELECT number FROM letters WHERE id = ?", (letter_id,))
        if not rows:
            raise no_letter(letter_id)
        return int(rows[0][0])


def _row(letter: DeadLetter) -> tuple[Any, ...]:
    return (
        letter.id,
        letter.topic,
        letter.partition,
        letter.offset,
        letter.service,
        letter.step,
        letter.cause,
        letter.set_aside_ms,
        letter.record.stamp_ms,
        text_of([letter.record.event]),
        letter.redriven,
    )


def _letter(row: Sequence[Any]) -> DeadLetter:
    *about, stamp_ms, event, redriven = row
    topic, partition, offset = row[1:4]
    values: list[Any] = [*about, record_of(topic, partition, offset, stamp_ms, event), redriven]
    return DeadLetter(*values)
