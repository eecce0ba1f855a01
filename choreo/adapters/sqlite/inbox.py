"""One service's inbox as rows. `inbox_rules` decides; `attempts` has the rows for these decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from choreo.adapters import inbox_rules
from choreo.adapters.sqlite.attempts import Attempt, Attempts, Key, listed
from choreo.adapters.sqlite.bulk import Bulk
from choreo.adapters.sqlite.database import Database
from choreo.adapters.sqlite.records import Records
from choreo.adapters.sqlite.writer import Until, Writer
from choreo.core.events import Envelope, Record
from choreo.ports.clock import Clock
from choreo.ports.inbox import AttemptGrant, AttemptLease, AttemptRequest, GateSave, Outcome, RunMark

_MARK_COLUMNS = "service, run, compensating, ended_ms, paused, pause_n, stopped_at"
_MARKS = Bulk(
    f"marks ({_MARK_COLUMNS})",
    """ON CONFLICT (run, service) DO UPDATE SET compensating = excluded.compensating,
    ended_ms = coalesce(ended_ms, excluded.ended_ms), paused = excluded.paused, pause_n = excluded.pause_n,
    stopped_at = excluded.stopped_at""",
)
_FRESH_MARKS = Bulk(f"marks ({_MARK_COLUMNS})", "ON CONFLICT DO NOTHING")
_LOAD_MARKS = """SELECT run, compensating, ended_ms IS NOT NULL, paused, pause_n, stopped_at FROM marks
    WHERE service = ? AND run IN (SELECT value FROM json_each(?))"""
_GONE = "IN (SELECT run FROM marks WHERE service = ?1 AND ended_ms < ?2)"
# Attempts with a slot are found by their slot, the few others by their run.
_ENTRIES = f"FROM attempts WHERE service = ?1 AND (slot {_GONE} OR (slot <> run AND run {_GONE}))"
_FORGET_OUTCOMES = f"DELETE FROM outcomes WHERE number IN (SELECT number {_ENTRIES})"  # noqa: S608 -- our own words
_FORGET_ENTRIES = f"DELETE {_ENTRIES}"
_GATES = Bulk(
    "gates (service, flow, shape, key, position, ended_ms, state)",
    """ON CONFLICT (key, flow, shape, service) DO UPDATE SET position = excluded.position,
    ended_ms = excluded.ended_ms, state = excluded.state WHERE excluded.position >= position""",
)
_GATE_POSITIONS = Bulk(
    "gate_positions (service, flow, shape, partition, position)",
    """ON CONFLICT (service, flow, shape, partition) DO UPDATE SET position = excluded.position
    WHERE excluded.position > position""",
)
_LOAD_GATES = """SELECT key, state FROM gates
    WHERE service = ? AND flow = ? AND shape = ? AND key IN (SELECT value FROM json_each(?))"""
_LOAD_GATE_POSITION = """SELECT position FROM gate_positions
    WHERE service = ? AND flow = ? AND shape = ? AND partition = ?"""
_FORGET_GATES = "DELETE FROM gates WHERE service = ?1 AND ended_ms < ?2"
_FORGET_MARKS = "DELETE FROM marks WHERE service = ?1 AND ended_ms < ?2"

# Attempts under way in this process: far more than a host runs at once.
_KNOWN = 20_000


class SqliteInbox:
    """`choreo.ports.inbox.Inbox` in a file. Everything raises StorageError when the file cannot be read or written."""

    def __init__(self, service: str, database: Database, writer: Writer, records: Records, clock: Clock) -> None:
        self._service = service
        self._database = database
        self._writer = writer
        self._clock = clock
        self._attempts = Attempts(service, database, records)
        self._known: dict[Key, Attempt] = {}
        """Attempts that this process began last and has not read since: it need not read their outcomes first."""

    def forget_known(self) -> None:
        """Drop the cached attempts after a write of another process."""
        self._known.clear()

    async def begin(self, attempts: Sequence[AttemptRequest], lease: AttemptLease | None = None) -> list[AttemptGrant]:
        """Take the slots and count the attempts; on return the records that led to them are safe from a power cut.

        The count is safe too, where a power cut would otherwise go unnoticed (see `reboot_detection`).
        """
        until = Until.SETTLED if self._database.boot else Until.FLUSHED
        return await self._writer.write(lambda: self._begin(attempts, lease), until) if attempts else []

    async def renew(self, keys: Sequence[Key], lease: AttemptLease) -> None:
        """Renew the leases on these attempts from now on."""

        def job() -> None:
            rows = self._load({trigger for trigger, _ in keys})
            self._save(rows, inbox_rules.renew(keys, rows, lease, self._clock.elapsed_ms()))

        if keys:
            await self._writer.write(job, Until.COMMITTED)

    async def recorded(self, keys: Sequence[Key]) -> dict[Key, Sequence[Envelope]]:
        """Return the recorded outcomes of these (trigger, step)."""
        found = self._attempts.load({trigger for trigger, _ in keys})
        outcomes = {key: found[key].row.outcome for key in keys if key in found}
        return {key: outcome for key, outcome in outcomes.items() if outcome is not None}

    async def record(self, outcomes: Sequence[Outcome]) -> list[Envelope]:
        """Record each outcome unless one is recorded already; return the events to publish."""

        def job() -> list[Envelope]:
            published, save = self.settle(outcomes)
            save(())
            return published

        return await self._writer.write(job) if outcomes else []

    def settle(self, outcomes: Sequence[Outcome]) -> tuple[list[Envelope], Callable[[Sequence[Record]], None]]:
        """Return the events to publish and a function that saves the outcomes once their places are known.

        Runs inside a transaction.
        """
        wanted = {(outcome.trigger, outcome.step) for outcome in outcomes}
        found = {key: self._known.pop(key) for key in wanted if key in self._known}
        missing = {trigger for trigger, step in wanted if (trigger, step) not in found}
        if missing:
            found.update(self._attempts.load(missing))
        rows = {key: attempt.row for key, attempt in found.items()}
        numbers = {key: attempt.number for key, attempt in found.items()}
        published, changed = inbox_rules.record(outcomes, rows, self._database.doubtful_ms)
        return published, lambda records: self._attempts.save_outcomes(rows, numbers, changed, records)

    async def mark(self, marks: Mapping[str, RunMark]) -> None:
        """Store facts about runs; facts that are stored already are not written again."""
        await self._writer.write(lambda: self.mark_now(marks), Until.COMMITTED)

    async def marks(self, runs: Sequence[str]) -> dict[str, RunMark]:
        """Return the stored facts about these runs."""
        return self._load_marks(runs)

    async def gates(self, flow: str, shape: str, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the stored gates of these keys."""
        return dict(self._database.query(_LOAD_GATES, (self._service, flow, shape, listed(keys))))

    async def gates_position(self, flow: str, shape: str, partition: int) -> int:
        """Return the offset up to which the stored gates of a partition are true."""
        found = self._database.query(_LOAD_GATE_POSITION, (self._service, flow, shape, partition))
        return int(found[0][0]) if found else 0

    async def keep_gates(self, save: GateSave) -> None:
        """Store these gates."""
        await self._writer.write(lambda: self.keep_gates_now(save), Until.COMMITTED)

    def keep_gates_now(self, save: GateSave) -> None:
        """Store these gates as `keep_gates` does, inside a transaction."""
        connection, of = self._database.connection, (self._service, save.flow, save.shape)
        rows = [(*of, key, row.position, row.ended_ms or None, row.state) for key, row in sorted(save.rows.items())]
        _GATES.write(connection, rows)
        _GATE_POSITIONS.write(connection, [(*of, *position) for position in sorted(save.positions.items())])

    async def forget(self, before_ms: int) -> int:
        """Drop entries of runs that ended before this moment; return the number of entries."""

        def job() -> int:
            run, values = self._database.connection.execute, (self._service, before_ms)
            run(_FORGET_OUTCOMES, values)
            entries = run(_FORGET_ENTRIES, values).rowcount
            run(_FORGET_MARKS, values)
            run(_FORGET_GATES, values)
            self._known.clear()
            return entries

        return await self._writer.write(job, Until.COMMITTED)

    def _begin(self, attempts: Sequence[AttemptRequest], lease: AttemptLease | None) -> list[AttemptGrant]:
        now_ms = self._clock.elapsed_ms()
        careful = {attempt.run for attempt in attempts if attempt.unmarked}
        marks = self._load_marks(careful) if careful else {}
        fresh = None if marks else self._attempts.begin_fresh(attempts, lease, now_ms)
        if fresh is not None:
            self._writer.after_commit(lambda: self._know(fresh))
            return [AttemptGrant(1)] * len(attempts)
        rows = self._load({attempt.trigger for attempt in attempts})
        slots = self._attempts.slots({attempt.run for attempt in attempts if attempt.slot})
        answers, changed = inbox_rules.begin(attempts, rows, slots, marks, lease, now_ms)
        self._save(rows, changed)
        return answers

    def _load(self, triggers: Iterable[str]) -> dict[Key, inbox_rules.Remembered]:
        return {key: found.row for key, found in self._attempts.load(triggers).items()}

    def _save(self, rows: Mapping[Key, inbox_rules.Remembered], changed: Iterable[Key]) -> None:
        self._attempts.save(rows, changed)
        for key in changed:
            self._known.pop(key, None)

    def _know(self, fresh: Mapping[Key, Attempt]) -> None:
        if len(self._known) > _KNOWN:
            self._known.clear()
        self._known.update(fresh)

    def _load_marks(self, runs: Iterable[str]) -> dict[str, RunMark]:
        rows = self._database.query(_LOAD_MARKS, (self._service, listed(runs)))
        return {
            run: RunMark(compensating == 1, ended == 1, paused == 1, n, stopped_at)
            for run, compensating, ended, paused, n, stopped_at in rows
        }

    def mark_now(self, marks: Mapping[str, RunMark]) -> None:
        """Store facts about runs as `mark` does, inside a transaction."""
        connection = self._database.connection
        changes = connection.total_changes
        _FRESH_MARKS.write(connection, self._mark_rows(marks))
        # Almost every mark is the first of its run and marks the end. Only where some are not, look which ones.
        if connection.total_changes - changes < len(marks):
            _MARKS.write(connection, self._mark_rows(self._wakeup(marks)))

    def _wakeup(self, marks: Mapping[str, RunMark]) -> dict[str, RunMark]:
        """Return the marks that change a stored one, in the form in which they are to be written."""
        known = self._load_marks(marks)
        merged = {run: inbox_rules.merged(known.get(run), mark) for run, mark in marks.items()}
        return {run: mark for run, mark in merged.items() if mark != known.get(run)}

    def _mark_rows(self, marks: Mapping[str, RunMark]) -> list[tuple[Any, ...]]:
        now_ms = self._clock.now_ms()
        return [
            (self._service, run, m.compensating, now_ms if m.ended else None, m.paused, m.pause_n, m.stopped_at)
            for run, m in marks.items()
        ]
