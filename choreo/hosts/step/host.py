"""The step host: one service in one flow, one consumer of its group.

Each round takes a poll and the handlers' results, begins the commit of finished jobs, and starts ready ones while the
commit runs. Everything moves in batches; nothing is awaited per event. `Pipeline` has the stages, `StepHost` the
loop around them: joining, waiting for storage, stopping.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from choreo.app.dependencies import DependencyReports
from choreo.app.metrics import Metrics
from choreo.app.tracing import AttemptTraces
from choreo.core.backoff import Backoff
from choreo.core.declare.steps import Service
from choreo.core.definition import FlowDefinition
from choreo.core.errors import LeaseLostError, NotFoundError, StorageError
from choreo.hosts.runners.port import Runners, RunnersFactory
from choreo.hosts.runners.runners import ThreadedRunners
from choreo.hosts.step.attempts import AttemptStarter
from choreo.hosts.step.commit import Committer
from choreo.hosts.step.context import HostContext, Ports, context_of
from choreo.hosts.step.dispatch import Dispatcher
from choreo.hosts.step.heartbeats import Heartbeats
from choreo.hosts.step.leases import LeaseRenewal
from choreo.hosts.step.results import ResultHandler
from choreo.hosts.step.session import IDLE_S, Session, Wakeup
from choreo.hosts.step.work_queue import Limits, WorkQueue
from choreo.ports.clock import Clock
from choreo.ports.codec import Codec
from choreo.ports.dead_letters import DeadLetters
from choreo.ports.dependencies import Dependencies, report_error
from choreo.ports.inbox import AttemptLease, Inbox
from choreo.ports.log import Consumer, Log, Poll

_log = logging.getLogger(__name__)

POLL_SIZE = 500
"""Records a poll: some 20 ms of work, of which the commit is a few per cent."""
QUEUED_MAX = 4 * POLL_SIZE
"""Jobs in the queue before reading pauses: as many as a rebalance may have to give back."""
PAUSE_FIRST_S, PAUSE_MOST_S = 0.05, 1.0
"""Delays while storage fails: doubling, and short enough to go on soon after it is back."""
REFUSED_S = 0.25
"""How long a refused commit waits for a poll that reports the revoked partitions: idle polls may take long."""


class Pipeline:
    """The stages of one host, in the order in which a record passes through them."""

    def __init__(self, context: HostContext, limits: Limits, runners: RunnersFactory, wakeup: Wakeup) -> None:
        """Set `wakeup` when a retry is due, when results are in and when a commit is over."""
        self.dispatcher: Dispatcher = Dispatcher(context)
        self.queue: WorkQueue = WorkQueue(context, limits, wakeup.set)
        self.runners: Runners = runners(context.service.name, limits.concurrency, wakeup.set_threadsafe)
        self.heartbeats: Heartbeats = Heartbeats(context, self.runners.give_up)
        self.starter: AttemptStarter = AttemptStarter(context, self.heartbeats)
        self.results: ResultHandler = ResultHandler(context)
        self.committer: Committer = Committer(context, self.queue, wakeup.set)
        self.leases: LeaseRenewal = LeaseRenewal(context, self.queue)
        self.clock: Clock = context.ports.log_clock
        self.is_reading_paused: bool = False

    async def take(self, poll: Poll, consumer: Consumer) -> None:
        """Take over a poll's partitions and records; a revoked partition waits for the commit that runs."""
        if poll.revoked:
            await self.committer.wait()
            self.committer.polled()
        for partition in poll.revoked:
            self.queue.revoke(partition)
        for assigned in poll.assigned:
            self.queue.assign(assigned.partition, assigned.committed)
        self.dispatcher.take(poll, consumer)

    async def dispatch(self, consumer: Consumer) -> None:
        """Queue the jobs of the records that have come."""
        dispatched = await self.dispatcher.dispatch(consumer)
        for job in dispatched.jobs:
            self.queue.add(job)
        for job, result in dispatched.results:
            self.queue.apply(job, result)
        self.queue.recheck(dispatched.stopped)
        self.queue.was_read(dispatched.read)

    async def finish(self, consumer: Consumer, *, idle: bool) -> None:
        """Take the handlers' results, and begin to commit all results; offsets alone only when `idle` or overdue."""
        self.queue.ended(self.results.handle(self.runners.results()))
        await self.leases.release()
        await self.committer.settle(consumer, idle=idle)

    async def start(self) -> None:
        """Start the jobs that are ready and have room. Raises the error of the storage that failed."""
        started = await self.starter.start(self.queue.ready.startable(self.clock.now_ms()))
        self.queue.ready.put_back(started.again)
        for job, result in started.results:
            self.queue.apply(job, result)
        if started.attempts:
            self.queue.started(started.attempts)
            if self.heartbeats.is_used:
                self.heartbeats.started(started.attempts)
            self.leases.started()
            self.runners.start(started.attempts)
        if started.error is not None:
            raise started.error

    def steer(self, consumer: Consumer) -> None:
        """Read no more than the queue can hold; let the watchdog rest when nothing runs."""
        if self.queue.full != self.is_reading_paused:
            self.is_reading_paused = self.queue.full
            self.dispatcher.hold_back(consumer, held=self.is_reading_paused)
        if not self.queue.ready.running:
            self.runners.idle()

    @property
    def is_empty(self) -> bool:
        """Return whether nothing runs or waits to be committed."""
        return not (self.queue.ready.running or self.queue.has_finished or self.committer.busy)

    @property
    def has_results(self) -> bool:
        """Return whether there is a result to be taken: of a handler, or of a commit."""
        return self.runners.has_results or self.committer.has_ended

    @property
    def can_commit(self) -> bool:
        """Return whether there are results and no commit runs."""
        return self.queue.has_finished and not self.committer.busy

    @property
    def can_go_on(self) -> bool:
        """Return whether there is something to dispatch or to start."""
        return self.queue.ready.can_start or self.dispatcher.has_work

    def revoke_all(self) -> None:
        """Drop every partition."""
        for partition in self.queue.partitions:
            self.queue.revoke(partition)
            self.dispatcher.revoke(partition)


class Shutdown:
    """How far a stop has come."""

    def __init__(self) -> None:
        self.asked: bool = False
        self.given_up: bool = False
        """The bound for handlers that still run has passed."""
        self.ended: asyncio.Event = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None

    @property
    def is_draining(self) -> bool:
        """Return whether no more work is taken."""
        return self._draining is not None

    def ask(self) -> None:
        """Note that the host is to stop."""
        self.asked = True

    def drain(self, bound: Callable[[], Awaitable[None]], wake: Callable[[], None]) -> None:
        """Take no more work; give up running attempts after `bound`, and call `wake`."""
        self._draining = asyncio.ensure_future(self._give_up_after(bound, wake))

    def end(self) -> None:
        """Note that nothing more will run."""
        if self._draining is not None:
            self._draining.cancel()

    async def _give_up_after(self, bound: Callable[[], Awaitable[None]], wake: Callable[[], None]) -> None:
        await bound()
        self.given_up = True
        wake()


class StepHost:
    """Runs one service's steps in one flow. Several share the partitions through the group named as the service."""

    def __init__(
        self,
        service: Service,
        flow: FlowDefinition,
        log: Log,
        inbox: Inbox,
        dead_letters: DeadLetters,
        codec: Codec,
        clock: Clock,
        *,
        name: str,
        concurrency: int = 64,
        poll_size: int = POLL_SIZE,
        queued_max: int = QUEUED_MAX,
        stop_s: float = 10.0,
        lease_s: float = 3.0,
        tracebacks: bool = True,
        metrics: Metrics | None = None,
        dependencies: Dependencies | None = None,
        log_clock: Clock | None = None,
        linger_ms: int = 0,
        traces: AttemptTraces | None = None,
        runners: RunnersFactory = ThreadedRunners,
        idle_s: float = IDLE_S,
        build: str = "",
    ) -> None:
        """Take a `name` unique in the group; `flow` may be scaled, `log_clock` (or `clock`) judges deadlines.

        `concurrency`: handlers of one step that run at once; `queued_max`: jobs before reading pauses; `stop_s`: how
        long a stop waits for handlers; `lease_s`: how long after the last renewal no other process begins an attempt
        that runs here; `tracebacks`: see `OutcomeFactory`; `linger_ms`: how long the inbox keeps an ended run, at least
        as the flow says; `traces` makes spans; `runners` call the handlers; `idle_s`: the longest wait of a poll;
        `build`: the build whose runs it takes, "" for those without one.
        """
        ports = Ports(log, inbox, dead_letters, codec, clock, log_clock or clock)
        lease = AttemptLease(name, round(lease_s * 1_000))
        reports = dependencies or DependencyReports(clock)
        about = (service, flow, ports, lease, metrics or Metrics(), reports)
        self._context = context_of(*about, tracebacks=tracebacks, linger_ms=linger_ms, traces=traces, build=build)
        self.polled_ms: int = 0
        """When it last polled, began the running commit, or reported the reason why it waits: a sign of life."""
        self._stop_s = stop_s
        self._wakeup = Wakeup()
        self._session = Session(self._context, name, poll_size, self._wakeup, idle_s)
        self._pipeline = Pipeline(self._context, Limits(queued_max, concurrency), runners, self._wakeup)
        self._shutdown = Shutdown()

    @property
    def name(self) -> str:
        """Return its name in the group."""
        return self._context.lease.holder

    @property
    def metrics(self) -> Metrics:
        """Return the metrics that it adds to."""
        return self._context.metrics

    @property
    def partitions(self) -> list[int]:
        """Return the partitions that are assigned to it."""
        return self._pipeline.queue.partitions

    @property
    def queued(self) -> int:
        """Return the number of jobs that wait or run."""
        return self._pipeline.queue.size

    @property
    def is_reading_paused(self) -> bool:
        """Return whether it takes no more records, because its queue is full."""
        return self._pipeline.is_reading_paused

    async def run(self) -> None:
        """Work until `stop`; storage that fails is waited for, work that lost its lease is dropped.

        Raises NotFoundError where the flow's topic was never made.
        """
        self._wakeup.begin()
        backoff = Backoff(PAUSE_FIRST_S, PAUSE_MOST_S)
        beside = [asyncio.create_task(part.keep()) for part in (self._pipeline.leases, self._pipeline.heartbeats)]
        try:
            with suppress(StorageError):  # reported below, where it is waited for
                await self._session.join()
            while not self._is_over():
                await self._guarded_round(backoff)
        finally:
            for task in beside:
                task.cancel()
            await self._leave()

    async def stop(self) -> None:
        """Take no more work, let running handlers finish within `stop_s` or give them up, commit, and leave."""
        self._shutdown.ask()
        self._wakeup.set()
        if self._wakeup.has_begun:
            await self._shutdown.ended.wait()

    async def _guarded_round(self, backoff: Backoff) -> None:
        """Make one round; wait a moment after one that failed."""
        reports, clock = self._context.dependencies, self._context.ports.clock
        role = f"service {self._context.service.name} in {self._context.topic}"
        try:
            await self._round(await self._session.join())
        except LeaseLostError as error:
            _log.info("service %s: %s", self.name, error)
            await self._rejoin()
        except (StorageError, NotFoundError) as error:  # a topic that existed before may come back
            report_error(reports, role, error)
            self.polled_ms = clock.now_ms()
            self.metrics.add("storage_errors", 1)
            if self._shutdown.asked and self._session.is_open:
                self._drain(await self._session.join())  # a round may never reach that point
            await clock.sleep(backoff.next_s())
        # No error here may end the host: it is reported, and the round is tried again.
        except Exception as error:  # noqa: BLE001
            _log.exception("service %s", self.name)
            reports.report(role, f"{type(error).__name__}: {error}", "See the log.")
            await clock.sleep(PAUSE_MOST_S)
        else:
            if not self._pipeline.committer.has_failed:  # else a round that only begins a commit ends the report
                backoff.reset()
                reports.clear(role)

    async def _round(self, consumer: Consumer) -> None:
        pipeline = self._pipeline
        poll = await self._next_poll(consumer)
        if poll is not None:
            await pipeline.take(poll, consumer)
            self.polled_ms = pipeline.committer.since_ms
        if self._shutdown.asked:
            self._drain(consumer)
        else:
            await pipeline.dispatch(consumer)
        stopping = self._shutdown.asked
        await pipeline.finish(consumer, idle=stopping or (poll is not None and not poll.records))
        if not self._shutdown.asked:
            await pipeline.start()
        if not self._shutdown.asked:
            pipeline.steer(consumer)

    async def _next_poll(self, consumer: Consumer) -> Poll | None:
        """Return the poll that is over; wait for it, or for other news, when there is nothing else to do."""
        polling = self._session.begin_poll(consumer)
        if self._pipeline.committer.is_refused:
            await self._wait_for_revocation(polling)
        elif self._is_busy:
            await asyncio.sleep(0)
        else:
            await self._wakeup.wait(lambda: self._session.has_polled or self._pipeline.has_results)
        return self._session.polled()

    async def _wait_for_revocation(self, polling: asyncio.Task[Poll]) -> None:
        """Wait for a poll that reports the revoked partitions; it reports none where the inbox has lost its gates."""
        limit = asyncio.ensure_future(self._context.ports.clock.sleep(REFUSED_S))
        try:
            await asyncio.wait((polling, limit), return_when=asyncio.FIRST_COMPLETED)
        finally:
            limit.cancel()
        self._pipeline.committer.polled()

    @property
    def _is_busy(self) -> bool:
        """Return whether the next round has something to do in any case."""
        if self._pipeline.can_commit:
            return True
        if self._shutdown.asked:
            return not self._shutdown.is_draining  # the stop came while it did something else
        return self._pipeline.can_go_on

    def _drain(self, consumer: Consumer) -> None:
        """Finish from now on only attempts that were counted as begun, whether their handler was called or not."""
        consumer.pause(self.partitions)
        if not self._shutdown.is_draining:
            self._pipeline.queue.drop_retries()
            clock = self._context.ports.clock
            self._shutdown.drain(lambda: clock.sleep(self._stop_s), self._wakeup.set)

    def _is_over(self) -> bool:
        if not self._shutdown.is_draining:
            return self._shutdown.asked and not self._session.is_open  # storage is away: nothing was begun
        return self._shutdown.given_up or self._pipeline.is_empty

    async def _rejoin(self) -> None:
        """Drop everything; the next round joins as a new consumer."""
        await self._pipeline.committer.give_up()
        self._pipeline.revoke_all()
        await self._session.close()

    async def _leave(self) -> None:
        self._pipeline.queue.abandon()
        self._pipeline.runners.close()
        self._shutdown.end()
        try:
            await self._pipeline.committer.give_up()
            await self._session.close()
        finally:
            self._shutdown.ended.set()
