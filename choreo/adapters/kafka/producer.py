"""One idempotent producer for a process: send batches, return their offsets when every event is acknowledged.

The client reports acknowledgements in the thread that polls it: a thread of the producer, which wakes the waiting
loop once a batch. Topics have their names in the cluster here.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import repeat
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from choreo.adapters.kafka.errors import QUEUE_FULL, TOO_LARGE, TOO_LATE, cause_of, complaint, for_good
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.records import Outgoing, log_stamp
from choreo.adapters.log_clock import LogTime

_log = logging.getLogger(__name__)

AT_ONCE = 500
"""Messages handed over before other tasks get a turn: about 2 ms."""
FULL_PAUSE_S = 0.01
"""How long to wait where the client's queue (100,000 messages) is full."""
ANY = -1
"""A partition that the client chooses."""
CLOSE_S = 5.0
"""How long closing waits for acknowledgements."""


class _Batch:
    """The messages of one call that are not acknowledged yet. `landed` is called in the producer's thread."""

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
        """Note that the message at `index` is acknowledged, or has failed."""
        if error is None:
            self.places[index] = (message.partition() or 0, message.offset() or 0)
            if index == 0 and (stamp_ms := log_stamp(message)) is not None:
                self._log_time.appended(stamp_ms, self._sent_ms)
        elif self.failed is None:
            self.failed = error
        self.settle(1)

    def settle(self, number: int) -> None:
        """Lower the count of missing messages."""
        with self._lock:
            self._missing -= number
            over = self._missing == 0
        if over and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._done)

    async def wait(self) -> None:
        """Wait until no message is missing."""
        await self._settled

    def _done(self) -> None:
        if not self._settled.done():
            self._settled.set_result(None)


class KafkaProducer:
    """The producer of one process. Connects at the first batch, or before."""

    def __init__(self, options: KafkaOptions, log_time: LogTime | None = None) -> None:
        """Connect to nothing yet; `log_time` takes the stamps of acknowledged messages."""
        self._options = options
        self._log_time = log_time or LogTime()
        self._producer: Producer | None = None
        self._is_small = False
        """Whether a topic in use does not take batches of the usual size."""
        self._delivery_s = 0.0
        """How long a message may wait for room in the producer's queue: as long as for its acknowledgement."""
        self._acks: threading.Thread | None = None
        self._senders: Counter[Producer] = Counter()
        """Calls that use each producer: a replaced one reports until none does."""
        self._closed = threading.Event()

    async def send(
        self, topic: str, messages: Sequence[Outgoing], partitions: Sequence[int] | None = None
    ) -> list[tuple[int, int]]:
        """Publish in this order; return (partition, offset) of each once every replica in sync has all.

        `partitions` names the partition of each. Without it the client chooses, by the topic's present partition
        count. Raises StorageError when the cluster does not take them in time (some may stand in the log all the
        same), NotFoundError, ConflictError on a message that is too large.
        """
        where = [*zip(messages, partitions or repeat(ANY), strict=False)]
        batch = await self._sent(topic, where)
        if batch.failed is not None and batch.failed.code() in TOO_LARGE and len(where) > 1 and not self._is_small:
            # The broker refuses a whole batch that the client has built: batches are smaller from now on.
            _log.info("topic %s takes no batch of the usual size: smaller ones are sent", topic)
            self._is_small, self._producer = True, None
            left = [index for index, (_, offset) in enumerate(batch.places) if offset < 0]
            again = await self._sent(topic, [where[index] for index in left])
            batch.failed = again.failed
            for index, place in zip(left, again.places, strict=True):
                batch.places[index] = place
        if batch.failed is not None:
            raise complaint(batch.failed, self._options, f"topic {topic!r}")
        return batch.places

    async def _sent(self, topic: str, messages: Sequence[tuple[Outgoing, int]]) -> _Batch:
        """Send, and return when every message is acknowledged or has failed."""
        if not messages:
            return _Batch(0, self._log_time)
        producer = self._started()
        batch = _Batch(len(messages), self._log_time)
        self._senders[producer] += 1
        try:
            await self._hand_over(producer, topic, messages, batch)
            await batch.wait()
        finally:
            self._senders[producer] -= 1
        if batch.failed is not None:
            self._give_up_on(producer, batch.failed)
        return batch

    def connect(self) -> None:
        """Request the producer's id before the first batch: the client takes half a second for it."""
        self._started()

    async def close(self) -> None:
        """Wait a moment for work under way, then stop."""
        if self._producer is not None:
            await asyncio.to_thread(self._producer.flush, CLOSE_S)
        self._closed.set()
        if self._acks is not None:
            await asyncio.to_thread(self._acks.join, CLOSE_S)

    async def _hand_over(
        self, producer: Producer, topic: str, messages: Sequence[tuple[Outgoing, int]], batch: _Batch
    ) -> None:
        until = time.monotonic() + self._delivery_s
        for index, (message, partition) in enumerate(messages):
            report = partial(batch.landed, index)
            try:
                # The client has no event for new room in its queue.
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
            config = self._options.producer(small=self._is_small)
            try:
                self._producer = Producer(config)
            except KafkaException as error:
                raise complaint(error, self._options, "the producer") from error
            self._delivery_s = float(config["delivery.timeout.ms"]) / 1_000
            self._acks = threading.Thread(
                target=self._serve, args=(self._producer,), name="choreo-kafka-acks", daemon=True
            )
            self._acks.start()
        return self._producer

    def _serve(self, producer: Producer) -> None:
        """Poll the client; end when the sender closes, or when its producer is replaced and no call uses it."""
        while not self._closed.is_set() and (producer is self._producer or self._senders[producer] or len(producer)):
            producer.poll(0.1)
        del self._senders[producer]

    def _give_up_on(self, producer: Producer, error: KafkaError) -> None:
        """Let the next call replace a producer that lost its sequence, or got nothing through in time."""
        if (for_good(error) or error.code() == TOO_LATE) and producer is self._producer:
            self._producer = None


def _taken(producer: Producer, topic: str, message: Outgoing, partition: int, report: Any, *, patient: bool) -> bool:
    """Hand over a message; return False while the client's queue is full, which is an error unless `patient`."""
    key, value, headers = message
    try:
        producer.produce(topic, value, key, partition, on_delivery=report, headers=headers)
    except BufferError as error:
        if not patient:
            raise KafkaException(KafkaError(QUEUE_FULL)) from error
        return False
    return True
