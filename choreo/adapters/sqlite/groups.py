"""Consumer groups as rows: seats, leases, committed offsets, and the commit that makes a piece of work true at once.

A member's leases are checked inside the transaction of its commit: whoever was taken for dead and is not, writes
nothing. Every change of membership raises the counter `epoch` in `meta`, so that a look at one row tells whether to
look at the others.

Nothing here need be flushed: before the world outside learns of it, by a handler or a door, something else is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from choreo.adapters.bell import Bell
from choreo.adapters.membership import Lease, Roster, Seat, Ticket, turn
from choreo.adapters.refusals import admit, lease_lost
from choreo.adapters.sqlite.bulk import Bulk
from choreo.adapters.sqlite.database import Database
from choreo.adapters.sqlite.dead_letters import SqliteDeadLetters
from choreo.adapters.sqlite.inbox import SqliteInbox
from choreo.adapters.sqlite.read_model import SqliteReadModel
from choreo.adapters.sqlite.records import Records
from choreo.adapters.sqlite.state import SqliteStates
from choreo.adapters.sqlite.watch import Watch
from choreo.adapters.sqlite.writer import Until, Writer
from choreo.ports.clock import Clock
from choreo.ports.log import Work

_COMMIT_OFFSETS = Bulk(
    "offsets (topic, grp, partition, offset)",
    "ON CONFLICT (topic, grp, partition) DO UPDATE SET offset = excluded.offset",
)
_SEAT = """INSERT INTO seats (topic, grp, name, incarnation, expires_ms) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (topic, grp, name) DO UPDATE SET incarnation = excluded.incarnation, expires_ms = excluded.expires_ms"""
_LEASE = """INSERT INTO leases (topic, grp, partition, owner, epoch) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (topic, grp, partition) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch"""


class Stores(NamedTuple):
    """What a commit writes besides the log."""

    inbox: Callable[[str], SqliteInbox]
    letters: SqliteDeadLetters
    states: SqliteStates
    views: SqliteReadModel


class Groups:
    """`choreo.adapters.member.GroupHome` in a file. `lease_s`: how long a member that does not poll keeps its seat."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        watch: Watch,
        bell: Bell,
        records: Records,
        stores: Stores,
        *,
        clock: Clock,
        lease_s: float,
    ) -> None:
        self._database = database
        self._writer = writer
        self._watch = watch
        self._bell = bell
        self._records = records
        self._stores = stores
        self._clock = clock
        self.lease_s = lease_s
        self._version: int | None = None
        self._leases: dict[tuple[str, str], tuple[int, dict[int, tuple[str, int]]]] = {}
        """(topic, group) → the version this was read at, and partition → (owner, epoch)."""
        self.scan = records.scan
        self.end = records.end
        self.ends = records.ends

    def forget(self) -> None:
        """Another process has written: look again."""
        self._version = None

    def undone(self) -> None:
        """A transaction of ours was undone, and the numbers it took will be given again: look again at everything."""
        self._version = None
        self._leases.clear()

    async def join(self, topic: str, group: str, name: str) -> Ticket:
        """Take a seat; whatever an older member of this name owned is free."""

        def job() -> Ticket:
            ticket = Ticket(topic, group, name, self._next_epoch())
            known = self.roster(topic, group).leases
            for partition in range(len(self._records.lanes(topic))):
                if partition not in known or known[partition].owner == name:
                    self._give(ticket, partition, "")
            self._sit(ticket)
            return ticket

        return await self._writer.write(job, Until.COMMITTED)

    def version(self, *, look: bool) -> int:
        """A number that moves with every change of a group's membership; with `look`, also of another process'."""
        if look:
            self._watch.look()
        return self._known_version()

    def roster(self, topic: str, group: str) -> Roster:
        """The group's rows as they stand."""
        seats = self._database.query(
            "SELECT name, incarnation, expires_ms FROM seats WHERE topic = ? AND grp = ?", (topic, group)
        )
        leases = self._database.query(
            """SELECT partition, owner, epoch, coalesce(offset, 0) FROM leases
            LEFT JOIN offsets USING (topic, grp, partition) WHERE topic = ? AND grp = ?""",
            (topic, group),
        )
        return Roster({name: Seat(*row) for name, *row in seats}, {number: Lease(*row) for number, *row in leases})

    async def attend(self, ticket: Ticket) -> Roster:
        """Renew the seat and take the member's turn."""
        return await self._writer.write(lambda: self._take_turn(ticket), Until.COMMITTED)

    async def leave(self, ticket: Ticket) -> None:
        """Free the member's seat and partitions, unless a newer one of its name has them."""

        def job() -> None:
            roster = self.roster(ticket.topic, ticket.group)
            seat = roster.seats.get(ticket.name)
            if seat is not None and seat.incarnation == ticket.incarnation:
                self._unseat(ticket, ticket.name)
                for partition, lease in roster.leases.items():
                    if lease.owner == ticket.name:
                        self._give(ticket, partition, "")

        await self._writer.write(job, Until.COMMITTED)

    async def commit(self, ticket: Ticket, epochs: Mapping[int, int], work: Work) -> Mapping[int, int]:
        """Check the epochs, then make everything true; see the port for the order."""
        admit(ticket.topic, work.outputs)
        for outcome in work.outcomes:
            admit(ticket.topic, outcome.events)

        def job() -> Mapping[int, int]:
            leases = self._owners(ticket)
            lost = sorted(p for p, epoch in epochs.items() if leases.get(p) != (ticket.name, epoch))
            if lost:
                raise lease_lost(ticket, lost)
            inbox = self._stores.inbox(ticket.group)
            if work.marks:
                inbox.mark_now(work.marks)
            if work.gates is not None:
                inbox.keep_gates_now(work.gates)
            published, save = inbox.settle(work.outcomes)
            self._stores.letters.write(work.letters)
            records = self._records.append(ticket.topic, [*published, *work.outputs])
            save(records)
            whole = work.follow(records) if work.follow and records else work
            self._stores.states.write(whole.states)
            self._stores.views.write(whole.views)
            done = [(ticket.topic, ticket.group, partition, offset) for partition, offset in whole.done.items()]
            _COMMIT_OFFSETS.write(self._database.connection, done)
            return whole.done

        return await self._writer.write(job, Until.COMMITTED)

    def listen(self, topic: str, types: frozenset[str] | None = None) -> asyncio.Future[None]:
        """A future that is done when the topic has new records of these types or a group has changed."""
        return self._watch.listen(topic, types)

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """The group's committed offsets; absent where it has none."""
        return dict(
            self._database.query("SELECT partition, offset FROM offsets WHERE topic = ? AND grp = ?", (topic, group))
        )

    def rewind(self, topic: str, group: str) -> None:
        """Inside a transaction: set the group back to the beginning. Its members lose what they have and begin anew."""
        self._database.connection.execute("DELETE FROM offsets WHERE topic = ? AND grp = ?", (topic, group))
        ticket = Ticket(topic, group, "", 0)
        for partition in self.roster(topic, group).leases:
            self._give(ticket, partition, "")

    def _take_turn(self, ticket: Ticket) -> Roster:
        roster = self.roster(ticket.topic, ticket.group)
        mine = turn(roster, ticket, self._clock.elapsed_ms())
        if mine.fenced:
            return roster
        self._sit(ticket)
        for name in mine.expired:
            self._unseat(ticket, name)
        for partition in mine.release:
            self._give(ticket, partition, "")
        for partition in mine.claim:
            self._give(ticket, partition, ticket.name)
        return self.roster(ticket.topic, ticket.group) if mine.moves else roster

    def _owners(self, ticket: Ticket) -> Mapping[int, tuple[str, int]]:
        """The group's leases as of this transaction; read anew only when membership has changed."""
        version = self._known_version()
        known = self._leases.get((ticket.topic, ticket.group))
        if known is None or known[0] != version:
            leases = self.roster(ticket.topic, ticket.group).leases
            known = version, {number: (lease.owner, lease.epoch) for number, lease in leases.items()}
            self._leases[ticket.topic, ticket.group] = known
        return known[1]

    def _known_version(self) -> int:
        if self._version is None:
            self._version = self._database.query("SELECT value FROM meta WHERE name = 'epoch'")[0][0]
        return self._version

    def _sit(self, ticket: Ticket) -> None:
        expires_ms = self._clock.elapsed_ms() + round(self.lease_s * 1_000)
        row = (ticket.topic, ticket.group, ticket.name, ticket.incarnation, expires_ms)
        self._database.connection.execute(_SEAT, row)

    def _unseat(self, ticket: Ticket, name: str) -> None:
        row = (ticket.topic, ticket.group, name)
        self._database.connection.execute("DELETE FROM seats WHERE topic = ? AND grp = ? AND name = ?", row)
        self._next_epoch()

    def _give(self, ticket: Ticket, partition: int, owner: str) -> None:
        row = (ticket.topic, ticket.group, partition, owner, self._next_epoch())
        self._database.connection.execute(_LEASE, row)

    def _next_epoch(self) -> int:
        """A number never given before; that it moved is known to this process at once, and rung after the commit."""
        sql = "UPDATE meta SET value = value + 1 WHERE name = 'epoch' RETURNING value"
        self._version = int(self._database.query(sql)[0][0])
        self._writer.after_commit(self._bell.ring_all)
        return self._version
