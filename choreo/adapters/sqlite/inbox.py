"""One service's inbox as rows. What it answers is decided by `inbox_rules`: here rows are loaded and written back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from choreo.adapters import inbox_rules
from choreo.adapters.inbox_rules import Remembered
from choreo.adapters.sqlite.bulk import Bulk
from choreo.adapters.sqlite.database import Database
from choreo.adapters.sqlite.writer import Writer
from choreo.core.events import Envelope
from choreo.ports.clock import Clock
from choreo.ports.inbox import Begin, Begun, Outcome, RunMark

_ATTEMPTS = Bulk(
    "attempts (service, trigger, step, run, begun, slotted, outcome)",
    """ON CONFLICT (trigger, step, service)
    DO UPDATE SET begun = excluded.begun, slotted = excluded.slotted, outcome = excluded.outcome""",
)
_MARKS = Bulk(
    "marks (service, run, turned, ended_ms, paused, pause_n)",
    """ON CONFLICT (run, service) DO UPDATE SET turned = excluded.turned,
    ended_ms = coalesce(ended_ms, excluded.ended_ms), paused = excluded.paused, pause_n = excluded.pause_n""",
)
_LISTED = "(SELECT value FROM json_each(?))"
_GONE = "(SELECT run FROM marks WHERE service = ?1 AND ended_ms < ?2)"

_text_of = msgspec.json.encode
_envelopes = msgspec.json.Decoder(tuple[Envelope, ...]).decode

Key = tuple[str, str]


class SqliteInbox:
    """`choreo.ports.inbox.Inbox` in a file. Everything raises StorageError when the file cannot be read or written."""

    def __init__(self, service: str, database: Database, writer: Writer, clock: Clock) -> None:
        self._service = service
        self._database = database
        self._writer = writer
        self._clock = clock

    async def begin(self, attempts: Sequence[Begin]) -> list[Begun]:
        """Take the slots and count the attempts, durably."""

        def job() -> list[Begun]:
            rows = self._load({attempt.trigger for attempt in attempts})
            slots = self._slots({attempt.run for attempt in attempts if attempt.slot})
            answers, changed = inbox_rules.begin(attempts, rows, slots)
            self._save(rows, changed)
            return answers

        return await self._writer.write(job) if attempts else []

    async def recorded(self, keys: Sequence[Key]) -> dict[Key, Sequence[Envelope]]:
        """The recorded outcomes of these (trigger, step)."""
        rows = self._load({trigger for trigger, _ in keys})
        return {key: rows[key].outcome or () for key in keys if key in rows and rows[key].outcome is not None}

    async def record(self, outcomes: Sequence[Outcome]) -> list[Envelope]:
        """Write each outcome unless one stands; returns the events to publish."""
        return await self._writer.write(lambda: self.write_outcomes(outcomes)) if outcomes else []

    def write_outcomes(self, outcomes: Sequence[Outcome]) -> list[Envelope]:
        """As `record`, inside a transaction."""
        rows = self._load({outcome.trigger for outcome in outcomes})
        published, changed = inbox_rules.record(outcomes, rows)
        self._save(rows, changed)
        return published

    async def mark(self, marks: Mapping[str, RunMark]) -> None:
        """Remember what was read about runs; what is known already costs no write."""
        if self._news(marks):
            await self._writer.write(lambda: self._write_marks(self._news(marks)))

    async def marks(self, runs: Sequence[str]) -> dict[str, RunMark]:
        """What was read about these runs."""
        return self._load_marks(runs)

    async def forget(self, before_ms: int) -> int:
        """Drop entries of runs marked ended before this moment; returns how many entries."""

        def job() -> int:
            run = self._database.connection.execute
            gone = (self._service, before_ms)
            entries = run(f"DELETE FROM attempts WHERE service = ?1 AND run IN {_GONE}", gone).rowcount  # noqa: S608
            run("DELETE FROM marks WHERE service = ?1 AND ended_ms < ?2", gone)
            return entries

        return await self._writer.write(job)

    def _load(self, triggers: Iterable[str]) -> dict[Key, Remembered]:
        sql = f"""SELECT trigger, step, run, begun, slotted, outcome FROM attempts
            WHERE service = ? AND trigger IN {_LISTED}"""  # noqa: S608 -- our own words
        rows = self._database.query(sql, (self._service, _list(triggers)))
        return {
            (trigger, step): Remembered(
                run, begun, run if slotted else "", None if outcome is None else _envelopes(outcome)
            )
            for trigger, step, run, begun, slotted, outcome in rows
        }

    def _slots(self, runs: Iterable[str]) -> dict[Key, str]:
        sql = f"""SELECT run, step, trigger FROM attempts
            WHERE service = ? AND slotted AND run IN {_LISTED}"""  # noqa: S608 -- our own words
        rows = self._database.query(sql, (self._service, _list(runs)))
        return {(run, step): trigger for run, step, trigger in rows}

    def _save(self, rows: Mapping[Key, Remembered], changed: Iterable[Key]) -> None:
        written = []
        for trigger, step in sorted(changed):
            row = rows[trigger, step]
            outcome = None if row.outcome is None else _text_of(row.outcome).decode()
            written.append((self._service, trigger, step, row.run, row.begun, bool(row.slot), outcome))
        _ATTEMPTS.write(self._database.connection, written)

    def _load_marks(self, runs: Iterable[str]) -> dict[str, RunMark]:
        sql = f"""SELECT run, turned, ended_ms IS NOT NULL, paused, pause_n FROM marks
            WHERE service = ? AND run IN {_LISTED}"""  # noqa: S608 -- our own words
        rows = self._database.query(sql, (self._service, _list(runs)))
        return {run: RunMark(turned == 1, ended == 1, paused == 1, n) for run, turned, ended, paused, n in rows}

    def _news(self, marks: Mapping[str, RunMark]) -> dict[str, RunMark]:
        """The marks that change what is known, as they are to be written."""
        known = self._load_marks(marks)
        merged = {run: inbox_rules.merged(known.get(run), mark) for run, mark in marks.items()}
        return {run: mark for run, mark in merged.items() if mark != known.get(run)}

    def _write_marks(self, marks: Mapping[str, RunMark]) -> None:
        now_ms = self._clock.now_ms()
        rows = [
            (self._service, run, m.turned, now_ms if m.ended else None, m.paused, m.pause_n) for run, m in marks.items()
        ]
        _MARKS.write(self._database.connection, rows)


def _list(values: Iterable[str]) -> str:
    return _text_of(sorted(set(values))).decode()
