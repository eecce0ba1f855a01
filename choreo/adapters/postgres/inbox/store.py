"""One service's inbox in PostgreSQL: `inbox_rules` decides over locked rows, in one transaction with the changes.

Locks are taken in the order of the rows' keys, so that two batches never wait for each other in a deadlock. A lost
inbox (dropped tables, a restored backup, a promoted standby) is detected by its name or by the server's note, and until
`linger` has passed nothing is certain: earlier attempts may be unknown.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from itertools import count
from typing import Any, TypeVar

import msgspec
from psycopg import errors

from choreo.adapters import inbox_rules
from choreo.adapters.assignment import LEASE_MAX_MS
from choreo.adapters.nul_free import unescaped
from choreo.adapters.packed_envelopes import events_of
from choreo.adapters.postgres.examination import Connection
from choreo.adapters.postgres.inbox import statements as sql
from choreo.adapters.postgres.inbox.gates import PostgresGates
from choreo.adapters.postgres.inbox.rows import InboxRows, Key, Wanted, columns, ids_of, mark_of, remembered
from choreo.adapters.postgres.schema import id_of
from choreo.adapters.postgres.server import PostgresServer
from choreo.adapters.store_errors import LossError
from choreo.core.errors import StorageError
from choreo.core.events import Envelope
from choreo.ports.clock import Clock
from choreo.ports.inbox import AttemptGrant, AttemptLease, AttemptRequest, Outcome, RunMark

FORGOTTEN_AT_ONCE = 500
"""Runs that one transaction forgets: some 10 ms of the server's."""
SLOT_TRIES = 5
"""Each time another transaction took a slot in between: two of them at once are rare, five never happen."""
_UNSURE_MAX = 20_000
"""Far more attempts than a host has begun when the server goes away."""

T = TypeVar("T")


class PostgresInbox(PostgresGates):
    """`choreo.ports.backend.StoredInbox` in PostgreSQL. Every method raises StorageError where it cannot be used."""

    def __init__(self, server: PostgresServer, service: str, clock: Clock, *, process: str, linger_ms: int) -> None:
        """Name the process and the inbox.

        `process`: name of this process, the same after a restart; `linger_ms`: how long entries remain after their
        run's end.
        """
        super().__init__(server, service, clock, linger_ms)
        self._rows = InboxRows(server, service)
        self._process = process
        self._numbers = count(1)
        self._name = ""
        self._loss = "0"
        """The server's last loss that the inbox has learned."""
        self._grace_until_ms = 0
        """Time until which an expired lease is respected: its holder could not renew it while the server was away."""
        self._unsure: dict[Key, str] = {}
        """Attempts that may or may not have been counted, with their tokens: the next call uses the same token."""

    @property
    def name(self) -> str:
        """Return the name of the inbox, as this process knows it."""
        return self._name

    async def compare(self, noted: Collection[str]) -> None:
        """Compare the inbox with the names that a log has noted and that this process knew; create it if it is new."""
        known = {*noted, self._name} if self._name else {*noted}
        proposed = f"inbox-{secrets.token_hex(8)}"
        await self._server.prepare()
        loss = self._server.inbox_loss

        async def job(connection: Connection) -> str:
            async with self._server.transaction(connection):
                await self._server.execute_in(connection, sql.NEW_IDENTITY, self._service, proposed, loss)
                found = await self._server.execute_in(connection, sql.LOCK_IDENTITY, self._service)
                (name, known_loss) = (await found.fetchall())[0]
                is_lost = known_loss != loss or any(other != name for other in known)
                lost_ms = self._clock.now_ms() if is_lost else 0
                await self._server.execute_in(connection, sql.COMPARE_IDENTITY, lost_ms, lost_ms, loss, self._service)
            return str(name)

        self._name = await self._server.run(job)
        self._loss = loss

    async def begin(self, attempts: Sequence[AttemptRequest], lease: AttemptLease | None = None) -> list[AttemptGrant]:
        """Take the slots and count the attempts."""
        if not attempts:
            return []
        lease = lease or AttemptLease("", 0)
        keys = [(attempt.trigger, attempt.step) for attempt in attempts]
        tokens = {
            key: self._unsure.get(key) or f"{lease.holder or self._process}.{next(self._numbers)}" for key in keys
        }
        try:
            answers = await self._begun(attempts, lease, tokens)
        except StorageError:
            self._grace_until_ms = self._clock.elapsed_ms() + lease.lease_ms
            if len(self._unsure) < _UNSURE_MAX:
                self._unsure.update(tokens)
            raise
        for key in keys:
            self._unsure.pop(key, None)
        return answers

    async def renew(self, keys: Sequence[Key], lease: AttemptLease) -> None:
        """Renew the leases on these attempts from now on."""
        if keys:
            triggers, steps = columns(keys)
            values = (lease.lease_ms, lease.lease_ms, self._service, steps, triggers, lease.holder)
            await self._guarded(lambda connection: self._server.execute_in(connection, sql.RENEW, *values))

    async def recorded(self, keys: Sequence[Key]) -> dict[Key, Sequence[Envelope]]:
        """Return the recorded outcomes of these (trigger, step)."""
        if not keys:
            return {}
        by_id = {ids_of(key): key for key in keys}
        triggers, steps = columns(by_id.values())
        rows = await self._server.ask(sql.RECORDED, (self._service, steps, triggers))
        return {by_id[trigger, step]: events_of(data, certain=certain) for step, trigger, data, certain in rows}

    async def record(self, outcomes: Sequence[Outcome]) -> list[Envelope]:
        """Record each outcome unless one is recorded already; return the events to publish."""
        if not outcomes:
            return []
        await self._compared()
        wanted = {ids_of((o.trigger, o.step)): (o.trigger, o.step, o.run) for o in outcomes}

        async def job(connection: Connection) -> list[Envelope]:
            async with self._server.transaction(connection):
                identity = await self._server.execute_in(connection, sql.IDENTITY, self._service)
                found = await self._rows.locked(connection, wanted, self._ends_ms())
                lost_ms = await self._identified(connection, await identity.fetchall())
                rows = remembered(await found.fetchall(), wanted)[0]
                published, changed = inbox_rules.record(self._settled(outcomes, lost_ms), rows)
                await self._rows.write_outcomes(connection, rows, changed)
            return published

        return await self._guarded(job)

    async def mark(self, marks: Mapping[str, RunMark]) -> None:
        """Store facts about runs."""
        if not marks:
            return
        runs = {id_of(run): run for run in sorted(marks)}
        names = sorted(runs)
        now_ms = self._clock.now_ms()

        async def job(connection: Connection) -> None:
            async with self._server.transaction(connection):
                await self._server.execute_in(connection, sql.NEW_RUNS, self._service, names)
                found = await self._server.execute_in(connection, sql.LOCK_RUNS, self._service, names)
                for run, ended_ms, *parts in await found.fetchall():
                    mark = inbox_rules.merged(mark_of(ended_ms, parts), marks[runs[run]])
                    compensating, ended, *rest = msgspec.structs.astuple(mark)
                    at_ms = ended_ms or (now_ms if ended else 0)
                    await self._server.execute_in(connection, sql.MARK, compensating, at_ms, *rest, self._service, run)

        await self._guarded(job)

    async def marks(self, runs: Sequence[str]) -> dict[str, RunMark]:
        """Return the stored facts about these runs."""
        if not runs:
            return {}
        by_id = {id_of(run): run for run in runs}
        rows = await self._server.ask(sql.RUNS, (self._service, list(by_id)))
        return {by_id[run]: mark_of(ended_ms, parts) for run, ended_ms, *parts in rows}

    async def forget(self, before_ms: int) -> int:
        """Drop entries of runs that ended before this moment, and all expired ones; return the number of entries."""
        now_ms = self._clock.now_ms()
        for statement in (sql.FORGET_ROWS, sql.FORGET_GATES):
            await self._server.execute(statement, (self._service, now_ms))
        forgotten: int = 0
        while True:
            service = (self._service,) * 3
            ((runs, entries),) = await self._server.ask(
                sql.FORGET, (self._service, before_ms, FORGOTTEN_AT_ONCE, *service)
            )
            forgotten += entries
            if runs < FORGOTTEN_AT_ONCE:
                return forgotten

    async def _begun(
        self, attempts: Sequence[AttemptRequest], lease: AttemptLease, tokens: Mapping[Key, str]
    ) -> list[AttemptGrant]:
        """Begin the attempts; begin again if another transaction took one of the slots meanwhile."""
        await self._compared()
        wanted = {ids_of((a.trigger, a.step)): (a.trigger, a.step, a.run) for a in attempts}

        async def job(connection: Connection) -> list[AttemptGrant]:
            for _ in range(SLOT_TRIES):
                try:
                    return await self._begin(connection, attempts, lease, tokens, wanted)
                except errors.UniqueViolation as error:
                    taken = error
            raise taken

        return await self._guarded(job)

    async def _begin(
        self,
        connection: Connection,
        attempts: Sequence[AttemptRequest],
        lease: AttemptLease,
        tokens: Mapping[Key, str],
        wanted: Wanted,
    ) -> list[AttemptGrant]:
        slots = {(id_of(a.slot), a.step): (a.slot, a.step) for a in attempts if a.slot}
        runs = {id_of(a.run): a.run for a in attempts if a.unmarked}
        async with self._server.transaction(connection):
            identity = await self._server.execute_in(connection, sql.IDENTITY, self._service)
            locked = await self._rows.locked(connection, wanted, self._ends_ms())
            held = await self._server.execute_in(connection, sql.SLOTS, self._service, *columns(slots.values()))
            marked = await self._server.execute_in(connection, sql.RUNS, self._service, list(runs))
            rows, kept = remembered(await locked.fetchall(), wanted)
            taken = {slots[run, step]: unescaped(trigger) for run, step, trigger in await held.fetchall()}
            marks = {runs[run]: mark_of(ended_ms, parts) for run, ended_ms, *parts in await marked.fetchall()}
            clock = await identity.fetchall()
            await self._identified(connection, clock)
            now_ms = int(clock[0][2])
            self._respect(rows, kept, tokens, lease, now_ms)
            before = set(taken)
            answers, changed = inbox_rules.begin(attempts, rows, taken, marks, lease, now_ms)
            await self._rows.write_slots(connection, {slot: taken[slot] for slot in taken.keys() - before})
            await self._rows.write_attempts(connection, rows, changed, tokens)
        return answers

    def _respect(
        self,
        rows: Mapping[Key, inbox_rules.Remembered],
        kept: Mapping[Key, str],
        tokens: Mapping[Key, str],
        lease: AttemptLease,
        now_ms: int,
    ) -> None:
        """Prepare the rows for the rules: expired leases that are respected, and attempts counted by a lost answer."""
        grace_ms = min(lease.lease_ms, max(0, self._grace_until_ms - self._clock.elapsed_ms()))
        for key, row in rows.items():
            if kept[key] and kept[key] == tokens[key]:
                row.begun -= 1
            if grace_ms and row.held_until_ms and row.held_until_ms - now_ms <= LEASE_MAX_MS:
                row.held_until_ms = max(row.held_until_ms, now_ms + grace_ms)

    async def _identified(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> int:
        """Return when the inbox before this one was lost, 0 for never; note the loss where it is found now."""
        name, lost_ms, _ = rows[0]
        if name == self._name:
            return int(lost_ms)
        now_ms: int = self._clock.now_ms()
        values = (self._service, name or self._name, now_ms, self._server.inbox_loss, now_ms)
        await self._server.execute_in(connection, sql.LOST_IDENTITY, *values)
        self._name = str(name or self._name)
        return now_ms

    def _ends_ms(self) -> int:
        """Return when an entry that belongs to no run expires."""
        return self._clock.now_ms() + self._linger_ms

    def _settled(self, outcomes: Sequence[Outcome], lost_ms: int) -> Sequence[Outcome]:
        """Return the outcomes, none of them certain while attempts may be unknown."""
        if lost_ms <= 0 or self._clock.now_ms() >= lost_ms + self._linger_ms:
            return outcomes
        return [msgspec.structs.replace(outcome, certain_if_begun=-1) for outcome in outcomes]

    async def _guarded(self, job: Callable[[Connection], Awaitable[T]]) -> T:
        """Run the job; first note a loss of the server in the inbox, if there was one since the last call."""
        await self._server.prepare()
        if self._loss != self._server.inbox_loss and self._name:
            await self.compare(())
        try:
            return await self._server.run(job, guarded=True)
        except LossError:
            await self.compare(())
            return await self._server.run(job)

    async def _compared(self) -> None:
        """Read the inbox's name, if no caller has compared it yet."""
        if not self._name:
            await self.compare(())
