"""One consumer in its group, on a thread of its own: the client may be used by one thread at a time.

The client reports assigned and revoked partitions while it is polled; the thread passes them on to the loop at once.
Before partitions are revoked the thread waits, within a bound, until the listener has settled its work on them;
commits go on meanwhile.
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

from choreo.adapters.assignment import MemberId
from choreo.adapters.kafka.cluster.group_requests import noted_offsets
from choreo.adapters.kafka.errors import TIMED_OUT, cause_of, complaint, sound
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.reader import gathered
from choreo.core.errors import LeaseLostError
from choreo.ports.log import Assigned

FETCH_BYTES = 8 << 20
"""The size of one fetch at most; a portion of records larger than those before may exceed it."""
FIRST_PORTION = 64
"""Messages of the first portion, before anything is known of their size."""
BUSY_SLICE_S, IDLE_SLICE_S = 0.002, 0.05
"""A poll cannot be interrupted: a commit waits for the end of the slice, unless a record ends the slice before.

The slice is short while a commit is to be expected; a slice costs some 15 µs, less than 1 % of a core then.
"""
QUIET: tuple[tuple[float, float], ...] = ((10.0, 2.0), (2.0, 0.5))
"""After so long without a record (s) the thread wakes less often: the slice then (s).

A commit, a pause or leaving waits for so long at most, if no record ends the slice. With slices of 50 ms the threads of
50 flows took 4 % of a core while no record came, and the hosts' rounds after slices of 0.5 s as much again.
"""
REBALANCE_S = 5.0
"""How long a commit waits for a rebalance in its last phase: at most the time that all members need to answer."""
REBALANCE_PAUSE_S = 0.05
LOOK_UP_S = 5.0
"""How long a broker may take to return a partition's first offset: two requests a partition, of less than 1 ms."""
CLOSE_S = 10.0
"""How long leaving may take, with a broker that is away."""

_log = logging.getLogger(__name__)
T = TypeVar("T")
Job = Callable[[], None]
Note = Callable[[int], str]
"""Returns the note to commit beside the offset of a partition."""


def _no_note(_: int) -> str:
    return ""


class Found(NamedTuple):
    """The first and last offset of a partition, and the group's committed one."""

    assigned: Assigned
    note: str | None
    """The note of the group's last commit; None: there was no commit."""
    position: int
    """The group's position; before the first offset where records are gone that the group has not read."""


class Listener(Protocol):
    """The receiver of partition changes. Called on the loop."""

    def on_assigned(self, partitions: Sequence[int]) -> None:
        """Note that these partitions are this member's now."""
        ...

    def on_revoking(self, partitions: Sequence[int], settle: Job) -> None:
        """Settle these: they go to another member as soon as `settle` is called, or the wait for it is over."""
        ...

    def on_revoked(self, partitions: Sequence[int]) -> None:
        """Note that these partitions are no longer this member's."""
        ...

    def on_committed(self, offsets: Mapping[int, int], failure: str) -> None:
        """Take the answer to a `commit_in_background`; `failure` is "" where the group has taken the offsets."""
        ...


class ConsumerThread:
    """A `Consumer` subscribed to one topic."""

    def __init__(
        self, options: KafkaOptions, member_id: MemberId, listener: Listener, is_awaited: Callable[[Message], bool]
    ) -> None:
        """Join; raises SettingsError on settings that the client does not know.

        `is_awaited`: whether a fetch ends with this message; called in the consumer's thread.
        """
        self._options = options
        self._name = options.name(member_id.topic)
        self._where = member_id.place
        self._listener = listener
        self._is_awaited = is_awaited
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._leaving = self._left = False
        self._mean_bytes = FETCH_BYTES // FIRST_PORTION
        """Mean size of the messages fetched last."""
        self._held: set[int] = set()
        """Partitions of which nothing is fetched for now; a revoked one may still be in the set."""
        self._quiet_since_s = time.monotonic()
        """When the last record came, or the partitions changed."""
        self._out_since_s = time.monotonic()
        """Since when this consumer is no member with an assignment; 0: it is one."""
        self.unanswered: bool = False
        """Whether a commit was not answered in time: its call may never return, and blocks all others until it does."""
        try:
            settings = options.consumer(member_id.group, member_id.name, member_id.topic)
            self._consumer = Consumer({**settings, "on_commit": self._on_commit})
            self._consumer.subscribe(
                [self._name], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
        except KafkaException as error:
            raise complaint(error, options, self._where) from error
        threading.Thread(target=self._work, name=f"choreo-kafka-{member_id.group}", daemon=True).start()

    def fetch(self, limit: int, wait_s: float, *, busy: bool) -> asyncio.Future[list[Message]]:
        """Return the messages that are there; wait for the first that is awaited.

        The wait is shorter if there is other work for the thread, and none if `busy`.
        """
        return self._submit(partial(self._fetch, limit, wait_s, BUSY_SLICE_S if busy else IDLE_SLICE_S))

    async def commit(self, offsets: Mapping[int, int], note: Note = _no_note) -> None:
        """Commit the group's offsets, with a note beside each; waits for a rebalance that is about to end.

        Raises KafkaException with a code of `MEMBERSHIP_GONE` when this is no member any more, TimeoutError after
        `request_s`: the client sets no bound for a broker that dies meanwhile.
        """
        try:
            async with asyncio.timeout(self._options.request_s):
                await self._commit_through_rebalance(self._places(offsets, note))
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

    def commit_in_background(self, offsets: Mapping[int, int], note: Note = _no_note) -> None:
        """Begin to commit the group's offsets, one such commit at a time; `Listener.on_committed` gets the answer."""
        beginning = self._submit(partial(self._consumer.commit, offsets=self._places(offsets, note)))
        beginning.add_done_callback(partial(self._begun, offsets))

    async def look_up(self, partitions: Iterable[int]) -> list[Found]:
        """Return where to begin in these partitions, and where they end now; raises KafkaException."""
        return await self._submit(partial(self._look_up, sorted(partitions)))

    def hold(self, partitions: Sequence[int]) -> None:
        """Fetch nothing of these until `release`; the client drops its messages of these, and fetches them later."""
        self._held.update(partitions)
        self._submit(partial(self._call, self._consumer.pause, partitions))

    def release(self, partitions: Sequence[int]) -> None:
        """Undo `hold`."""
        self._held.difference_update(partitions)
        self._submit(partial(self._call, self._consumer.resume, partitions))

    async def close(self) -> None:
        """Leave the group, once. The caller settles its partitions before."""
        if self._leaving:
            return
        self._leaving = True
        closing = self._submit(self._close)
        done, _ = await asyncio.wait((closing,), timeout=CLOSE_S)
        if not done:
            _log.warning("%s: leaving takes longer than %g s, and goes on in the background", self._where, CLOSE_S)
        elif error := closing.exception():
            _log.warning("%s: leaving failed: %s", self._where, self._options.masked(str(error)))

    def _places(self, offsets: Mapping[int, int], note: Note) -> list[TopicPartition]:
        return [TopicPartition(self._name, number, offset, metadata=note(number)) for number, offset in offsets.items()]

    def _begun(self, offsets: Mapping[int, int], beginning: asyncio.Future[Any]) -> None:
        error = beginning.exception()
        if error is not None:
            self._listener.on_committed(offsets, str(error))

    def _submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        answer: asyncio.Future[T] = self._loop.create_future()
        if self._left:
            answer.set_exception(LeaseLostError("this member has left its group", where=self._where))
        else:
            self._jobs.put(partial(self._answer, call, answer))
        return answer

    # Below: methods that run in the consumer's thread.

    def _work(self) -> None:
        while not (self._left and self._jobs.empty()):
            self._jobs.get()()

    def _answer(self, call: Callable[[], T], answer: asyncio.Future[T]) -> None:
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - raised where the answer is awaited
            self._call_soon(_fail, answer, error)
        else:
            self._call_soon(_succeed, answer, result)

    def _fetch(self, limit: int, wait_s: float, slice_s: float) -> list[Message]:
        now_s = time.monotonic()
        if not self._held:
            quiet_s = next((slice_s for after_s, slice_s in QUIET if now_s - self._quiet_since_s >= after_s), 0.0)
            wait_s, slice_s = max(wait_s, quiet_s), max(slice_s, quiet_s)
        until = now_s + wait_s
        self._see_to_membership()
        messages: list[Message] = []
        room_bytes = FETCH_BYTES
        while True:
            # Fetch in portions, sized by the messages before: one call returns the client's whole backlog.
            portion = min(limit - len(messages), max(1, room_bytes // self._mean_bytes))
            fresh = gathered(self._consumer, portion, slice_s)
            messages += fresh
            if fresh:
                self._quiet_since_s = time.monotonic()
            room_bytes -= self._measure(fresh)
            # A record of another service's types does not end the wait: six in seven of an order's events are such.
            awaited = len(messages) >= limit or room_bytes <= 0 or any(map(self._is_awaited, fresh))
            if awaited or not self._jobs.empty() or time.monotonic() >= until:
                return messages

    def _measure(self, messages: Sequence[Message]) -> int:
        """Return the size of these messages in bytes, and keep their mean size for the next portion."""
        size = sum(map(len, messages))
        if messages:
            self._mean_bytes = max(1, size // len(messages))
        return size

    def _see_to_membership(self) -> None:
        """Raise LeaseLostError where the client finds no way back; seen once, after its broker's name was gone.

        A member id means that the coordinator accepted the consumer; the assignment follows when all members have
        answered, which takes one poll's time.
        """
        is_known, now_s = bool(self._consumer.memberid()), time.monotonic()
        if not self._out_since_s:
            self._out_since_s = 0.0 if is_known else now_s  # a member without partitions gets no callback
            return
        bound_s = self._options.rejoin_s + (self._options.poll_s if is_known else 0.0)
        if now_s - self._out_since_s >= bound_s:
            self._out_since_s = now_s
            _log.warning("%s: not in its group for %g s: it joins again", self._where, bound_s)
            raise LeaseLostError("this member cannot rejoin its group", where=self._where)

    def _commit(self, places: list[TopicPartition]) -> None:
        sound(self._consumer.commit(offsets=places, asynchronous=False) or [])

    def _look_up(self, partitions: Sequence[int]) -> list[Found]:
        found = []
        places = [TopicPartition(self._name, partition) for partition in partitions]
        for place, on_committed in zip(places, noted_offsets(self._consumer, places, LOOK_UP_S), strict=True):
            ends: tuple[int, int] | None = self._consumer.get_watermark_offsets(place, timeout=LOOK_UP_S)
            if ends is None:
                raise KafkaException(KafkaError(TIMED_OUT))
            assigned = Assigned(place.partition, max(on_committed.offset, ends[0]), ends[1])
            is_known = on_committed.offset >= 0
            found.append(
                Found(
                    assigned,
                    on_committed.note if is_known else None,
                    on_committed.offset if is_known else assigned.committed,
                )
            )
        return found

    def _call(self, method: Any, partitions: Sequence[int]) -> None:
        try:
            method([TopicPartition(self._name, partition) for partition in partitions])
        except KafkaException as error:
            # Revoked in the same moment: there is nothing to hold back.
            _log.debug("%s: %s", self._where, self._options.masked(str(error)))

    def _close(self) -> None:
        self._left = True
        self._consumer.close()

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._out_since_s = 0.0
        self._quiet_since_s = time.monotonic()
        _log.info("%s: assigned partitions %s", self._where, _numbers(partitions))
        self._call_soon(self._listener.on_assigned, _numbers(partitions))

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        if partitions and not self._left:
            settled = threading.Event()
            # Set by a job of this thread, so that the thread notices it at once.
            self._call_soon(self._listener.on_revoking, _numbers(partitions), partial(self._jobs.put, settled.set))
            if not self._work_until(settled):
                _log.warning("%s: partitions %s are revoked with unfinished work", self._where, _numbers(partitions))
        _log.info("%s: revoked partitions %s", self._where, _numbers(partitions))
        self._call_soon(self._listener.on_revoked, _numbers(partitions))

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._out_since_s = time.monotonic()
        _log.info("%s: lost partitions %s", self._where, _numbers(partitions))
        self._call_soon(self._listener.on_revoked, _numbers(partitions))

    def _on_commit(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        failure = error or next((place.error for place in places if place.error is not None), None)
        offsets = {place.partition: place.offset for place in places}
        self._call_soon(self._listener.on_committed, offsets, failure.str() if failure else "")

    def _work_until(self, settled: threading.Event) -> bool:
        """Do the queued jobs, commits above all, until the partitions are settled; False if that takes too long."""
        until = time.monotonic() + self._options.revoke_s
        while not settled.is_set():
            try:
                job = self._jobs.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                return False
            job()
        return True

    def _call_soon(self, callback: Any, *what: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *what)


def _succeed(answer: asyncio.Future[T], result: T) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


def _numbers(partitions: Sequence[TopicPartition]) -> list[int]:
    return sorted(place.partition for place in partitions)
