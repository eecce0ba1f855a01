"""A consumer of a group, for backends that keep the group's rows themselves (SQLite, memory).

It polls in this order: assign partitions, read records of all partitions fairly, wait. Its backend keeps rows and
records; `assignment` decides the owners of partitions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from choreo.adapters.assignment import GroupState, MemberId, rebalance
from choreo.adapters.errors import lease_lost
from choreo.core.errors import LeaseLostError
from choreo.core.events import Record
from choreo.ports.clock import Clock
from choreo.ports.log import Admits, Assigned, CommitBatch, Poll


def admitted(records: Sequence[Record], read: int, admits: Admits | None) -> tuple[Sequence[Record], int]:
    """Return a scan's result without the records that `admits` refuses."""
    if admits is not None:
        records = [record for record in records if admits(record.event.type, record.event.key)]
    return records, read


class GroupBackend(Protocol):
    """The methods that a consumer needs from the backend that keeps its group."""

    lease_s: float

    def version(self, *, look: bool) -> int:
        """Return a number that moves with every change of a group's membership.

        `look`: also with the changes of other processes.
        """
        ...

    def group_state(self, topic: str, group: str) -> GroupState:
        """Return the group's state."""
        ...

    async def renew(self, member_id: MemberId) -> GroupState:
        """Renew the membership and rebalance for this member, in one transaction; return the rows after it."""
        ...

    async def leave(self, member_id: MemberId) -> None:
        """Delete the membership and free its partitions at once."""
        ...

    async def commit(
        self, member_id: MemberId, epochs: Mapping[int, int], commit_batch: CommitBatch
    ) -> Mapping[int, int]:
        """Commit as `Consumer.commit` does; `epochs` are those of the partitions that the member believes to own.

        Returns the committed offset of each partition.
        """
        ...

    def scan(
        self, topic: str, partition: int, offset: int, limit: int, types: frozenset[str] | None
    ) -> tuple[Sequence[Record], int]:
        """Return at most `limit` records of these types from `offset` on, and the offset up to which it looked."""
        ...

    def end(self, topic: str, partition: int) -> int:
        """Return the offset of the next record."""
        ...

    def ends(self, topic: str) -> Sequence[int]:
        """Return the ends of all partitions, without a look at later writes of other processes."""
        ...

    def listen(self, topic: str, types: frozenset[str] | None = None) -> asyncio.Future[None]:
        """Return a future that is done when the topic has new records of these types or a group has changed.

        None: of any type. A write of another process may complete it with records of any type.
        """
        ...


class GroupConsumer:
    """`choreo.ports.log.Consumer` over a `GroupBackend`."""

    def __init__(self, backend: GroupBackend, member_id: MemberId, clock: Clock, types: frozenset[str] | None) -> None:
        self._backend = backend
        self._member_id = member_id
        self._clock = clock
        self._types = types
        self._epochs: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._awaited: dict[int, int] = {}
        """Assigned partitions that are not yet read to the end they had at assignment.

        Reaching that end is reported, even when there is no record of interest.
        """
        self._read: dict[int, int] = {}
        """Offsets to which reading has moved since the last poll that returned."""
        self._paused: set[int] = set()
        self._first = 0
        self._version = -1
        self._renew_at_ms = 0
        self._fenced = False
        self._wakeup: asyncio.Future[None] | None = None
        self._timer: asyncio.Future[None] | None = None
        self._timer_ms = 0
        """Time of the timer. It is kept from poll to poll: a timer that fires too early costs a look at the ends."""

    async def poll(self, limit: int, timeout_s: float) -> Poll:
        """Return at most `limit` records; see the port. A partition both revoked and assigned was revoked first.

        Raises LeaseLostError once another process has joined under this member's name.
        """
        # A consumer with many new records never waits: it must let other tasks run all the same.
        await asyncio.sleep(0)
        until_ms = self._clock.elapsed_ms() + round(timeout_s * 1_000)
        look = True
        while True:
            assigned, revoked = await self._renew(look=look)
            records, behind = self._collect(limit)
            caught_up, now_ms = self._caught_up(), self._clock.elapsed_ms()
            if records or assigned or revoked or caught_up or now_ms >= until_ms:
                read, self._read = self._read, {}
                return Poll(records, assigned, revoked, read, full=len(records) >= limit)
            if behind:
                await asyncio.sleep(0)
            else:
                await self._wait(min(until_ms, self._renew_at_ms), now_ms)
                # The writer that woke this consumer has looked at the file.
                look = self._timer is None

    async def commit(self, commit_batch: CommitBatch) -> None:
        """Commit the work, or raise LeaseLostError with nothing changed."""
        touched = {
            *commit_batch.done,
            *(row.partition for row in commit_batch.states),
            *(view.partition for view in commit_batch.views),
        }
        strange = sorted(touched - self._epochs.keys())
        if strange:
            raise lease_lost(self._member_id, strange)
        done = await self._backend.commit(self._member_id, {p: self._epochs[p] for p in touched}, commit_batch)
        for partition, offset in done.items():
            # A poll need not return the records that a commit has handled.
            if offset > self._next.get(partition, offset):
                self._next[partition] = offset

    def pause(self, partitions: Sequence[int]) -> None:
        """Return no records of these partitions until `resume`."""
        self._paused.update(partitions)

    def resume(self, partitions: Sequence[int]) -> None:
        """End the effect of `pause`."""
        self._paused.difference_update(partitions)
        self._notify()  # a poll that waits may have records now

    async def close(self) -> None:
        """Leave the group at once."""
        self._epochs.clear()
        self._notify()
        if self._timer is not None:
            self._timer.cancel()
        if not self._fenced:
            await self._backend.leave(self._member_id)

    async def _renew(self, *, look: bool) -> tuple[list[Assigned], list[int]]:
        """Renew the leases, give up and take partitions when due; only look when nothing is due."""
        version, now_ms = self._backend.version(look=look), self._clock.elapsed_ms()
        if version == self._version and now_ms < self._renew_at_ms:
            return [], []
        if self._fenced:
            raise LeaseLostError(
                "another process has joined under this name and owns its partitions now",
                where=self._member_id.place,
                remedy="Stop this process, or give each process a name of its own.",
            )
        group_state = self._backend.group_state(self._member_id.topic, self._member_id.group)
        mine = rebalance(group_state, self._member_id, now_ms)
        if not mine.fenced and (mine.moves or now_ms >= self._renew_at_ms):
            group_state = await self._backend.renew(self._member_id)
            mine = rebalance(group_state, self._member_id, now_ms)
            # A third of the lease: two renewals may fail or be late before another member takes over.
            self._renew_at_ms = now_ms + round(self._backend.lease_s * 1_000 / 3)
        self._fenced = mine.fenced
        self._version = -1 if mine.fenced else version
        return self._settle(group_state)

    def _settle(self, group_state: GroupState) -> tuple[list[Assigned], list[int]]:
        """Compare the rows with the partitions that this member had."""
        owned = {
            p: lease
            for p, lease in group_state.leases.items()
            if lease.owner == self._member_id.name and not self._fenced
        }
        revoked = [p for p, epoch in self._epochs.items() if p not in owned or owned[p].epoch != epoch]
        for partition in revoked:
            del self._epochs[partition], self._next[partition]
            self._awaited.pop(partition, None)
            self._read.pop(partition, None)
            self._paused.discard(partition)
        assigned = []
        for partition, lease in sorted(owned.items()):
            if partition not in self._epochs:
                end = self._backend.end(self._member_id.topic, partition)
                self._epochs[partition] = lease.epoch
                self._next[partition] = lease.committed
                if lease.committed < end:
                    self._awaited[partition] = end
                assigned.append(Assigned(partition, lease.committed, end))
        return assigned, revoked

    def _collect(self, limit: int) -> tuple[list[Record], bool]:
        """Collect an equal share of `limit` from each partition, then the rest.

        Each poll begins with another partition. Also returns whether a partition has more records.
        """
        ends = self._backend.ends(self._member_id.topic)
        active = [p for p, offset in self._next.items() if offset < ends[p] and p not in self._paused]
        if not active:
            return [], False
        active.sort()
        self._first += 1
        first = self._first % len(active)
        active = active[first:] + active[:first]
        records: list[Record] = []
        for quota in (max(1, limit // len(active)), limit):
            more = []
            for partition in active:
                room = min(quota, limit - len(records))
                if room <= 0:
                    return records, True
                offset = self._next[partition]
                batch, read = self._backend.scan(self._member_id.topic, partition, offset, room, self._types)
                if read > offset:
                    self._next[partition] = self._read[partition] = read
                    records += batch
                    more.append(partition)
            active = more
        return records, bool(active)

    def _caught_up(self) -> bool:
        """Return whether an assigned partition has just been read to the end it had."""
        reached = [p for p, end in self._awaited.items() if self._next[p] >= end]
        for partition in reached:
            del self._awaited[partition]
        return bool(reached)

    async def _wait(self, until_ms: int, now_ms: int) -> None:
        """Wait for new records, or until that time.

        The listener stays between waits: most wake-ups concern other topics.
        """
        if self._wakeup is None or self._wakeup.done():
            self._wakeup = self._backend.listen(self._member_id.topic, self._types)
        if self._timer is None or self._timer_ms > until_ms:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_ms = until_ms
            self._timer = asyncio.ensure_future(self._clock.sleep((until_ms - now_ms) / 1_000))
            self._timer.add_done_callback(self._fired)
        await self._wakeup

    def _fired(self, timer: asyncio.Future[None]) -> None:
        if timer is self._timer:
            self._timer = None
            self._notify()

    def _notify(self) -> None:
        if self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)
