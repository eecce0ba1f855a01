"""Keep fetched messages by partition until polls take them, and decide how much a consumer fetches and when.

Polls take from each partition in turn and skip records of no interest. A pause that is soon over costs nothing: the
partition's messages wait here; beyond a bound the client stops fetching them (`Backpressure`). Under load a poll lets
records come together (`BatchLinger`): a batch costs host, Redis and broker some 3 ms, of any size.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress

import msgspec
from confluent_kafka import Message

from choreo.adapters.kafka.errors import PARTITION_END
from choreo.adapters.kafka.groups.thread import ConsumerThread
from choreo.adapters.kafka.records import log_stamp, record_of, type_of
from choreo.adapters.log_clock import LogTime
from choreo.core.events import Record

POLL_BYTES = 8 << 20
"""The size of one poll; one record may exceed it. Ordinary events reach a poll's limit of records first."""


class _PartitionBuffer(msgspec.Struct):
    """One partition. `next` is the offset to take from; -1 until the first offset is known."""

    next: int = -1
    due: int = -1
    """The offset behind the last fetched message; -1 before the first."""
    awaited: int = -1
    """The partition's end at the assignment, until it is reached; -1 then."""
    stamp_ms: int = -1
    """The log's time at the last message taken; -1 until one carries it."""
    waiting: deque[Message] = msgspec.field(default_factory=deque)


class FetchBuffer:
    """The partitions of one member."""

    def __init__(self, topic: str, types: frozenset[str] | None, log_time: LogTime, log_id: str = "") -> None:
        """Keep messages of `topic`, its plain name. Without `types` every record is of interest."""
        self._topic = topic
        self._log_id = log_id
        self._types = None if types is None else frozenset(type_.encode() for type_ in types)
        self._buffers: dict[int, _PartitionBuffer] = {}
        self._first = 0
        self._moved: dict[int, int] = {}
        self._caught_up = False
        self._jumps: dict[int, tuple[int, int]] = {}
        self._log_time = log_time
        self.waiting_bytes: int = 0
        """Size of all messages that were put and not taken."""
        self._room_bytes = 0
        """The bytes that the present poll may still take."""

    async def stamp_first(self, stamp: Callable[[int, int], Awaitable[int]]) -> None:
        """Ask for the log's time where a partition's first message does not carry it."""
        for number, buffered in list(self._buffers.items()):
            if buffered.stamp_ms < 0 and buffered.waiting and _is_unstamped(buffered.waiting[0]):
                buffered.stamp_ms = await stamp(number, buffered.waiting[0].offset() or 0)

    def add(self, partition: int) -> None:
        """Add a partition that is assigned; nothing is taken of it before `begin`."""
        self._buffers[partition] = _PartitionBuffer()

    def begin(self, partition: int, committed: int, end: int) -> None:
        """Take from the offset `committed` on."""
        buffered = self._buffers[partition]
        buffered.next = committed
        buffered.awaited = end if committed < end else -1

    def drop(self, partition: int) -> None:
        """Drop a partition that is revoked."""
        buffered = self._buffers.pop(partition, None)
        if buffered is not None:
            self.waiting_bytes -= sum(map(len, buffered.waiting))
        self._moved.pop(partition, None)

    def put(self, message: Message) -> None:
        """Keep a fetched message, unless its partition is not this member's."""
        buffered = self._buffers.get(message.partition() or 0)
        if buffered is None:
            return
        buffered.waiting.append(message)
        self.waiting_bytes += len(message)
        offset, number = message.offset() or 0, message.partition() or 0
        if 0 <= buffered.due < offset:
            self._jumps.setdefault(number, (buffered.due, offset))
        buffered.due = offset + 1
        end = self._log_time.end_of(self._topic, number)
        if end is not None and message.error() is None and offset >= end.offset:
            self._log_time.passed(end, log_stamp(message))

    def is_awaited(self, message: Message) -> bool:
        """Return whether the message ends a fetch: a record of interest, or an error. May be called in any thread."""
        failure = message.error()
        if failure is not None:
            return failure.code() != PARTITION_END
        return self._types is None or type_of(message.headers() or (), message) in self._types

    def size(self, partitions: Iterable[int]) -> int:
        """Return how many messages of these partitions wait."""
        return sum(len(self._buffers[partition].waiting) for partition in partitions if partition in self._buffers)

    def partitions(self) -> Collection[int]:
        """Return this member's partitions."""
        return self._buffers.keys()

    def places(self, paused: Collection[int]) -> tuple[dict[int, int], set[int]]:
        """Return the next offset of each partition, and the partitions without waiting messages."""
        begun = {number: buffered for number, buffered in self._buffers.items() if buffered.next >= 0}
        empty = {number for number, buffered in begun.items() if not buffered.waiting and number not in paused}
        return {number: buffered.next for number, buffered in begun.items()}, empty

    def take(self, limit: int, paused: Collection[int]) -> list[Record]:
        """Take at most `limit` records: an equal share of each partition, then the rest.

        Each call begins with another partition. It returns fewer records where they are large: see `is_cut`.
        """
        self._room_bytes = POLL_BYTES
        active = [
            (number, buffered)
            for number, buffered in sorted(self._buffers.items())
            if buffered.waiting and buffered.next >= 0 and number not in paused
        ]
        if not active:
            return []
        self._first = (self._first + 1) % len(active)
        active = active[self._first :] + active[: self._first]
        records: list[Record] = []
        for quota in (max(1, limit // len(active)), limit):
            for number, buffered in active:
                self._draw(number, buffered, min(quota, limit - len(records)), records)
        return records

    @property
    def is_cut(self) -> bool:
        """Return whether the last take ended because of the size of its records."""
        return self._room_bytes <= 0

    def moved(self) -> dict[int, int]:
        """Return the next offset of each partition that was read further since the last call."""
        moved, self._moved = self._moved, {}
        return moved

    def jumps(self) -> dict[int, tuple[int, int]]:
        """Return the first jump of each partition since the last call: the offset due, and the one that came."""
        jumps, self._jumps = self._jumps, {}
        return jumps

    def caught_up(self) -> bool:
        """Return whether a partition has reached its end at the assignment, since the last call."""
        reached, self._caught_up = self._caught_up, False
        return reached

    def _draw(self, number: int, buffered: _PartitionBuffer, room: int, records: list[Record]) -> None:
        before, types, waiting, stamp_ms = buffered.next, self._types, buffered.waiting, None
        while waiting and room > 0 and self._room_bytes > 0:
            message = waiting.popleft()
            self.waiting_bytes -= len(message)
            offset = message.offset() or 0
            if message.error() is not None:
                # The end of the partition: entries behind the last record are no records.
                buffered.next = max(buffered.next, offset)
            elif offset >= buffered.next:
                stamp_ms = log_stamp(message)
                if stamp_ms is not None:
                    buffered.stamp_ms = stamp_ms
                elif buffered.stamp_ms < 0:
                    waiting.appendleft(message)  # taken again when its time is known
                    self.waiting_bytes += len(message)
                    break
                buffered.next = offset + 1
                headers = message.headers() or ()
                if types is None or type_of(headers, message) in types:
                    records.append(record_of(message, headers, self._topic, buffered.stamp_ms, self._log_id))
                    room -= 1
                    self._room_bytes -= len(message)
        if stamp_ms is not None:
            self._log_time.read(stamp_ms)
        if buffered.next > before:
            self._moved[number] = buffered.next
            if 0 <= buffered.awaited <= buffered.next:
                buffered.awaited = -1
                self._caught_up = True


def _is_unstamped(message: Message) -> bool:
    return message.error() is None and log_stamp(message) is None


HELD_BACK = 500
"""Messages of a paused partition kept before it is no longer fetched."""
WAITING_BYTES = 16 << 20
"""Bytes that may wait in the process.

2,000 events of an ordinary size are 2 MB; 2,000 of the largest size that a broker takes are 2 GB. The client keeps as
much again, and a host twice as much: together they fit into a container of 512 MiB.
"""


class Backpressure:
    """The backpressure of one consumer."""

    def __init__(self, buffer: FetchBuffer, thread: ConsumerThread) -> None:
        """Let everything be fetched."""
        self._buffer = buffer
        self._thread = thread
        self._held: set[int] = set()
        self._is_full = False

    def steer(self, paused: Collection[int]) -> None:
        """Hold and release partitions by the messages that wait now.

        A released partition is fetched from its last offset.
        """
        buffer, waiting = self._buffer, self._buffer.waiting_bytes
        self._is_full = waiting >= (WAITING_BYTES // 2 if self._is_full else WAITING_BYTES)
        if self._is_full:
            wanted = set(buffer.partitions())
        else:
            wanted = {p for p in paused if p in self._held or buffer.size((p,)) >= HELD_BACK}
        if hold := wanted - self._held:
            self._thread.hold(sorted(hold))
        if release := self._held - wanted:
            self._thread.release(sorted(release))
        self._held = wanted

    def forget(self, partitions: Collection[int]) -> None:
        """Forget partitions that are revoked."""
        self._held.difference_update(partitions)


LINGER_FROM = 16
"""From so many records a poll on, the next poll waits for more."""
LINGER_S = 0.05
"""The wait, since the poll before.

Below 320 records a second (16 in this time) no poll ever waits; above it the batches grow, and an order takes at most
this much longer a step.
"""


class BatchLinger:
    """Decides whether the next poll of one consumer waits for more records."""

    def __init__(self) -> None:
        self._polled_s = 0.0
        self._is_one = False

    def saw(self, records: int, limit: int) -> None:
        """Note the number of records of a poll; none waits after one that returned `limit`: it has a backlog."""
        self._is_one, self._polled_s = LINGER_FROM <= records < limit, time.monotonic()

    async def gather(self, changed: asyncio.Event) -> bool:
        """Wait for more records, until something else changes; return False if that happens."""
        if not self._is_one:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._polled_s + LINGER_S - time.monotonic())):
                await changed.wait()
        return True
