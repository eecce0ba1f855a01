"""What was fetched and not yet taken, by partition: polls take from each in turn, and skip what is of no interest.

A pause that is soon over costs nothing: the partition's messages wait here. Knows no broker, no threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable

import msgspec
from confluent_kafka import Message

from choreo.adapters.kafka.log_clock import LogTime
from choreo.adapters.kafka.records import log_stamp, record_of, type_of
from choreo.adapters.kafka.trouble import PARTITION_END
from choreo.core.events import Record

POLL_BYTES = 8 << 20
"""Bytes that one poll brings, and one record more: of ordinary events so many are more than any poll's limit."""


class _Lane(msgspec.Struct):
    """One partition. `next` is the offset to take from; -1 until it is known where to begin."""

    next: int = -1
    due: int = -1
    """Behind the last message that was brought; -1 before the first."""
    awaited: int = -1
    """The end that stood when the partition was gained, until it is reached; -1 then."""
    stamp_ms: int = -1
    """The log's time at the last message taken; -1 until one carries it."""
    waiting: deque[Message] = msgspec.field(default_factory=deque)


class Basket:
    """The partitions of one member."""

    def __init__(self, topic: str, types: frozenset[str] | None, log_time: LogTime) -> None:
        """`topic` as choreo knows it. Without `types` everything is of interest."""
        self._topic = topic
        self._types = None if types is None else frozenset(type_.encode() for type_ in types)
        self._lanes: dict[int, _Lane] = {}
        self._first = 0
        self._moved: dict[int, int] = {}
        self._caught_up = False
        self._jumps: dict[int, tuple[int, int]] = {}
        self._log_time = log_time
        self.waiting_bytes = 0
        """Of all messages that were put and not taken."""
        self._room_bytes = 0
        """What the poll under way may still take."""

    async def stamp_first(self, stamp: Callable[[int, int], Awaitable[int]]) -> None:
        """Ask for the log's time where the first message taken of a partition will not carry it."""
        for number, lane in list(self._lanes.items()):
            if lane.stamp_ms < 0 and lane.waiting and _is_unstamped(lane.waiting[0]):
                lane.stamp_ms = await stamp(number, lane.waiting[0].offset() or 0)

    def add(self, partition: int) -> None:
        """A partition is this member's; nothing is taken of it before `begin`."""
        self._lanes[partition] = _Lane()

    def begin(self, partition: int, committed: int, end: int) -> None:
        """Take from `committed` on."""
        lane = self._lanes[partition]
        lane.next = committed
        lane.awaited = end if committed < end else -1

    def drop(self, partition: int) -> None:
        """The partition is no longer this member's."""
        lane = self._lanes.pop(partition, None)
        if lane is not None:
            self.waiting_bytes -= sum(map(len, lane.waiting))
        self._moved.pop(partition, None)

    def put(self, message: Message) -> None:
        """Keep what was fetched, unless its partition is not this member's."""
        lane = self._lanes.get(message.partition() or 0)
        if lane is None:
            return
        lane.waiting.append(message)
        self.waiting_bytes += len(message)
        offset, number = message.offset() or 0, message.partition() or 0
        if 0 <= lane.due < offset:
            self._jumps.setdefault(number, (lane.due, offset))
        lane.due = offset + 1
        end = self._log_time.end_of(self._topic, number)
        if end is not None and message.error() is None and offset >= end.offset:
            self._log_time.passed(end, log_stamp(message))

    def is_awaited(self, message: Message) -> bool:
        """Whether it is worth waking for: a record of interest, or trouble. Asked in any thread."""
        trouble = message.error()
        if trouble is not None:
            return trouble.code() != PARTITION_END
        return self._types is None or type_of(message.headers() or (), message) in self._types

    def size(self, partitions: Iterable[int]) -> int:
        """How many messages of these wait."""
        return sum(len(self._lanes[partition].waiting) for partition in partitions if partition in self._lanes)

    def partitions(self) -> Collection[int]:
        """Those this member has."""
        return self._lanes.keys()

    def places(self, paused: Collection[int]) -> tuple[dict[int, int], set[int]]:
        """The next offset of each partition; and those of them that wait for more to be brought."""
        begun = {number: lane for number, lane in self._lanes.items() if lane.next >= 0}
        empty = {number for number, lane in begun.items() if not lane.waiting and number not in paused}
        return {number: lane.next for number, lane in begun.items()}, empty

    def take(self, limit: int, paused: Collection[int]) -> list[Record]:
        """At most `limit` records: an equal share of each partition, then what is left; another one first each time.

        They are fewer where they are large: see `is_cut`.
        """
        self._room_bytes = POLL_BYTES
        active = [
            (number, lane)
            for number, lane in sorted(self._lanes.items())
            if lane.waiting and lane.next >= 0 and number not in paused
        ]
        if not active:
            return []
        self._first = (self._first + 1) % len(active)
        active = active[self._first :] + active[: self._first]
        records: list[Record] = []
        for quota in (max(1, limit // len(active)), limit):
            for number, lane in active:
                self._draw(number, lane, min(quota, limit - len(records)), records)
        return records

    @property
    def is_cut(self) -> bool:
        """Whether the last take ended because of the size of its records."""
        return self._room_bytes <= 0

    def moved(self) -> dict[int, int]:
        """The next offset of each partition that was read on since this was last asked."""
        moved, self._moved = self._moved, {}
        return moved

    def jumps(self) -> dict[int, tuple[int, int]]:
        """The first jump of each partition since this was last asked: the offset due, and the one that came."""
        jumps, self._jumps = self._jumps, {}
        return jumps

    def caught_up(self) -> bool:
        """Whether a partition was read to the end it had when it was gained, since this was last asked."""
        reached, self._caught_up = self._caught_up, False
        return reached

    def _draw(self, number: int, lane: _Lane, room: int, records: list[Record]) -> None:
        before, types, waiting, stamp_ms = lane.next, self._types, lane.waiting, None
        while waiting and room > 0 and self._room_bytes > 0:
            message = waiting.popleft()
            self.waiting_bytes -= len(message)
            offset = message.offset() or 0
            if message.error() is not None:
                # The end of the partition: what is behind the last record, if anything, is no record.
                lane.next = max(lane.next, offset)
            elif offset >= lane.next:
                stamp_ms = log_stamp(message)
                if stamp_ms is not None:
                    lane.stamp_ms = stamp_ms
                elif lane.stamp_ms < 0:
                    waiting.appendleft(message)  # it comes when its time is known
                    self.waiting_bytes += len(message)
                    break
                lane.next = offset + 1
                headers = message.headers() or ()
                if types is None or type_of(headers, message) in types:
                    records.append(record_of(message, headers, self._topic, lane.stamp_ms))
                    room -= 1
                    self._room_bytes -= len(message)
        if stamp_ms is not None:
            self._log_time.read(stamp_ms)
        if lane.next > before:
            self._moved[number] = lane.next
            if 0 <= lane.awaited <= lane.next:
                lane.awaited = -1
                self._caught_up = True


def _is_unstamped(message: Message) -> bool:
    return message.error() is None and log_stamp(message) is None
