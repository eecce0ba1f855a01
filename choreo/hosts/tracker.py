"""The tracker as a loop: poll, fold and commit, publish; join again when storage fails. One loop for every transport.

The transport is a consumer and a store of states (`ports.log`, `ports.state`); the rules stand in `app.tracking`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from choreo.app.dependencies import DependencyReports
from choreo.app.metrics import Metrics
from choreo.app.tracing import TrackerTraces
from choreo.app.tracking.fold import AttributesOf, FieldsOf
from choreo.app.tracking.worker import TrackerWorker
from choreo.core.backoff import Backoff
from choreo.core.definition import FlowDefinition
from choreo.core.errors import ChoreoError, LeaseLostError, NotFoundError, StorageError, UnavailableError
from choreo.core.flow_table import FlowTable
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies, report_error
from choreo.ports.log import TRACKER_GROUP, Consumer, Log
from choreo.ports.read_model import ReadModel
from choreo.ports.state import TrackerStates

_log = logging.getLogger(__name__)

POLL_SIZE = 1_000
"""Records a poll: at 20 µs an event a full batch keeps the loop busy for 20 ms, and the commit is 2 % of it."""
IDLE_S = 0.25
"""The longest wait of a poll: a member must poll several times within its lease."""
STOP_S = 5.0
"""How long a stop waits for the batch under way: many times the longest one."""
PAUSE_FIRST_S, PAUSE_MAX_S = 0.05, 5.0
"""Waits after a failure of storage: doubling, and short enough to go on soon after it is back."""


def _never() -> bool:
    return False


class TrackerHost:
    """One worker of the tracker of one flow. Several share the partitions through the group."""

    def __init__(
        self,
        flow: FlowDefinition,
        log: Log,
        states: TrackerStates,
        clock: Clock,
        *,
        name: str,
        attributes_of: AttributesOf | None = None,
        fields_of: FieldsOf | None = None,
        read_model: ReadModel | None = None,
        metrics: Metrics | None = None,
        dependencies: Dependencies | None = None,
        join: Callable[[], Awaitable[Consumer]] | None = None,
        is_waiting: Callable[[], bool] = _never,
        traces: TrackerTraces | None = None,
        idle_s: float = IDLE_S,
    ) -> None:
        """Give each worker a unique `name`; without `attributes_of` it makes no views.

        Branches on data and search attributes need `fields_of`; the latter also the `read_model` to which the commits
        write. `join` returns the consumer, where the log itself does not. `is_waiting` returns whether the consumer
        waits for the cluster: such a worker neither hangs nor is ready. `traces` makes spans. `idle_s` is the longest
        wait of a poll.
        """
        self.flow = flow
        self.metrics: Metrics = metrics or Metrics()
        self.dependencies: Dependencies | DependencyReports = dependencies or DependencyReports(clock)
        self._role = f"tracker of {flow.name}"
        self._worker = TrackerWorker(
            FlowTable(flow), log, states, clock, self.metrics, attributes_of, fields_of, read_model, traces=traces
        )
        self._join = join or self._join_log
        self._log = log
        self._clock = clock
        self._name = name
        self._is_waiting = is_waiting
        self._idle_s = idle_s
        self._stopping = asyncio.Event()
        self._polled_ms = 0
        self._backoff = Backoff(PAUSE_FIRST_S, PAUSE_MAX_S)

    @property
    def polled_ms(self) -> int:
        """Return when it last polled, for health checks; now while it waits for storage."""
        return self._clock.now_ms() if self._is_waiting() else self._polled_ms

    @property
    def is_ready(self) -> bool:
        """Return whether it has partitions, with their states."""
        return bool(self._worker.owned) and not self._is_waiting()

    async def run(self) -> None:
        """Work until `stop`; storage that fails is waited for, work that lost its lease is dropped.

        Raises ChangelogError when a state could not be written, SettingsError on topics that do not fit.
        """
        working = asyncio.ensure_future(self._work_until_stopped())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((working,), timeout=STOP_S)
        finally:
            stopping.cancel()
            working.cancel()
            await asyncio.wait((working,))
        if not working.cancelled():
            working.result()

    async def stop(self) -> None:
        """Let `run` end after the present batch, or without it where storage does not answer."""
        self._stopping.set()

    async def _join_log(self) -> Consumer:
        return await self._log.consumer(self.flow.name, TRACKER_GROUP, self._name)

    async def _work_until_stopped(self) -> None:
        consumer: Consumer | None = None
        try:
            while not self._stopping.is_set():
                try:
                    consumer = consumer or await self._join()
                    await self._poll(consumer)
                except LeaseLostError as error:
                    _log.info("tracker %s: %s", self._name, error)
                    await self._leave(consumer)
                    consumer = None
                except (StorageError, UnavailableError, NotFoundError) as error:
                    self._polled_ms = self._clock.now_ms()
                    report_error(self.dependencies, self._role, error)
                    self.metrics.add("storage_errors", 1)
                    await self._leave(consumer)
                    consumer = None
                    await self._clock.sleep(self._backoff.next_s())
        finally:
            await self._leave(consumer)

    async def _poll(self, consumer: Consumer) -> None:
        """Poll once, then fold, commit and publish."""
        worker = self._worker
        poll = await consumer.poll(POLL_SIZE, worker.timeout_s(self._idle_s))
        self._polled_ms = self._clock.now_ms()
        worker.revoke(poll.revoked)
        for assigned in poll.assigned:
            await worker.assign(assigned)
            self._polled_ms = self._clock.now_ms()
        if poll.assigned or poll.revoked:
            _log.info("tracker of %s owns partitions %s", self.flow.name, sorted(worker.owned))
        if poll.records or poll.read:
            await worker.work(consumer, poll)
        await worker.publish_pending(consumer)
        if not self._is_waiting():
            self._backoff.reset()
            self.dependencies.clear(self._role)

    async def _leave(self, consumer: Consumer | None) -> None:
        """Give up the partitions; where storage does not let this member leave, its lease runs out."""
        self._worker.forget()
        if consumer is not None:
            try:
                await consumer.close()
            except ChoreoError as error:
                _log.info("tracker %s could not leave its group: %s", self._name, error)
