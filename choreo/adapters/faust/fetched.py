"""Fetched messages until a poll takes them: as records with the log's time, none left out unnoticed.

One fetch is worked while the next is being fetched, and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from choreo.adapters.faust.assignments import Assignment, first_jump
from choreo.core.errors import SkippedError
from choreo.core.events import Envelope, Record
from choreo.ports.log import Log

ReadEvent: TypeAlias = Callable[[Sequence[tuple[str, bytes]], bytes | None, bytes | None, str], Envelope]
"""Return the event of a record's headers, key and value, and the flow; an unreadable one is `choreo.Unreadable`."""

BATCH = 500
"""Records delivered at once at the most: some 20 ms of work."""
BURST, LINGER_S = 50, 0.1
"""From so many records a fetch on (that are less than two batches), the next one waits: above 500 records a second
the events of an instance come together, and its state is written once for several of them. Below, no fetch waits.
"""
_LOG_APPEND_TIME = 1
_NO_STAMP = (1 << 62, 0)
"""Stands where no record of a partition was read yet: after any offset."""


class FetchedRecords:
    """Queue of fetched messages of one flow's topic."""

    def __init__(self, topic: str, log: Log, log_id: str, read: ReadEvent, observe: Callable[[int], None]) -> None:
        """Keep messages of the log `log_id` that the topic holds; `observe` receives the log's time from each batch."""
        self._topic = topic
        self._log = log
        self._log_id = log_id
        self._read = read
        self._observe = observe
        self._queue: asyncio.Queue[Sequence[Any]] = asyncio.Queue(1)
        self._messages: Sequence[Any] = ()
        self._at = 0
        self._stamps: dict[int, tuple[int, int]] = {}
        """Of each partition: the offset of the last record, and the log's time then."""

    async def put(self, messages: Sequence[Any]) -> None:
        """Take a fetch; return when the next may begin."""
        await self._queue.put(messages)

    @property
    def is_empty(self) -> bool:
        """Return whether no message waits."""
        return self._at >= len(self._messages) and self._queue.empty()

    def restart(self) -> None:
        """Forget the log's times: partitions were assigned anew."""
        self._stamps.clear()

    async def take(self, limit: int, generation: int, assigned: Callable[[], Mapping[int, Assignment]]) -> list[Record]:
        """Return the next records of assigned partitions, at most `limit`. Raises SkippedError, StorageError.

        A message of another group generation is left out: it is read again by its partition's owner.
        """
        if self._at >= len(self._messages):
            self._messages, self._at = self._queue.get_nowait(), 0
        messages = self._messages[self._at : self._at + min(limit, BATCH)]
        self._at += len(messages)
        by_partition: dict[int, list[Record]] = {}
        for message in messages:
            if message.generation_id == generation:
                stamp_ms = await self._stamp_ms(message)
                by_partition.setdefault(message.partition, []).append(self._record(message, stamp_ms))
        for partition, records in by_partition.items():
            if partition in assigned():
                await self._check_complete(partition, assigned()[partition].delivered, records)
        if by_partition and messages[0].timestamp_type == _LOG_APPEND_TIME:
            self._observe(round(messages[0].timestamp * 1000))
        # Nothing is awaited from here on: only partitions that are still assigned are delivered.
        delivered: list[Record] = []
        for partition, assignment in assigned().items():
            records = by_partition.get(partition, [])
            if records:
                assignment.delivered = max(assignment.delivered, records[-1].offset + 1)
                delivered += records
        return delivered

    def _record(self, message: Any, stamp_ms: int) -> Record:
        event = self._read(message.headers, message.key, message.value, self._topic)
        return Record(self._topic, message.partition, message.offset, stamp_ms, event, self._log_id)

    async def _stamp_ms(self, message: Any) -> int:
        """Return the log's time of a record: its own, or the highest before it if it carries its producer's."""
        if message.timestamp_type == _LOG_APPEND_TIME:
            self._stamps[message.partition] = message.offset, round(message.timestamp * 1000)
        elif self._stamps.get(message.partition, _NO_STAMP)[0] > message.offset:
            read = await self._log.read(self._topic, message.partition, message.offset, 1)
            self._stamps[message.partition] = message.offset, read[0].stamp_ms if read else 0
        return self._stamps[message.partition][1]

    async def _check_complete(self, partition: int, expected: int, records: Sequence[Record]) -> None:
        """Raise SkippedError unless every record up to the last was delivered.

        A jump is compared with the log in one read: a foreign producer's transactions of a single record leave a jump
        behind each.
        """
        offsets = [record.offset for record in records]
        jump = first_jump(expected, offsets)
        if jump is None:
            return
        delivered = set(offsets)
        for logged in await self._log.read(self._topic, partition, jump, len(offsets)):
            if logged.offset < offsets[-1] and logged.offset not in delivered:
                raise SkippedError(
                    f"offset {logged.offset} was not delivered, {offsets[-1]} was",
                    where=f"topic {self._topic}, partition {partition}",
                    remedy="Nothing: a new consumer is opened.",
                )
