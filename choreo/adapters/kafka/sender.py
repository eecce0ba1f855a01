"""One idempotent producer for a process: batches in, places in the log out, when every event is acknowledged.

The client reports acknowledgements where somebody polls it: a thread of its own, which wakes the waiting loop once a
batch. Knows topics by their names in the cluster.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import repeat
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from choreo.adapters.kafka.log_clock import LogTime
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.records import Outgoing, log_stamp
from choreo.adapters.kafka.trouble import QUEUE_FULL, TOO_LATE, cause_of, complaint, for_good

AT_ONCE = 500
"""Messages handed over before other tasks get a turn: about 2 ms."""
FULL_PAUSE_S = 0.01
"""How long to wait where the client's queue (100,000 messages) is full."""
ANY = -1
"""A partition that the client chooses."""
CLOSE_S = 5.0
"""How long closing waits for what is still to be acknowledged."""


class _Batch:
    """What one call waits for. `landed` is called in the producer's thread."""

    def __init__(self, number: int, log_time: LogTime) -> None:
        self._log_time = log_time
        self._sent_ms = log_time.elapsed_ms()
        self.places: list[tuple[int, int]] = [(-1, -1)] * number
        self.failed: KafkaError | None = None
        self._loop = asyncio.get_running_loop()
        self._settled: asyncio.Future[None] = self._loop.create_future()
        self._lock = threading.Lock()
        self._missing = number

    def landed(self, index: int, error: KafkaError | None, message: Message) -> None:
        """The message at `index` is safe, or never will be."""
        if error is None:
            self.places[index] = (message.partition() or 0, message.offset() or 0)
            if index == 0 and (stamp_ms := log_stamp(message)) is not None:
                self._log_time.appended(stamp_ms, self._sent_ms)
        elif self.failed is None:
            self.failed = error
        self.settle(1)

    def settle(self, number: int) -> None:
        """So many less are missing."""
        with self._lock:
            self._missing -= number
            over = self._missing == 0
        if over and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._done)

    async def wait(self) -> None:
        """Until none is missing."""
        await self._settled

    def _done(self) -> None:
        if not self._settled.done():
            self._settled.set_result(None)


class Sender:
    """The producer of one process. Connects at the first batch, or before."""

    def __init__(self, options: KafkaOptions, log_time: LogTime | None = None) -> None:
        """`log_time` hears of the stamps of what is acknowledged."""
        self._options = options
        self._log_time = log_time or LogTime()
        self._producer: Producer | None = None
        self._patience_s = 0.0
        """How long a message may wait for room in the producer's queue: as long as for its acknowledgement."""
        self._acks: threading.Thread | None = None
        self._senders: Counter[Producer] = Counter()
        """Calls that use each producer: one that was given up reports until none does."""
        self._closed = threading.Event()

    async def send(
        self, topic: str, messages: Sequence[Outgoing], partitions: Sequence[int] | None = None
    ) -> list[tuple[int, int]]:
        """Publish in this order; returns (partition, offset) of each once all are safe on every replica in sync.

        `partitions` says where each goes. Without it the client chooses, by the count that the topic has just now.
        Raises StorageError when the cluster does not take them in time (some may stand in the log all the same),
        NotFoundError, ConflictError on a message that is too large.
        """
        if not messages:
            return []
        producer = self._started()
        batch = _Batch(len(messages), self._log_time)
        self._senders[producer] += 1
        try:
            await self._hand_over(producer, topic, [*zip(messages, partitions or repeat(ANY), strict=False)], batch)
            await batch.wait()
        finally:
            self._senders[producer] -= 1
        if batch.failed is not None:
            self._give_up_on(producer, batch.failed)
            raise complaint(batch.failed, self._options, f"topic {topic!r}")
        return batch.places

    def connect(self) -> None:
        """Get the producer its id before there is anything to send: the client takes half a second for it."""
        self._started()

    async def close(self) -> None:
        """Wait a moment for what is under way, then stop."""
        if self._producer is not None:
            await asyncio.to_thread(self._producer.flush, CLOSE_S)
        self._closed.set()
        if self._acks is not None:
            await asyncio.to_thread(self._acks.join, CLOSE_S)

    async def _hand_over(
        self, producer: Producer, topic: str, messages: Sequence[tuple[Outgoing, int]], batch: _Batch
    ) -> None:
        until = time.monotonic() + self._patience_s
        for index, (message, partition) in enumerate(messages):
            report = partial(batch.landed, index)
            try:
                # The client has no event for having room again.
                while not _taken(producer, topic, message, partition, report, patient=time.monotonic() < until):  # noqa: ASYNC110
                    await asyncio.sleep(FULL_PAUSE_S)
            except KafkaException as error:
                batch.failed = cause_of(error)
                batch.settle(len(messages) - index)
                return
            if index % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)

    def _started(self) -> Producer:
        if self._producer is None:
            config = self._options.producer()
            try:
                self._producer = Producer(config)
            except KafkaException as error:
                raise complaint(error, self._options, "the producer") from error
            self._patience_s = float(config["delivery.timeout.ms"]) / 1_000
            self._acks = threading.Thread(
                target=self._serve, args=(self._producer,), name="choreo-kafka-acks", daemon=True
            )
            self._acks.start()
        return self._producer

    def _serve(self, producer: Producer) -> None:
        """Let the client report; ends with the sender, or when its producer is given up and nobody uses it any more."""
        while not self._closed.is_set() and (producer is self._producer or self._senders[producer] or len(producer)):
            producer.poll(0.1)
        del self._senders[producer]

    def _give_up_on(self, producer: Producer, error: KafkaError) -> None:
        """A producer that lost count of its numbers, or got nothing through in time, is replaced by the next call."""
        if (for_good(error) or error.code() == TOO_LATE) and producer is self._producer:
            self._producer = None


def _taken(producer: Producer, topic: str, message: Outgoing, partition: int, report: Any, *, patient: bool) -> bool:
    """Hand it over; False while the client's queue is full, which is an error only for the impatient."""
    key, value, headers = message
    try:
        producer.produce(topic, value, key, partition, on_delivery=report, headers=headers)
    except BufferError as error:
        if not patient:
            raise KafkaException(KafkaError(QUEUE_FULL)) from error
        return False
    return True
