"""One consumer in its group, on a thread of its own: the client lets one thread at a time do anything with it.

The client tells of partitions given and taken while it is polled; it is passed on to the loop at once. Before
partitions are taken the thread waits, within a bound, until the listener has settled what it has of them; commits go
on meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from choreo.adapters.kafka.commit_notes import noted_offsets
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.reader import gathered
from choreo.adapters.kafka.trouble import TIMED_OUT, cause_of, complaint, sound
from choreo.adapters.membership import Ticket
from choreo.core.errors import LeaseLostError
from choreo.ports.log import Gained

FETCH_BYTES = 8 << 20
"""What one fetch brings at the most, and a portion more of records that are larger than those before."""
FIRST_PORTION = 64
"""Messages of the first portion, before anything is known of their size."""
BUSY_SLICE_S, IDLE_SLICE_S = 0.002, 0.05
"""A poll cannot be interrupted: a commit waits for the end of the slice, unless a record ends it before. Short while
one is to be expected; a slice costs some 15 µs, which are less than 1 % of a core then and nothing else."""
REBALANCE_S = 5.0
"""How long a commit waits for a rebalance in its last phase: that of all members to answer, at most."""
REBALANCE_PAUSE_S = 0.05
LOOK_UP_S = 5.0
"""How long a broker may take to say where a partition begins: two requests a partition, of less than 1 ms."""
CLOSE_S = 10.0
"""How long leaving may take, with a broker that is away."""

_log = logging.getLogger(__name__)
T = TypeVar("T")
Job = Callable[[], None]


class Found(NamedTuple):
    """Where a partition begins and ends."""

    gained: Gained
    said: str | None
    """What the group's last commit said beside its position; None: there was no commit."""
    position: int
    """Where the group had come; before the first offset where records are gone that it has not read."""


class Listener(Protocol):
    """Who is told of partitions. Called on the loop."""

    def given(self, partitions: Sequence[int]) -> None:
        """These are this member's now."""
        ...

    def asked_for(self, partitions: Sequence[int], settle: Job) -> None:
        """These go to another member as soon as `settle` is called, or the wait for it is over."""
        ...

    def gone(self, partitions: Sequence[int]) -> None:
        """These are no longer this member's."""
        ...

    def told(self, offsets: Mapping[int, int], trouble: str) -> None:
        """The answer to a `commit_beside`; "" where the group has taken them."""
        ...


class Subscription:
    """A `Consumer` subscribed to one topic."""

    def __init__(
        self, options: KafkaOptions, ticket: Ticket, listener: Listener, is_awaited: Callable[[Message], bool]
    ) -> None:
        """Join; raises SettingsError on settings that the client does not know.

        `is_awaited`: whether a fetch ends with this message; called in the consumer's thread.
        """
        self._options = options
        self._name = options.name(ticket.topic)
        self._where = ticket.place
        self._listener = listener
        self._is_awaited = is_awaited
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._leaving = self._left = False
        self._mean_bytes = FETCH_BYTES // FIRST_PORTION
        """Of the messages brought last."""
        self._out_since_s = time.monotonic()
        """Since when this is no member that was told its share; 0: it is one."""
        self.unanswered: bool = False
        """Whether a commit was waited for in vain: its call may never return, and bars all others until it does."""
        try:
            settings = options.consumer(ticket.group, ticket.name, ticket.topic)
            self._consumer = Consumer({**settings, "on_commit": self._on_commit})
            self._consumer.subscribe(
                [self._name], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
        except KafkaException as error:
            raise complaint(error, options, self._where) from error
        threading.Thread(target=self._work, name=f"choreo-kafka-{ticket.group}", daemon=True).start()

    def fetch(self, limit: int, wait_s: float, *, busy: bool) -> asyncio.Future[list[Message]]:
        """What there is, waiting for the first that is awaited.

        Shorter if there is something else to do, at once if `busy`.
        """
        return self._submit(partial(self._fetch, limit, wait_s, BUSY_SLICE_S if busy else IDLE_SLICE_S))

    async def commit(self, offsets: Mapping[int, int], saying: str = "") -> None:
        """Move the group's positions, with this beside them; waits for a rebalance that is about to end.

        Raises KafkaException with a code of `MEMBERSHIP_GONE` when this is no member any more, TimeoutError after
        `request_s`: the client sets no bound for it where the broker dies meanwhile.
        """
        try:
            async with asyncio.timeout(self._options.request_s):
                await self._commit_through_rebalance(self._places(offsets, saying))
        except TimeoutError:
            self.unanswered = True
            raise

    async def _commit_through_rebalance(self, places: list[TopicPartition]) -> None:
        until = time.monotonic() + REBALANCE_S
        while True:
            try:
                await self._submit(partial(self._commit, places))
            except KafkaException as error:
                inner = cause_of(error)
                rebalancing = inner is not None and inner.code() == KafkaError.REBALANCE_IN_PROGRESS
                if not rebalancing or time.monotonic() > until:
                    raise
                await asyncio.sleep(REBALANCE_PAUSE_S)
            else:
                return

    def commit_beside(self, offsets: Mapping[int, int], saying: str = "") -> None:
        """Begin to move the group's positions, one such move at a time; `Listener.told` hears the answer."""
        beginning = self._submit(partial(self._consumer.commit, offsets=self._places(offsets, saying)))
        beginning.add_done_callback(partial(self._begun, offsets))

    async def look_up(self, partitions: Iterable[int]) -> list[Found]:
        """Where to begin in these, and where they end just now; raises KafkaException."""
        return await self._submit(partial(self._look_up, sorted(partitions)))

    def hold(self, partitions: Sequence[int]) -> None:
        """Fetch nothing of these until `release`. What the client has fetched of them is fetched again then."""
        self._submit(partial(self._call, self._consumer.pause, partitions))

    def release(self, partitions: Sequence[int]) -> None:
        """Undo `hold`."""
        self._submit(partial(self._call, self._consumer.resume, partitions))

    async def close(self) -> None:
        """Leave the group, once. Whoever waits for partitions to be settled must have settled them."""
        if self._leaving:
            return
        self._leaving = True
        closing = self._submit(self._close)
        done, _ = await asyncio.wait((closing,), timeout=CLOSE_S)
        if not done:
            _log.warning("%s: leaving takes longer than %g s, and goes on in the background", self._where, CLOSE_S)
        elif error := closing.exception():
            _log.warning("%s: leaving failed: %s", self._where, self._options.masked(str(error)))

    def _places(self, offsets: Mapping[int, int], saying: str) -> list[TopicPartition]:
        return [TopicPartition(self._name, number, offset, metadata=saying) for number, offset in offsets.items()]

    def _begun(self, offsets: Mapping[int, int], beginning: asyncio.Future[Any]) -> None:
        error = beginning.exception()
        if error is not None:
            self._listener.told(offsets, str(error))

    def _submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        answer: asyncio.Future[T] = self._loop.create_future()
        if self._left:
            answer.set_exception(LeaseLostError("this member has left its group", where=self._where))
        else:
            self._jobs.put(partial(self._answer, call, answer))
        return answer

    # What follows runs in the consumer's thread.

    def _work(self) -> None:
        while not (self._left and self._jobs.empty()):
            self._jobs.get()()

    def _answer(self, call: Callable[[], T], answer: asyncio.Future[T]) -> None:
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            self._tell(_fail, answer, error)
        else:
            self._tell(_succeed, answer, result)

    def _fetch(self, limit: int, wait_s: float, slice_s: float) -> list[Message]:
        until = time.monotonic() + wait_s
        self._see_to_membership()
        messages: list[Message] = []
        room_bytes = FETCH_BYTES
        while True:
            # In portions, by the size of those before: one call brings all that the client has of a backlog.
            portion = min(limit - len(messages), max(1, room_bytes // self._mean_bytes))
            fresh = gathered(self._consumer, portion, slice_s)
            messages += fresh
            room_bytes -= self._weigh(fresh)
            # A record of another service's types wakes nobody: of an order's events six in seven are.
            awaited = len(messages) >= limit or room_bytes <= 0 or any(map(self._is_awaited, fresh))
            if awaited or not self._jobs.empty() or time.monotonic() >= until:
                return messages

    def _weigh(self, messages: Sequence[Message]) -> int:
        """Return how many bytes these are, and keep their mean size for the next portion."""
        size = sum(map(len, messages))
        if messages:
            self._mean_bytes = max(1, size // len(messages))
        return size

    def _see_to_membership(self) -> None:
        """Raises LeaseLostError where the client has found no way back: seen once, after its broker's name was gone.

        Who has an id has reached its group, and is told its share when all members have answered: one poll's time.
        """
        is_known, now_s = bool(self._consumer.memberid()), time.monotonic()
        if not self._out_since_s:
            self._out_since_s = 0.0 if is_known else now_s  # who had no partitions is not told of losing them
            return
        patience_s = self._options.rejoin_s + (self._options.poll_s if is_known else 0.0)
        if now_s - self._out_since_s >= patience_s:
            self._out_since_s = now_s
            _log.warning("%s: not in its group for %g s, joins it anew", self._where, patience_s)
            raise LeaseLostError("this member has found no way back into its group", where=self._where)

    def _commit(self, places: list[TopicPartition]) -> None:
        sound(self._consumer.commit(offsets=places, asynchronous=False) or [])

    def _look_up(self, partitions: Sequence[int]) -> list[Found]:
        found = []
        places = [TopicPartition(self._name, partition) for partition in partitions]
        for place, told in zip(places, noted_offsets(self._consumer, places, LOOK_UP_S), strict=True):
            ends: tuple[int, int] | None = self._consumer.get_watermark_offsets(place, timeout=LOOK_UP_S)
            if ends is None:
                raise KafkaException(KafkaError(TIMED_OUT))
            gained = Gained(place.partition, max(told.offset, ends[0]), ends[1])
            is_known = told.offset >= 0
            found.append(Found(gained, told.note if is_known else None, told.offset if is_known else gained.committed))
        return found

    def _call(self, method: Any, partitions: Sequence[int]) -> None:
        try:
            method([TopicPartition(self._name, partition) for partition in partitions])
        except KafkaException as error:
            # Taken in the same moment: there is nothing to hold back.
            _log.debug("%s: %s", self._where, self._options.masked(str(error)))

    def _close(self) -> None:
        self._left = True
        self._consumer.close()

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._out_since_s = 0.0
        _log.info("%s: given partitions %s", self._where, _numbers(partitions))
        self._tell(self._listener.given, _numbers(partitions))

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if partitions and not self._left:
            settled = threading.Event()
            # Set by a job of this thread, so that it is heard of at once.
            self._tell(self._listener.asked_for, _numbers(partitions), partial(self._jobs.put, settled.set))
            if not self._work_until(settled):
                _log.warning("%s: partitions %s are given up unsettled", self._where, _numbers(partitions))
        _log.info("%s: gave up partitions %s", self._where, _numbers(partitions))
        self._tell(self._listener.gone, _numbers(partitions))

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._out_since_s = time.monotonic()
        _log.info("%s: lost partitions %s", self._where, _numbers(partitions))
        self._tell(self._listener.gone, _numbers(partitions))

    def _on_commit(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        trouble = error or next((place.error for place in places if place.error is not None), None)
        offsets = {place.partition: place.offset for place in places}
        self._tell(self._listener.told, offsets, trouble.str() if trouble else "")

    def _work_until(self, settled: threading.Event) -> bool:
        """Do what is asked for, commits above all, until it is settled; False if that takes too long."""
        until = time.monotonic() + self._options.revoke_s
        while not settled.is_set():
            try:
                job = self._jobs.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                return False
            job()
        return True

    def _tell(self, hear: Any, *what: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(hear, *what)


def _succeed(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


def _numbers(partitions: Sequence[TopicPartition]) -> list[int]:
    return sorted(place.partition for place in partitions)
