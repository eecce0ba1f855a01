"""Consumer groups in memory: memberships, leases, and the commit of a batch of work.

Nothing is awaited between the check of the epochs and the last change, so a commit is a transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from choreo.adapters.assignment import GroupState, Lease, MemberId, Membership, live_members, rebalance
from choreo.adapters.errors import admit_batch, lease_lost
from choreo.adapters.memory.dead_letters import MemoryDeadLetters
from choreo.adapters.memory.inbox import MemoryInbox
from choreo.adapters.memory.read_model import MemoryReadModel
from choreo.adapters.memory.state import MemoryStates
from choreo.adapters.memory.topics import Topics
from choreo.core.events import Record
from choreo.ports.clock import Clock
from choreo.ports.log import CommitBatch, GroupMember


class Stores(NamedTuple):
    """The stores that a commit writes besides the log."""

    inbox: Callable[[str], MemoryInbox]
    dead_letters: MemoryDeadLetters
    states: MemoryStates
    views: MemoryReadModel


class _Rows(NamedTuple):
    memberships: dict[str, Membership]
    leases: dict[int, Lease]


class MemoryGroups:
    """`choreo.adapters.consumer.GroupBackend` in memory."""

    def __init__(self, topics: Topics, stores: Stores, clock: Clock, lease_s: float) -> None:
        self._topics = topics
        self._stores = stores
        self._clock = clock
        self.lease_s = lease_s
        self._groups: dict[tuple[str, str], _Rows] = {}
        self._epoch = 0

    def join(self, topic: str, group: str, name: str) -> MemberId:
        """Create a membership; raises NotFoundError on an unknown topic."""
        partitions = len(self._topics.of(topic))
        rows = self._groups.setdefault((topic, group), _Rows({}, {}))
        for partition in range(partitions):
            rows.leases.setdefault(partition, Lease("", 0, 0))
        incarnation = self._next_epoch()
        self._free(rows, name)
        rows.memberships[name] = Membership(incarnation, self._expiry_ms())
        self._topics.notifier.notify_all()
        return MemberId(topic, group, name, incarnation)

    def version(self, *, look: bool = True) -> int:  # noqa: ARG002 - there is no other process
        """Return a number that moves with every change of a group's membership."""
        return self._epoch

    def group_state(self, topic: str, group: str) -> GroupState:
        """Return the group's state."""
        return GroupState(*self._groups[topic, group])

    async def renew(self, member_id: MemberId) -> GroupState:
        """Renew the membership and return the state of the group, for the member's part in the rebalance."""
        rows = self._groups[member_id.topic, member_id.group]
        mine = rebalance(GroupState(*rows), member_id, self._clock.elapsed_ms())
        if not mine.fenced:
            rows.memberships[member_id.name] = Membership(member_id.incarnation, self._expiry_ms())
            for name in mine.expired:
                del rows.memberships[name]
            for partition in mine.release:
                rows.leases[partition] = rows.leases[partition]._replace(owner="", epoch=self._next_epoch())
            for partition in mine.claim:
                rows.leases[partition] = rows.leases[partition]._replace(owner=member_id.name, epoch=self._next_epoch())
            if mine.moves:
                self._topics.notifier.notify_all()
        return GroupState(*rows)

    async def leave(self, member_id: MemberId) -> None:
        """Delete the membership and free its partitions, unless a newer member of its name has them."""
        rows = self._groups[member_id.topic, member_id.group]
        membership = rows.memberships.get(member_id.name)
        if membership is not None and membership.incarnation == member_id.incarnation:
            del rows.memberships[member_id.name]
            self._free(rows, member_id.name)
            self._topics.notifier.notify_all()

    async def commit(
        self, member_id: MemberId, epochs: Mapping[int, int], commit_batch: CommitBatch
    ) -> Mapping[int, int]:
        """Check the epochs, then write the whole batch; the port describes the order."""
        admit_batch(member_id.topic, commit_batch)
        await asyncio.sleep(0)
        leases = self._groups[member_id.topic, member_id.group].leases
        lost = sorted(p for p, epoch in epochs.items() if (leases[p].owner, leases[p].epoch) != (member_id.name, epoch))
        if lost:
            raise lease_lost(member_id, lost)
        inbox = self._stores.inbox(member_id.group)
        inbox.mark_now(commit_batch.marks)
        if commit_batch.gates is not None:
            inbox.keep_gates_now(commit_batch.gates)
        published = inbox.record_now(commit_batch.outcomes)
        self._stores.dead_letters.add_now(commit_batch.dead_letters)
        self._topics.append(member_id.topic, [*published, *commit_batch.outputs])
        self._stores.states.save(commit_batch.states)
        self._stores.views.save(commit_batch.views)
        for partition, offset in commit_batch.done.items():
            leases[partition] = leases[partition]._replace(committed=offset)
        return commit_batch.done

    def scan(
        self, topic: str, partition: int, offset: int, limit: int, types: frozenset[str] | None
    ) -> tuple[Sequence[Record], int]:
        """Return at most `limit` records of these types from `offset` on, and the offset up to which it looked."""
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
        """Return the offset of the next record."""
        return len(self._topics.partition(topic, partition))

    def ends(self, topic: str) -> Sequence[int]:
        """Return the ends of all partitions."""
        return [len(records) for records in self._topics.of(topic)]

    def listen(self, topic: str, types: frozenset[str] | None = None) -> asyncio.Future[None]:
        """Return a future that is done when the topic has new records of these types or a group has changed."""
        return self._topics.notifier.listen(topic, types)

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """Return the group's committed offsets; empty if there is no such group."""
        rows = self._groups.get((topic, group))
        return {} if rows is None else {p: lease.committed for p, lease in rows.leases.items()}

    def members(self, topic: str, group: str) -> list[GroupMember]:
        """Return the group's live members; none if there is no such group."""
        rows = self._groups.get((topic, group))
        return [] if rows is None else live_members(GroupState(*rows), self._clock.elapsed_ms())

    def rewind(self, topic: str, group: str) -> None:
        """Set the group back to the beginning; its members lose their partitions and get them again."""
        rows = self._groups.get((topic, group))
        if rows is not None:
            for partition in rows.leases:
                rows.leases[partition] = Lease("", self._next_epoch(), 0)
            self._topics.notifier.notify_all()

    def _free(self, rows: _Rows, owner: str) -> None:
        for partition, lease in rows.leases.items():
            if lease.owner == owner:
                rows.leases[partition] = lease._replace(owner="", epoch=self._next_epoch())

    def _next_epoch(self) -> int:
        self._epoch += 1
        return self._epoch

    def _expiry_ms(self) -> int:
        return self._clock.elapsed_ms() + round(self.lease_s * 1_000)
