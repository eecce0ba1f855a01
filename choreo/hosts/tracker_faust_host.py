"""A worker of the tracker on Kafka: a Faust application and what is done with its partitions, made anew when it fails.

Waits for a cluster that is away; ends where going on could lose a state.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeAlias

from choreo.adapters.kafka import KafkaLog
from choreo.app.counters import Counters
from choreo.app.dependencies import DependencyReports
from choreo.core.definition import FlowDefinition, FlowTable
from choreo.core.errors import (
    NotFoundError,
    ReplacedLogError,
    SettingsError,
    StorageError,
    UnavailableError,
)
from choreo.core.events import Envelope, Record
from choreo.hosts.tracker_faust import Noted, TrackerApp
from choreo.hosts.tracker_faust_desk import ChangelogError, SkippedError, States, TrackerDesk
from choreo.hosts.tracker_faust_folder import claimed
from choreo.hosts.tracker_faust_ground import Ground
from choreo.hosts.tracker_faust_local import LocalCopy
from choreo.hosts.tracker_faust_options import FaustOptions
from choreo.hosts.tracker_faust_partition import Missing
from choreo.hosts.tracker_faust_trust import Footing, describe, note_of
from choreo.ports.clock import Clock
from choreo.ports.dead_letters import DeadLetters
from choreo.ports.dependencies import Dependencies, report_error

_log = logging.getLogger(__name__)

ReadEvent: TypeAlias = Callable[[Sequence[tuple[str, bytes]], bytes | None, bytes | None, str], Envelope]
"""The event in a Kafka record: of its headers, key, value, and the flow. What cannot be read is `choreo.Unreadable`."""

BATCH = 500
"""Records folded at once at the most: some 20 ms of work."""
CROWD, GATHER_S = 50, 0.1
"""From so many records a fetch on (that are less than two batches), the next one waits: above 500 records a second the
events of an instance come together, and its state is written once for several of them. Below, nothing waits."""
COMMIT_S = 1.0
"""How much is read again after a crash."""
CHECK_S = 10.0
"""How often it is asked whether anything moves; what stands still from one time to the next is made anew."""
GIVEN_S = 60.0
"""How long partitions may be neither given nor restored while the cluster answers: a rebalance takes 20 s at the most,
and a restore gives a sign with every fetch."""
IDLE_S = 0.25
STOP_S = 20.0
_PAUSE_S, _PAUSE_MAX_S = 0.5, 5.0
_LOG_APPEND_TIME = 1
_NO_STAMP = (1 << 62, 0)
"""Stands where nothing of a partition was taken yet: after any offset."""


def _unheard(_: int) -> None:
    """Nobody wants to know the log's time."""


class FaustTracker:
    """One worker of the tracker of one flow. Several share the partitions through the consumer group."""

    def __init__(
        self,
        flow: FlowDefinition,
        log: KafkaLog,
        letters: DeadLetters,
        clock: Clock,
        *,
        options: FaustOptions,
        read: ReadEvent,
        counters: Counters | None = None,
        heard: Callable[[int], None] = _unheard,
        dependencies: Dependencies | None = None,
    ) -> None:
        """`log` publishes the facts; `read` takes a record's event out of its headers, key and value.

        `heard` is told of the log's time, from each batch.
        """
        self.flow = flow
        self.options = options
        self.counters: Counters = counters or Counters()
        self.dependencies: Dependencies | DependencyReports = dependencies or DependencyReports(clock)
        self.role: str = f"tracker of {flow.name}"
        self._table = FlowTable(flow)
        self.log = log
        self._letters = letters
        self._clock = clock
        self._read = read
        self.heard = heard
        self._stopping = asyncio.Event()
        self._session: _Session | None = None
        self._session_count = 0
        self.polled_ms: int = 0
        """The last moment at which it was seen to make progress, to have nothing to do, or to wait for the cluster."""

    @property
    def is_recovered(self) -> bool:
        """Whether its states are restored and its partitions are being read."""
        return self._session is not None and self._session.is_recovered

    async def run(self) -> None:
        """Work until `stop`. A cluster that is away is waited for.

        Raises ChangelogError when a state could not be written, SettingsError on topics that do not fit.
        """
        with claimed(self.options.folder / self.flow.name) as folder:
            pause_s = _PAUSE_S
            while not self._stopping.is_set():
                began_ms = self.now_ms()
                try:
                    with closing(LocalCopy(folder)) as local:
                        await self._live(folder, local)
                except ChangelogError:
                    raise
                except (StorageError, UnavailableError, NotFoundError) as error:
                    # A topic that is not found was there: at the start it is a SettingsError.
                    pause_s = _PAUSE_S if self.now_ms() - began_ms > 60_000 else min(pause_s * 2, _PAUSE_MAX_S)
                    report_error(self.dependencies, self.role, error)
                    self.counters.add("tracker_restarts", 1)
                    self.polled_ms = self.now_ms()
                    await _until(self._stopping, pause_s)
                finally:
                    self._session = None

    async def _live(self, folder: Path, local: LocalCopy) -> None:
        try:
            ground = await Ground.found(self.flow.name, self.log, self.options, local, self.counters)
        except SettingsError as error:
            if self._session_count:
                # It did work: somebody is at these topics just now.
                raise StorageError(error.what, where=error.where, remedy=error.remedy) from error
            raise
        self._session_count += 1
        self._session = _Session(self, folder, local, ground)
        await self._session.live(self._stopping)

    async def stop(self) -> None:
        """Let `run` end: what is acknowledged is committed, what is not is done again by the next owner."""
        self._stopping.set()

    def report_missing(self, missing: Mapping[int, Missing]) -> None:
        """Records of these partitions are gone that nobody has read; none: all were."""
        name = f"records of {self.flow.name}"
        if not missing:
            self.dependencies.clear(name)
            return
        self.dependencies.report(
            name,
            f"records are gone that nobody has read: {describe(missing)}",
            "No clock decides for runs there of which nothing came since: look at them, and cancel them where they do "
            f"not go on. With every role stopped, `choreo topics adopt {self.flow.name} --same-records` says that this "
            "is done.",
        )

    def now_ms(self) -> int:
        """The present moment."""
        return self._clock.now_ms()

    def desk(self, states: States) -> TrackerDesk:
        """A desk for a new session."""
        return TrackerDesk(self._table, self.log, self._letters, states, self._clock, self.counters, self.dependencies)

    def record(self, message: Any, stamp_ms: int) -> Record:
        """The record in a Kafka message, with the log's time of it."""
        event = self._read(message.headers, message.key, message.value, self.flow.name)
        return Record(self.flow.name, message.partition, message.offset, stamp_ms, event)


class _Session:
    """One life of the Faust application (`tracker_faust.Owner`)."""

    def __init__(self, host: FaustTracker, folder: Path, local: LocalCopy, ground: Ground) -> None:
        self.is_recovered = False
        self._host = host
        self._ground = ground
        self._topic = host.options.topic(host.flow.name)
        self._app = TrackerApp.of(host.flow.name, host.options, folder, ground.origin.partitions, self, local)
        self._desk = host.desk(self._app.states)
        self._fetched: asyncio.Queue[Sequence[Any]] = asyncio.Queue(1)
        self._stamps: dict[int, tuple[int, int]] = {}
        """Of each partition: the offset of the record taken last, and the log's time then."""
        self._failed: Exception | None = None
        self._batch_ms = 0
        """When the batch at work began; 0: none is."""
        self._is_away = False
        """Whether the cluster did not answer when it was asked last."""
        self._committed: dict[int, int] = {}
        self._footings: dict[int, Footing] = {}
        self._sign_ms = host.now_ms()
        """The last sign that partitions are on their way, while they are not this worker's."""
        self._is_taking = False

    async def live(self, stopping: asyncio.Event) -> None:
        """Work until `stopping` is set. Raises what ended it: a StorageError where a new session may do better."""
        starting = asyncio.ensure_future(self._app.start())
        tasks = [asyncio.ensure_future(task) for task in (self._work(), self._tell(), self._record(), self._watch())]
        try:
            while not stopping.is_set():
                self._raise_failure(starting, *tasks)
                idle = self._is_away or not self._batch_ms
                self._host.polled_ms = self._host.now_ms() if idle else self._batch_ms
                await _until(stopping, IDLE_S)
        finally:
            await self._close(starting, *tasks)

    def _raise_failure(self, starting: asyncio.Future[None], *tasks: asyncio.Future[None]) -> None:
        failed = self._failed or next(filter(None, (task.exception() for task in tasks if task.done())), None)
        if failed is not None:
            raise failed
        cause = starting.exception() if starting.done() else None
        if self._app.crashed:
            cause = self._app.crash_reason or cause
        if cause is not None:
            raise StorageError(f"Faust ended: {cause!r}", where=f"tracker of {self._topic}") from cause

    async def _work(self) -> None:
        """Work what was fetched, batch by batch."""
        while True:
            messages = await self._fetched.get()
            for start in range(0, len(messages), BATCH):
                batches = await self._batches(messages[start : start + BATCH])
                if batches and messages[start].timestamp_type == _LOG_APPEND_TIME:
                    self._host.heard(round(messages[start].timestamp * 1000))
                self._batch_ms = self._host.now_ms()
                await self._desk.work(batches)
                self._batch_ms = 0

    async def _batches(self, messages: Sequence[Any]) -> dict[int, list[Record]]:
        """Return the records of these messages by partition, each with the log's time."""
        batches: dict[int, list[Record]] = {}
        for message in messages:
            # What was fetched before a rebalance is read again after it, by whoever owns it then.
            if message.generation_id != self._app.consumer_generation_id:
                continue
            if message.timestamp_type == _LOG_APPEND_TIME:
                self._stamps[message.partition] = message.offset, round(message.timestamp * 1000)
            elif self._stamps.get(message.partition, _NO_STAMP)[0] > message.offset:
                # It carries its producer's time: what the log gives it instead depends on the records before it.
                read = await self._host.log.read(self._host.flow.name, message.partition, message.offset, 1)
                self._stamps[message.partition] = message.offset, read[0].stamp_ms if read else 0
            stamp_ms = self._stamps[message.partition][1]
            batches.setdefault(message.partition, []).append(self._host.record(message, stamp_ms))
        return batches

    async def _tell(self) -> None:
        """Say what nobody has read, and what the clock makes due."""
        while True:
            await self._desk.tick()
            await asyncio.sleep(self._desk.patience_s(IDLE_S))

    async def _record(self) -> None:
        """Commit now and then how far this worker came."""
        while True:
            await asyncio.sleep(COMMIT_S)
            await self._commit()

    async def _commit(self) -> None:
        safe = {partition: owned.safe for partition, owned in self._desk.owned.items()}
        moved = {partition: offset for partition, offset in safe.items() if offset != self._committed.get(partition)}
        if moved and await self._app.commit_offsets(self._noted(moved)):
            self._committed.update(moved)

    def _noted(self, offsets: Mapping[int, int]) -> dict[int, Noted]:
        """The places to commit for these offsets, of partitions that were taken over."""
        written, origin = self._app.states.written, self._ground.origin
        return {
            partition: Noted(offset, written.get(partition, 0), note_of(origin, self._footings[partition]))
            for partition, offset in offsets.items()
        }

    async def _watch(self) -> None:
        """See that records which stand in the log arrive here; raises SkippedError when they do not."""
        positions: dict[int, int] = {}
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                await self._ground.check()
                await self._check_given()
                positions = await self._desk.check_progress(positions)
                self._is_away = False
                if self.is_recovered:
                    self._host.dependencies.clear(self._host.role)
            except (SkippedError, ReplacedLogError):
                raise
            except (StorageError, UnavailableError) as error:
                self._is_away = True
                self._sign_ms = self._host.now_ms()
                report_error(self._host.dependencies, self._host.role, error)

    async def _check_given(self) -> None:
        """Raises SkippedError where Faust has lost its way: in its group, maybe, and with nothing to work."""
        if self.is_recovered or self._is_taking or self._host.now_ms() - self._sign_ms < GIVEN_S * 1_000:
            return
        await self._host.log.end(self._host.flow.name, 0)
        raise SkippedError(
            f"no partition was given or restored for {GIVEN_S:g} s, and the cluster answers",
            where=f"tracker of {self._topic}",
            remedy="The consumer is made anew.",
        )

    async def _close(self, *tasks: asyncio.Future[None]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=STOP_S)
        try:
            async with asyncio.timeout(STOP_S):
                await self._commit()
                await self._app.stop()
        except Exception as error:  # noqa: BLE001 - it is of no use any more; what it held is released below
            _log.warning("tracker of %s: Faust did not stop in order: %r", self._topic, error)

    # What the application calls.

    async def fetched(self, messages: Sequence[Any]) -> None:
        """One fetch is worked while the next is being fetched, and no more."""
        await self._fetched.put(messages)
        if CROWD <= len(messages) < 2 * BATCH:
            await asyncio.sleep(GATHER_S)

    def restored(self, partition: int, rows: Mapping[bytes, bytes]) -> None:
        """States were restored into the local copy."""
        self._sign_ms = self._host.now_ms()
        self._desk.restored(partition, rows)

    async def recovered(self) -> None:
        """The partitions are this worker's."""
        self._is_taking = True
        self._stamps.clear()
        try:
            takes = await self._ground.look_over(self._app.partitions())
            self._app.states.written.update(self._ground.written)
            self._footings = {partition: take.footing for partition, take in takes.items()}
            places = self._noted({partition: take.position for partition, take in takes.items()})
            if places and not await self._app.commit_offsets(places):
                return
            assigned = await self._app.assigned()
            if assigned is None:
                return
            self._committed, spans = assigned
            # Decisions may stand behind an open transaction: none is made before they are read.
            flow, log = self._host.flow.name, self._host.log
            whole = {number: (begin, max(end, await log.end(flow, number))) for number, (begin, end) in spans.items()}
            missing = {p: footing.missing for p, footing in self._footings.items() if footing.missing}
            await self._desk.give(whole, missing)
            self._host.report_missing(missing)
        except Exception as error:  # noqa: BLE001 - Faust would swallow it; the session ends with it
            self._failed = error
        else:
            self.is_recovered = True
            self._host.dependencies.clear(self._host.role)
            _log.info("tracker of %s owns partitions %s", self._topic, sorted(spans))
        finally:
            self._is_taking = False

    async def revoked(self) -> None:
        """Say how far this worker came, and let its partitions go."""
        self.is_recovered = False
        self._sign_ms = self._host.now_ms()
        self._host.report_missing({})
        await self._commit()
        self._desk.take_back()


async def _until(stopping: asyncio.Event, timeout_s: float) -> None:
    """Wait, but not past the stop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await stopping.wait()
