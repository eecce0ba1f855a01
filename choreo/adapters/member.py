"""A member of a consumer group, for homes that keep the group's rows themselves (SQLite, memory).

Knows the order of polling: who owns what, then records of all partitions fairly, then waiting. Where rows and records
lie is its home's business; who gets which partition is `membership`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from choreo.adapters.membership import Roster, Ticket, turn
from choreo.adapters.refusals import lease_lost
from choreo.core.errors import LeaseLostError
from choreo.core.events import Record
from choreo.ports.clock import Clock
from choreo.ports.log import Gained, Poll, Work


class GroupHome(Protocol):
    """What a member asks of the home that keeps its group."""

    lease_s: float

    def version(self, *, look: bool) -> int:
        """A number that moves with every change of a group's membership; with `look`, also of another process'."""
        ...

    def roster(self, topic: str, group: str) -> Roster:
        """The group's rows as they stand."""
        ...

    async def attend(self, ticket: Ticket) -> Roster:
        """Renew the member's seat and take its turn, in one transaction; returns the rows after it."""
        ...

    async def leave(self, ticket: Ticket) -> None:
        """Free the member's seat and partitions at once."""
        ...

    async def commit(self, ticket: Ticket, epochs: Mapping[int, int], work: Work) -> Mapping[int, int]:
        """As `Member.commit`; `epochs` are those of the partitions the member believes to own. Returns what is done."""
        ...

    def scan(
        self, topic: str, partition: int, offset: int, limit: int, types: frozenset[str] | None
    ) -> tuple[Sequence[Record], int]:
        """At most `limit` records of these types from `offset` on, and the offset up to which was looked."""
        ...

    def end(self, topic: str, partition: int) -> int:
        """The offset the next record will get."""
        ...

    def ends(self, topic: str) -> Sequence[int]:
        """As `end`, of every partition, without a look at what other processes have written since the last one."""
        ...

    def listen(self, topic: str, types: frozenset[str] | None = None) -> asyncio.Future[None]:
        """A future that is done when the topic has new records of these types (None: any) or a group has changed.

        What another process writes may wake whatever its type.
        """
        ...


class GroupMember:
    """`choreo.ports.log.Member` over a `GroupHome`."""

    def __init__(self, home: GroupHome, ticket: Ticket, clock: Clock, types: frozenset[str] | None) -> None:
        self._home = home
        self._ticket = ticket
        self._clock = clock
        self._types = types
        self._epochs: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._awaited: dict[int, int] = {}
        """Gained partitions not yet read to the end they had: reaching it is news, even when nothing is of interest."""
        self._read: dict[int, int] = {}
        """Where reading has moved since the last poll that returned."""
        self._paused: set[int] = set()
        self._first = 0
        self._version = -1
        self._renew_at_ms = 0
        self._fenced = False
        self._news: asyncio.Future[None] | None = None
        self._timer: asyncio.Future[None] | None = None
        self._timer_ms = 0
        """When the timer fires. It is kept from poll to poll: one that fires too early costs a look at the ends."""

    async def poll(self, limit: int, timeout_s: float) -> Poll:
        """At most `limit` records; see the port. A partition both lost and gained was lost first.

        Raises LeaseLostError once another process has joined under this member's name.
        """
        # A member whose log is full never waits: it must let others run all the same.
        await asyncio.sleep(0)
        until_ms = self._clock.elapsed_ms() + round(timeout_s * 1_000)
        look = True
        while True:
            gained, lost = await self._attend(look=look)
            records, behind = self._collect(limit)
            caught_up, now_ms = self._caught_up(), self._clock.elapsed_ms()
            if records or gained or lost or caught_up or now_ms >= until_ms:
                read, self._read = self._read, {}
                return Poll(records, gained, lost, read, full=len(records) >= limit)
            if behind:
                await asyncio.sleep(0)
            else:
                await self._wait(min(until_ms, self._renew_at_ms), now_ms)
                # Whoever rang has looked.
                look = self._timer is None

    async def commit(self, work: Work) -> None:
        """Make the work true, or raise LeaseLostError with nothing done."""
        touched = {*work.done, *(row.partition for row in work.states), *(view.partition for view in work.views)}
        strange = sorted(touched - self._epochs.keys())
        if strange:
            raise lease_lost(self._ticket, strange)
        done = await self._home.commit(self._ticket, {p: self._epochs[p] for p in touched}, work)
        for partition, offset in done.items():
            # What was followed need not be brought.
            if offset > self._next.get(partition, offset):
                self._next[partition] = offset

    def pause(self, partitions: Sequence[int]) -> None:
        """Bring nothing of these until `resume`."""
        self._paused.update(partitions)

    def resume(self, partitions: Sequence[int]) -> None:
        """Undo `pause`."""
        self._paused.difference_update(partitions)
        self._ring()  # a poll that waits may have something now

    async def close(self) -> None:
        """Leave the group at once."""
        self._epochs.clear()
        self._ring()
        if self._timer is not None:
            self._timer.cancel()
        if not self._fenced:
            await self._home.leave(self._ticket)

    async def _attend(self, *, look: bool) -> tuple[list[Gained], list[int]]:
        """Renew, give up and take what is due; only looks when nothing is due."""
        version, now_ms = self._home.version(look=look), self._clock.elapsed_ms()
        if version == self._version and now_ms < self._renew_at_ms:
            return [], []
        if self._fenced:
            raise LeaseLostError(
                "another process has joined under this name and owns its partitions now",
                where=self._ticket.place,
                remedy="Stop this process, or give each process a name of its own.",
            )
        roster = self._home.roster(self._ticket.topic, self._ticket.group)
        mine = turn(roster, self._ticket, now_ms)
        if not mine.fenced and (mine.moves or now_ms >= self._renew_at_ms):
            roster = await self._home.attend(self._ticket)
            mine = turn(roster, self._ticket, now_ms)
            # A third of the lease: two renewals may fail or be late before anybody takes over.
            self._renew_at_ms = now_ms + round(self._home.lease_s * 1_000 / 3)
        self._fenced = mine.fenced
        self._version = -1 if mine.fenced else version
        return self._settle(roster)

    def _settle(self, roster: Roster) -> tuple[list[Gained], list[int]]:
        """Compare what the rows say with what this member had."""
        owned = {
            p: lease for p, lease in roster.leases.items() if lease.owner == self._ticket.name and not self._fenced
        }
        lost = [p for p, epoch in self._epochs.items() if p not in owned or owned[p].epoch != epoch]
        for partition in lost:
            del self._epochs[partition], self._next[partition]
            self._awaited.pop(partition, None)
            self._read.pop(partition, None)
            self._paused.discard(partition)
        gained = []
        for partition, lease in sorted(owned.items()):
            if partition not in self._epochs:
                end = self._home.end(self._ticket.topic, partition)
                self._epochs[partition] = lease.epoch
                self._next[partition] = lease.committed
                if lease.committed < end:
                    self._awaited[partition] = end
                gained.append(Gained(partition, lease.committed, end))
        return gained, lost

    def _collect(self, limit: int) -> tuple[list[Record], bool]:
        """An equal share of `limit` from each partition, beginning with another one at each poll; then what is left.

        Also says whether a partition has more to look at.
        """
        ends = self._home.ends(self._ticket.topic)
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
                batch, read = self._home.scan(self._ticket.topic, partition, offset, room, self._types)
                if read > offset:
                    self._next[partition] = self._read[partition] = read
                    records += batch
                    more.append(partition)
            active = more
        return records, bool(active)

    def _caught_up(self) -> bool:
        """Whether a gained partition has just been read to the end it had."""
        reached = [p for p, end in self._awaited.items() if self._next[p] >= end]
        for partition in reached:
            del self._awaited[partition]
        return bool(reached)

    async def _wait(self, until_ms: int, now_ms: int) -> None:
        """Until something is new, or that moment. Who waits again goes on listening: most news are about others."""
        if self._news is None or self._news.done():
            self._news = self._home.listen(self._ticket.topic, self._types)
        if self._timer is None or self._timer_ms > until_ms:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_ms = until_ms
            self._timer = asyncio.ensure_future(self._clock.sleep((until_ms - now_ms) / 1_000))
            self._timer.add_done_callback(self._fired)
        await self._news

    def _fired(self, timer: asyncio.Future[None]) -> None:
        if timer is self._timer:
            self._timer = None
            self._ring()

    def _ring(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
