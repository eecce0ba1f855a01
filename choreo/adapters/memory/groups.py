"""Consumer groups in memory: seats, leases, and the commit that makes a piece of work true at once.

Between the check of the epochs and the last change nothing is awaited: that is the transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from choreo.adapters.membership import Lease, Roster, Seat, Ticket, turn
from choreo.adapters.memory.dead_letters import MemoryDeadLetters
from choreo.adapters.memory.inbox import MemoryInbox
from choreo.adapters.memory.read_model import MemoryReadModel
from choreo.adapters.memory.state import MemoryStates
from choreo.adapters.memory.topics import Topics
from choreo.adapters.refusals import admit, lease_lost
from choreo.core.events import Record
from choreo.ports.clock import Clock
from choreo.ports.log import Work


class Stores(NamedTuple):
    """What a commit writes besides the log."""

    inbox: Callable[[str], MemoryInbox]
    letters: MemoryDeadLetters
    states: MemoryStates
    views: MemoryReadModel


class _Rows(NamedTuple):
    seats: dict[str, Seat]
    leases: dict[int, Lease]


class MemoryGroups:
    """`choreo.adapters.member.GroupHome` in memory."""

    def __init__(self, topics: Topics, stores: Stores, clock: Clock, lease_s: float) -> None:
        self._topics = topics
        self._stores = stores
        self._clock = clock
        self.lease_s = lease_s
        self._groups: dict[tuple[str, str], _Rows] = {}
        self._epoch = 0

    def join(self, topic: str, group: str, name: str) -> Ticket:
        """Take a seat; raises NotFoundError on an unknown topic."""
        partitions = len(self._topics.of(topic))
        rows = self._groups.setdefault((topic, group), _Rows({}, {}))
        for partition in range(partitions):
            rows.leases.setdefault(partition, Lease("", 0, 0))
        incarnation = self._next_epoch()
        self._free(rows, name)
        rows.seats[name] = Seat(incarnation, self._expiry_ms())
        self._topics.bell.ring_all()
        return Ticket(topic, group, name, incarnation)

    def version(self, *, look: bool = True) -> int:  # noqa: ARG002 - there is no other process
        """Every change of membership takes a new epoch."""
        return self._epoch

    def roster(self, topic: str, group: str) -> Roster:
        """The group's rows as they stand."""
        return Roster(*self._groups[topic, group])

    async def attend(self, ticket: Ticket) -> Roster:
        """Renew the seat and take the member's turn."""
        rows = self._groups[ticket.topic, ticket.group]
        mine = turn(Roster(*rows), ticket, self._clock.elapsed_ms())
        if not mine.fenced:
            rows.seats[ticket.name] = Seat(ticket.incarnation, self._expiry_ms())
            for name in mine.expired:
                del rows.seats[name]
            for partition in mine.release:
                rows.leases[partition] = rows.leases[partition]._replace(owner="", epoch=self._next_epoch())
            for partition in mine.claim:
                rows.leases[partition] = rows.leases[partition]._replace(owner=ticket.name, epoch=self._next_epoch())
            if mine.moves:
                self._topics.bell.ring_all()
        return Roster(*rows)

    async def leave(self, ticket: Ticket) -> None:
        """Free the member's seat and partitions, unless a newer one of its name has them."""
        rows = self._groups[ticket.topic, ticket.group]
        seat = rows.seats.get(ticket.name)
        if seat is not None and seat.incarnation == ticket.incarnation:
            del rows.seats[ticket.name]
            self._free(rows, ticket.name)
            self._topics.bell.ring_all()

    async def commit(self, ticket: Ticket, epochs: Mapping[int, int], work: Work) -> Mapping[int, int]:
        """Check the epochs, then make everything true; see the port for the order."""
        admit(ticket.topic, work.outputs)
        for outcome in work.outcomes:
            admit(ticket.topic, outcome.events)
        await asyncio.sleep(0)
        leases = self._groups[ticket.topic, ticket.group].leases
        lost = sorted(p for p, epoch in epochs.items() if (leases[p].owner, leases[p].epoch) != (ticket.name, epoch))
        if lost:
            raise lease_lost(ticket, lost)
        inbox = self._stores.inbox(ticket.group)
        inbox.mark_now(work.marks)
        if work.gates is not None:
            inbox.keep_gates_now(work.gates)
        published = inbox.record_now(work.outcomes)
        self._stores.letters.add_now(work.letters)
        self._topics.append(ticket.topic, [*published, *work.outputs])
        self._stores.states.save(work.states)
        self._stores.views.save(work.views)
        for partition, offset in work.done.items():
            leases[partition] = leases[partition]._replace(committed=offset)
        return work.done

    def scan(
        self, topic: str, partition: int, offset: int, limit: int, types: frozenset[str] | None
    ) -> tuple[Sequence[Record], int]:
        """At most `limit` records of these types from `offset` on, and the offset up to which was looked."""
        records = self._topics.partition(topic, partition)
        if types is None:
            found = records[offset : offset + limit]
            return found, offset + len(found)
        found = []
        for at in range(offset, len(records)):
            if records[at].event.type in types:
                found.append(records[at])
                if len(found) == limit:
                    return found, at + 1
        return found, max(offset, len(records))

    def end(self, topic: str, partition: int) -> int:
        """The offset the next record will get."""
        return len(self._topics.partition(topic, partition))

    def ends(self, topic: str) -> Sequence[int]:
        """As `end`, of every partition."""
        return [len(records) for records in self._topics.of(topic)]

    def listen(self, topic: str, types: frozenset[str] | None = None) -> asyncio.Future[None]:
        """A future that is done when the topic has new records of these types or a group has changed."""
        return self._topics.bell.listen(topic, types)

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """The group's committed offsets; empty if there is no such group."""
        rows = self._groups.get((topic, group))
        return {} if rows is None else {p: lease.committed for p, lease in rows.leases.items()}

    def rewind(self, topic: str, group: str) -> None:
        """Set the group back to the beginning; its members lose their partitions, and gain them anew from there."""
        rows = self._groups.get((topic, group))
        if rows is not None:
            for partition in rows.leases:
                rows.leases[partition] = Lease("", self._next_epoch(), 0)
            self._topics.bell.ring_all()

    def _free(self, rows: _Rows, owner: str) -> None:
        for partition, lease in rows.leases.items():
            if lease.owner == owner:
                rows.leases[partition] = lease._replace(owner="", epoch=self._next_epoch())

    def _next_epoch(self) -> int:
        self._epoch += 1
        return self._epoch

    def _expiry_ms(self) -> int:
        return self._clock.elapsed_ms() + round(self.lease_s * 1_000)
