"""The work of a killed process, read from the file by plain SQL the moment it was gone."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from tests.support.fleet import TRACKER, Worker

# The triggers of each service's steps, besides requests to undo their own.
_TRIGGERS = {
    "inventory": ("OrderPlaced",),
    "payment": ("StockReserved",),
    "shipping": ("PaymentCharged",),
    "notification": ("ShipmentPicked", "OrderCancelled"),
}
_RUNNING = """
SELECT trigger, step, begun FROM attempts LEFT JOIN outcomes USING (number)
WHERE service = ? AND begun > 0 AND events IS NULL
"""
_OWNED = """
SELECT partition, coalesce(offset, 0) FROM leases LEFT JOIN offsets USING (topic, grp, partition)
WHERE topic = 'order' AND grp = ? AND owner LIKE ? || '%'
"""
_UNREAD = """
SELECT type, step FROM log WHERE topic = 'order' AND partition = ? AND offset >= ? AND stamp_ms <= ?
"""
_WAITING = """
SELECT coalesce(min(stamp_ms), ?1) FROM log AS asked WHERE type = 'choreo.CompensationRequested' AND NOT EXISTS (
    SELECT 1 FROM log AS answer WHERE answer.key = asked.key AND answer.entry = asked.entry
    AND answer.offset > asked.offset
    AND answer.type NOT IN ('choreo.StepAttemptFailed', 'choreo.StepRetryDue', 'choreo.CompensationRequested')
)
"""

Attempt = tuple[str, str]
"""The id of a trigger, and the step."""


@dataclass(frozen=True)
class Caught:
    """The work that a kill interrupted."""

    attempts: frozenset[Attempt]
    """Attempts that had begun since the last kill of that service and have no outcome."""
    unread: int
    """Records that stood in its partitions and were to be worked by it."""

    @property
    def in_flight(self) -> bool:
        """Return whether there was anything to lose."""
        return bool(self.attempts or self.unread)


class Observer:
    """Looks into the file, for reading only; remembers which attempts it has seen interrupted before."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Read through `db`, which must be in autocommit mode: each read is a transaction of its own."""
        self._db = db
        self._seen: dict[Attempt, int] = {}

    @property
    def interrupted(self) -> frozenset[Attempt]:
        """Return every attempt that any kill interrupted."""
        return frozenset(self._seen)

    def at_work(self, worker: Worker) -> bool:
        """Return whether it has taken partitions: a process that still starts has nothing to lose."""
        group = worker.role
        return bool(self._db.execute(f"{_OWNED} LIMIT 1", (group, worker.consumer)).fetchall())

    def caught(self, worker: Worker, killed_ms: int) -> Caught:
        """Return the work of a killed process; `killed_ms` is the moment just before the kill."""
        self._db.execute("BEGIN")
        try:
            running = {} if worker.role == TRACKER else self._running(worker.role)
            fresh = {attempt for attempt, begun in running.items() if self._seen.get(attempt) != begun}
            owned = self._db.execute(_OWNED, (worker.role, worker.consumer)).fetchall()
            unread = sum(self._unread(worker.role, partition, offset, killed_ms) for partition, offset in owned)
        finally:
            self._db.execute("COMMIT")
        self._seen.update(running)
        return Caught(frozenset(fresh), unread)

    def note(self, service: str) -> None:
        """Note that the present work of this service is interrupted now."""
        self._seen.update(self._running(service))

    def records(self) -> int:
        """Return how many records the log has."""
        return self._number("SELECT count(*) FROM log")

    def open_runs(self) -> int:
        """Count the starts without an ended run, or still unread."""
        starts = "SELECT count(DISTINCT id) FROM log WHERE type = 'OrderPlaced' AND key != ''"
        ended = "SELECT count(*) FROM instances WHERE status NOT IN ('running', 'paused', 'compensating')"
        return self._number(f"SELECT ({starts}) - ({ended})")

    def undo_waits_ms(self, now_ms: int) -> int:
        """Return how long the oldest request to undo that nobody has answered has been waiting."""
        return now_ms - self._number(_WAITING, now_ms)

    def lag(self, roles: tuple[str, ...]) -> int:
        """Return records that these groups have not committed yet."""
        ends = "SELECT topic, partition, max(offset) + 1 AS until FROM log GROUP BY topic, partition"
        return sum(
            self._number(
                f"""SELECT coalesce(sum(until - coalesce(offset, 0)), 0) FROM ({ends})
                LEFT JOIN (SELECT topic, partition, offset FROM offsets WHERE grp = ?) USING (topic, partition)""",
                role,
            )
            for role in set(roles)
        )

    def _running(self, service: str) -> dict[Attempt, int]:
        return {(trigger, step): begun for trigger, step, begun in self._db.execute(_RUNNING, (service,))}

    def _unread(self, role: str, partition: int, offset: int, killed_ms: int) -> int:
        found = self._db.execute(_UNREAD, (partition, offset, killed_ms)).fetchall()
        if role == TRACKER:
            return len(found)
        own_undo = "choreo.CompensationRequested", f"{role}."
        return sum(1 for type_, step in found if type_ in _TRIGGERS[role] or (type_, step[: len(role) + 1]) == own_undo)

    def _number(self, sql: str, *values: object) -> int:
        return int(self._db.execute(sql, values).fetchone()[0])
