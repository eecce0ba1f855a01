"""Read at given places, outside of any group: consumers are kept ready, and each is moved to the requested place.

A reader that ended in the middle of a partition goes on from there when the next piece is requested: reading a
partition in pieces costs one fetch a megabyte, not one a piece. It fetches ahead until then, and at the end of the
partition asks the broker a hundred times a second for more. So a reader without a next request is paused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf
from typing import Any, NamedTuple, TypeAlias

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from choreo.adapters.kafka.errors import OUT_OF_RANGE, PARTITION_END, PASSING, TIMED_OUT
from choreo.adapters.kafka.options import KafkaOptions

READERS = 4
"""Readers at once, and kept ready: a consumer is three threads and a connection."""
PIECE = 100
"""From so many records on a read is a piece of a longer one, and fetches ahead."""
FETCH_PIECE, FETCH_POINT = 1 << 20, 1 << 16
"""Bytes of a fetch. A larger record is fetched all the same, alone."""
PORTION = 500
"""Messages taken at once: those that a scan drops are gone before the garbage collector looks at their headers.

With 10,000 at once the collector took, at Python's own thresholds, as long as the reading itself.
"""
SCAN_BYTES = 8 << 20
"""Bytes scanned in one piece, of which most are dropped: a piece of 10,000 small records has fewer."""
READ_S = 10.0
"""How long a read may go without an answer from the broker."""
WAIT_S = 0.1
REST_S = 1.0
"""After so long without a request a reader is paused: a caller that reads in pieces asks again within milliseconds."""


IsWanted: TypeAlias = Callable[[Message], bool]
"""Whether a message is one that a scan looks for."""


class Place(NamedTuple):
    """Where to read, by the topic's name in the cluster."""

    topic: str
    partition: int
    offset: int


class OutOfRangeError(Exception):
    """The place is before the partition's first offset or after its end."""


def gathered(consumer: Consumer, limit: int, wait_s: float) -> list[Message]:
    """Return the messages that are there, at most `limit`; wait only for the first.

    `consume` alone waits until it has `limit` messages.
    """
    first = consumer.poll(wait_s)
    if first is None:
        return []
    return [first, *consumer.consume(limit - 1, 0)] if limit > 1 else [first]


class _Reader:
    """One consumer. Used by one thread at a time."""

    def __init__(self, options: KafkaOptions, *, ahead: bool) -> None:
        self._consumer = Consumer(options.reader(FETCH_PIECE if ahead else FETCH_POINT))
        self.ahead = ahead
        self.at: Place | None = None
        """The place at which it goes on."""
        self.idle_since_s = 0.0
        """Since when it is idle, on the loop's clock."""

    def scan(self, place: Place, limit: int, is_wanted: IsWanted | None) -> tuple[list[Message], int]:
        """Return the wanted messages (None: all) among the next `limit`, and the offset to go on from.

        It looks at fewer only at the end, and where it has scanned `SCAN_BYTES`.
        """
        if self.at != place:
            self._consumer.assign([TopicPartition(*place)])
        self.at = None
        found, following, ended = self._collect(place.offset, limit, is_wanted)
        if self.ahead and following > place.offset and not ended:
            self.at = place._replace(offset=following)
        else:
            self._consumer.unassign()
        return found, following

    def rest(self) -> None:
        """Fetch no more."""
        self.at = None
        self._consumer.unassign()

    def close(self) -> None:
        self._consumer.close()

    def _collect(self, offset: int, limit: int, is_wanted: IsWanted | None) -> tuple[list[Message], int, bool]:
        """Return the wanted messages, the offset behind all that were read, and whether the end was reached."""
        found: list[Message] = []
        count = size = 0
        bytes_max = inf if is_wanted is None else SCAN_BYTES
        until = time.monotonic() + READ_S
        while count < limit and size < bytes_max:
            fresh = gathered(self._consumer, min(PORTION, limit - count), WAIT_S)
            read = [message for message in fresh if message.error() is None]
            if read:
                offset = (read[-1].offset() or 0) + 1
                count, size = count + len(read), size + sum(map(len, read))
                found += read if is_wanted is None else filter(is_wanted, read)
                until = time.monotonic() + READ_S
            if len(read) < len(fresh) and _has_ended([message.error() for message in fresh]):
                return found, offset, True
            if time.monotonic() > until:
                raise KafkaException(KafkaError(TIMED_OUT, f"no answer within {READ_S:g} s"))
        return found, offset, False


def _has_ended(failures: Iterable[KafkaError | None]) -> bool:
    """Return whether one of these says that the partition's end is reached; raises those that do not pass."""
    ended = False
    for error in failures:
        code = error.code() if error is not None else None
        if error is None or code in PASSING:
            continue
        if code in OUT_OF_RANGE:
            raise OutOfRangeError
        if code == PARTITION_END:
            ended = True
        elif not error.retriable():
            raise KafkaException(error)
    return ended


class Readers:
    """The readers of one process."""

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._idle: list[_Reader] = []
        self._busy: set[asyncio.Future[Any]] = set()
        self._threads = ThreadPoolExecutor(READERS, "choreo-kafka-reader")
        self._turns = asyncio.Semaphore(READERS)
        self._tidying: asyncio.TimerHandle | None = None

    async def read(self, place: Place, limit: int) -> list[Message]:
        """Return at most `limit` messages from the place on, in order; fewer only at the end. Raises as `scan`."""
        return (await self.scan(place, limit))[0]

    async def scan(self, place: Place, limit: int, is_wanted: IsWanted | None = None) -> tuple[list[Message], int]:
        """Return the wanted messages (None: all) among the next `limit`, and the offset to go on from.

        `is_wanted` is called in the reader's thread, in the order of the log. Raises OutOfRangeError, and
        KafkaException when the broker does not answer.
        """
        async with self._turns:
            reader = self._take(place, ahead=limit >= PIECE)
            reading = asyncio.get_running_loop().run_in_executor(self._threads, reader.scan, place, limit, is_wanted)
            self._busy.add(reading)
            # Also if the caller is cancelled: the reader is free when its thread has finished, and not before.
            reading.add_done_callback(partial(self._freed, reader))
            return await asyncio.shield(reading)

    async def close(self) -> None:
        """Close all readers."""
        while self._busy:
            await asyncio.wait(self._busy)
        if self._tidying is not None:
            self._tidying.cancel()
        for reader in self._idle:
            await asyncio.get_running_loop().run_in_executor(self._threads, reader.close)
        self._idle.clear()
        await asyncio.to_thread(self._threads.shutdown)

    def _freed(self, reader: _Reader, reading: asyncio.Future[Any]) -> None:
        self._busy.discard(reading)
        error = reading.exception()
        if error is not None and not isinstance(error, OutOfRangeError):
            self._threads.submit(reader.close)
        else:
            self._idle.append(reader)
            reader.idle_since_s = asyncio.get_running_loop().time()
            self._tidy_later()

    def _tidy_later(self) -> None:
        if self._tidying is None and any(reader.at for reader in self._idle):
            self._tidying = asyncio.get_running_loop().call_later(REST_S, self._tidy)

    def _tidy(self) -> None:
        """Pause the readers that stand in a partition and got no further request."""
        loop, self._tidying = asyncio.get_running_loop(), None
        for reader in [reader for reader in self._idle if reader.at and loop.time() >= reader.idle_since_s + REST_S]:
            self._idle.remove(reader)
            resting = loop.run_in_executor(self._threads, reader.rest)
            self._busy.add(resting)
            resting.add_done_callback(partial(self._freed, reader))
        self._tidy_later()

    def _take(self, place: Place, *, ahead: bool) -> _Reader:
        """Return the reader that stands at the place, else the least recently used one of its kind, else a new one."""
        fit = [reader for reader in self._idle if reader.ahead is ahead]
        reader = next((reader for reader in fit if reader.at == place), fit[0] if fit else None)
        if reader is None:
            return _Reader(self._options, ahead=ahead)
        self._idle.remove(reader)
        return reader
