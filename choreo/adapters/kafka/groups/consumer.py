"""A member of a consumer group: polls that never wait for the broker's threads, and the commit in its order.

One fetch is always under way, so that the group has heartbeats of this member while its host works. Before records of
an assigned partition are delivered, the cluster is asked for the partition's first and last offset. The inbox id in
the group's last commit is compared with the inbox, so that an inbox that lost its data is not taken for a new one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message
from msgspec.structs import replace

from choreo.adapters.assignment import MemberId
from choreo.adapters.commit_writer import CommitWriter
from choreo.adapters.errors import lease_lost
from choreo.adapters.kafka.cluster.log_identity import Origin, OriginWatch
from choreo.adapters.kafka.errors import MEMBERSHIP_GONE, PARTITION_END, REFUSED, complaint, for_good
from choreo.adapters.kafka.groups.commits import IdentityNote, OffsetCommits
from choreo.adapters.kafka.groups.conditions import Offsets, StallWatchdog, StaticMembership, Truncation
from choreo.adapters.kafka.groups.fetch_buffer import Backpressure, BatchLinger, FetchBuffer
from choreo.adapters.kafka.groups.thread import ConsumerThread, Job
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.log_clock import LogTime
from choreo.adapters.notifier import Types
from choreo.core.errors import LeaseLostError, NotFoundError, ReplacedLogError, StorageError
from choreo.ports.dependencies import Dependencies
from choreo.ports.log import Assigned, CommitBatch, Poll

FETCH_S = 0.2
"""The longest wait of a fetch; leaving the group waits for the fetch."""
LEAVE_S = 2.0
"""How long leaving waits for the fetch on a busy machine: ten times as long."""
GRAIN_S = 0.002
"""The least wait of a poll for the fetch under way: a caller with a timeout of 0 must not spin."""
AHEAD = 2_000
"""Messages kept here, four polls of a step host: a fetch brings the missing ones."""

FRESH_S = 0.01
"""How long a fetch of messages that the client has already may take."""
LOOK_AGAIN_S = 0.5
"""Between two requests for a partition's first offset, while the cluster does not answer."""

_log = logging.getLogger(__name__)


class Lookups(NamedTuple):
    """Requests of a member about its topic, through other clients than its consumer.

    Each raises StorageError while the cluster does not answer.
    """

    ends: Offsets
    stable_ends: Offsets
    """Returns the offsets up to which partitions can be read: an open transaction lies between this and the end."""
    stamp: Callable[[int, int], Awaitable[int]]
    """Returns the log's time of the record at this partition and offset."""
    probe: Callable[[str, Mapping[int, int]], Awaitable[None]]
    """Requests a group's offsets and reads at one of these places; raises StorageError where that is refused."""
    log_time: LogTime
    origin: Origin
    """The topic's identity when the member joined."""
    watch: OriginWatch
    """Checks that the topic still has this identity."""
    dependencies: Dependencies
    """Takes reports of conditions that do not pass by themselves."""
    cuts: Truncation
    """The records that the group has missed."""
    static: StaticMembership
    """This process's use of its instance in the group."""

    async def to_the_end(self, assigned: Sequence[Assigned]) -> list[Assigned]:
        """Return these partitions with the ends of the log; a consumer has stable ends only.

        Records behind an open transaction are read as well before a partition is worked. Raises ReplacedLogError,
        before any read, where the topic is another log than the member joined.
        """
        await self.watch.look()
        ends = await self.ends([one.partition for one in assigned])
        return [replace(one, end=max(one.end, ends[one.partition])) for one in assigned]


class KafkaConsumer:
    """`choreo.ports.log.Consumer` on Kafka. Make it on the loop that polls it."""

    def __init__(
        self, options: KafkaOptions, writer: CommitWriter, member_id: MemberId, types: Types, ask: Lookups
    ) -> None:
        self._options = options
        self._writer = writer
        self._member_id = member_id
        self._buffer = FetchBuffer(member_id.topic, types, ask.log_time, ask.origin.log_id)
        self._paused: frozenset[int] = frozenset()
        self._arriving: set[int] = set()
        self._revoked: list[int] = []
        self._leaving: set[int] = set()
        """Reported as revoked, and still this member's until its host polls again."""
        self._asked: list[Job] = []
        self._reported: list[Job] = []
        """Called when the host has settled the revoked partitions: those not reported to it yet, and the reported."""
        self._linger = BatchLinger()
        self._fenced: KafkaError | None = None
        self._is_refused = False
        self._closed = False
        self._fetching: asyncio.Future[list[Message]] | None = None
        self._looking: asyncio.Task[list[Assigned]] | None = None
        self._wakeup = asyncio.Event()
        self._thread = ConsumerThread(options, member_id, self, self._buffer.is_awaited)
        self._backpressure = Backpressure(self._buffer, self._thread)
        self._static = ask.static
        self._ask, where = ask, lambda: self._buffer.places(self._paused)
        self._watchdog = StallWatchdog(member_id, ask.stable_ends, where, options.still_s, ask.dependencies)
        self._identity = IdentityNote(member_id.topic, ask.origin, writer.memory_of(member_id), ask.cuts, self._thread)
        self._offsets = OffsetCommits(options, member_id, self._thread, self._identity)

    async def poll(self, limit: int, timeout_s: float) -> Poll:
        """Return at most `limit` records; see the port. A poll confirms that revoked partitions are settled.

        Raises LeaseLostError if another process has joined under this member's instance, records in the log do not
        arrive, the client no longer answers or the topic is another log; StorageError on a refusal by the broker.
        """
        if self._reported:
            await self._offsets.commit_before_revocation()
            _let_go(self._reported)
        self._watchdog.check()
        self._ask.watch.check()
        self._static.goes_on()
        if self._thread.unanswered:
            raise LeaseLostError("the client no longer answers: a new one is made", where=self._member_id.place)
        if self._is_refused:
            self._fetch()
            self._unpack()
            await self._ask.probe(self._member_id.group, self._buffer.places(())[0])
            self._is_refused = False  # the client reports this refusal only once
        until = time.monotonic() + timeout_s
        if timeout_s > 0 and await self._linger.gather(self._wakeup):
            await self._drain()
        waited = False
        while True:
            self._fetch()
            self._unpack()
            assigned = self._arrived()
            revoked, self._revoked = self._revoked, []
            await self._buffer.stamp_first(self._ask.stamp)
            records = self._buffer.take(limit, self._paused)
            self._ask.cuts.jumped(self._buffer.jumps())
            caught_up, left_s = self._buffer.caught_up(), until - time.monotonic()
            if records or assigned or revoked or caught_up or (waited and left_s <= 0):
                self._reported, self._asked = self._asked, []
                if not (records or assigned or revoked):
                    self._offsets.commit_in_background(idle=True)
                self._linger.saw(len(records), limit)
                full = self._buffer.is_cut or len(records) >= limit
                return Poll(records, assigned, revoked, self._buffer.moved(), full)
            if self._fenced is not None:
                raise _out(self._member_id)
            await self._wait(max(GRAIN_S, left_s))
            waited = True

    async def commit(self, work: CommitBatch) -> None:
        """Write dead letters, outcomes, outputs, states and views, offsets: each when the one before is durable.

        Offsets beside other work are committed in the background. Raises LeaseLostError before any write if a partition
        is known to be another's, after the writes if the group refuses offsets alone; StorageError, ConflictError.
        """
        self._require({*work.done, *(row.partition for row in work.states), *(view.partition for view in work.views)})
        others = work.outcomes or work.outputs or work.dead_letters or work.states or work.views
        await self._writer.commit(self._member_id, work, partial(self._move, alone=not others))

    def pause(self, partitions: Sequence[int]) -> None:
        """Deliver nothing of these partitions until `resume`."""
        self._paused |= set(partitions)

    def resume(self, partitions: Sequence[int]) -> None:
        """Undo `pause`."""
        self._paused -= set(partitions)
        self._backpressure.steer(self._paused)
        self._wakeup.set()

    async def close(self) -> None:
        """Leave the group at once; a static member keeps its partitions for the session timeout, to come back to."""
        self._closed = True
        self._watchdog.close()
        self._ask.watch.close()
        self._offsets.send()  # on leaving, the client sends its pending offsets
        _let_go(self._reported)
        _let_go(self._asked)
        if self._looking is not None:
            self._looking.cancel()
        if self._fetching is not None:
            # With a bound: the fetch waits behind a call of the client that may never return.
            await asyncio.wait((self._fetching,), timeout=LEAVE_S)
        await self._thread.close()
        self.on_revoked(list(self._buffer.partitions()))

    def on_assigned(self, partitions: Sequence[int]) -> None:
        """Note that these partitions are this member's now. Called by the consumer thread."""
        for partition in partitions:
            self._buffer.add(partition)
            self._arriving.add(partition)
        self._wakeup.set()

    def on_revoking(self, partitions: Sequence[int], settle: Job) -> None:
        """Note that these partitions are to be settled and given up. Called by the consumer thread."""
        known = [p for p in partitions if p in self._buffer.partitions() and p not in self._arriving]
        self._lose(partitions)
        self._leaving.update(known)
        self._asked.append(settle)
        if self._closed or not known:
            _let_go(self._asked)

    def on_revoked(self, partitions: Sequence[int]) -> None:
        """Note that these partitions are another member's, or will be. Called by the consumer thread."""
        self._leaving.difference_update(partitions)
        self._offsets.forget(partitions)
        self._lose(partitions)

    def on_committed(self, offsets: Mapping[int, int], failure: str) -> None:
        """Take the group's answer to a background commit. Called by the consumer thread."""
        self._offsets.on_committed(offsets, failure)

    async def _move(self, done: Mapping[int, int], *, alone: bool) -> None:
        """Commit offsets; `alone`, or before a revocation, wait for the answer."""
        self._require(done)  # revoked during the write: the group takes an offset from any member
        self._offsets.reached(done)
        if alone or self._leaving:
            await self._offsets.commit()
        else:
            self._offsets.commit_in_background()

    def _lose(self, partitions: Iterable[int]) -> None:
        mine = [partition for partition in partitions if partition in self._buffer.partitions()]
        self._ask.cuts.revoked(mine)
        for partition in mine:
            self._buffer.drop(partition)
            if partition not in self._arriving:  # else the host never learned of the partition
                self._revoked.append(partition)
        if self._looking is not None and self._arriving.intersection(mine):
            self._looking.cancel()
            self._looking = None
        self._arriving.difference_update(mine)
        self._backpressure.forget(mine)
        self._paused -= set(mine)
        self._wakeup.set()

    def _fetch(self) -> None:
        """Start a fetch unless one is under way, for as many messages as there is room for."""
        if self._fetching is not None:
            return
        self._backpressure.steer(self._paused)
        room = AHEAD - self._buffer.size(set(self._buffer.partitions()) - self._paused)
        busy = self._buffer.size(self._buffer.partitions()) > 0
        self._fetching = self._thread.fetch(max(1, room), FETCH_S, busy=busy)

    def _unpack(self) -> None:
        """Take over the messages of the fetch; raises StorageError on a refusal by the broker."""
        if self._fetching is None or not self._fetching.done():
            return
        fetching, self._fetching = self._fetching, None
        try:
            messages = fetching.result()
        except KafkaException as error:
            raise complaint(error, self._options, self._member_id.place) from error
        failures = []
        for message in messages:
            failure = message.error()
            if failure is None or failure.code() == PARTITION_END:
                self._buffer.put(message)
            else:
                failures.append(failure)
        for failure in failures:
            self._judge(failure)
        self._fetch()

    def _judge(self, failure: KafkaError) -> None:
        code = failure.code()
        if for_good(failure) or code in MEMBERSHIP_GONE:
            self._static.put_out()
            self._fenced = failure
            self.on_revoked(list(self._buffer.partitions()))
        elif code in REFUSED:
            self._is_refused = True
            raise complaint(failure, self._options, self._member_id.place)
        else:
            _log.warning("%s: %s", self._member_id.place, self._options.masked(failure.str()))

    def _arrived(self) -> list[Assigned]:
        """Return the partitions whose first and last offset became known since the last poll."""
        assigned: list[Assigned] = []
        if self._looking is not None and self._looking.done():
            looking, self._looking = self._looking, None
            assigned = [found for found in looking.result() if found.partition in self._arriving]
        for found in assigned:
            self._arriving.remove(found.partition)
            self._buffer.begin(found.partition, found.committed, found.end)
        if self._arriving and self._looking is None:
            self._looking = asyncio.create_task(self._look_up(frozenset(self._arriving)))
        return assigned

    async def _look_up(self, partitions: Collection[int]) -> list[Assigned]:
        """Return these with first and last offset; none, after a pause, while cluster or inbox does not answer."""
        try:
            found = await self._thread.look_up(partitions)
            return await self._ask.to_the_end(await self._identity.check(found))
        except ReplacedLogError as error:
            self._ask.watch.refuse(error)
        except (KafkaException, StorageError, NotFoundError, TimeoutError) as error:
            _log.warning("%s: cannot begin yet: %s", self._member_id.place, self._options.masked(str(error)))
        await asyncio.sleep(LOOK_AGAIN_S)
        return []

    async def _drain(self) -> None:
        """Take over all messages that have come: the fetch under way ended with the first of them."""
        self._unpack()
        if self._fetching is not None:
            await asyncio.wait((self._fetching,), timeout=FRESH_S)

    async def _wait(self, timeout_s: float) -> None:
        """Wait until the fetch or the look-up under way is over, or the assignment changes."""
        changed = asyncio.ensure_future(self._wakeup.wait())
        awaited = [task for task in (self._fetching, self._looking, changed) if task is not None]
        try:
            await asyncio.wait(awaited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            self._wakeup.clear()

    def _require(self, partitions: Collection[int]) -> None:
        mine = self._leaving.union(self._buffer.partitions()) - self._arriving
        strange = sorted(set(partitions) - mine)
        if strange:
            raise lease_lost(self._member_id, strange)


def _let_go(settles: list[Job]) -> None:
    for settle in settles:
        settle()
    settles.clear()


def _out(member_id: MemberId) -> LeaseLostError:
    return LeaseLostError(
        "another process has joined under this name and owns its partitions now",
        where=member_id.place,
        remedy="Stop this process, or give each process an instance of its own.",
    )
