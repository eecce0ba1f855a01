"""The step host: one service in one flow, one member of its consumer group.

Each turn of its loop: take what a poll brought, hear what handlers answered, have both committed in one piece, start
what is ready while that is under way. Everything moves in batches; nothing is awaited per event. The decisions stand in
`choreo.app`.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from choreo.app.counters import Counters
from choreo.app.dependencies import DependencyReports
from choreo.app.jobs import Job
from choreo.core.declare import Service
from choreo.core.definition import FlowDefinition
from choreo.core.errors import LeaseLostError, StorageError
from choreo.hosts.runners import Runners
from choreo.hosts.step_commit import Committer
from choreo.hosts.step_follow import Follower
from choreo.hosts.step_holds import Holds
from choreo.hosts.step_intake import Intake
from choreo.hosts.step_launch import Launcher
from choreo.hosts.step_parts import Parts, Ports
from choreo.hosts.step_waits import Waits
from choreo.ports.clock import Clock
from choreo.ports.codec import Codec
from choreo.ports.dead_letters import DeadLetters
from choreo.ports.dependencies import Dependencies, report_error
from choreo.ports.inbox import Hold, Inbox
from choreo.ports.log import Log, Member, Poll

_log = logging.getLogger(__name__)

POLL_SIZE = 500
"""Records a poll: some 20 ms of work, of which the commit is a few per cent."""
IN_HAND_MAX = 4 * POLL_SIZE
"""Jobs in hand before reading pauses: what a rebalance may have to give back."""
IDLE_S = 0.25
"""The longest wait of a poll: a member must be heard of several times within its lease."""
PAUSE_FIRST_S, PAUSE_MOST_S = 0.05, 1.0
"""Waits for storage that fails: doubling, and short enough to go on soon after it is back."""


class StepHost:
    """Runs one service's steps in one flow. Several share the partitions through the group named as the service."""

    service: Service
    flow: FlowDefinition
    name: str

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
        in_hand_max: int = IN_HAND_MAX,
        stop_s: float = 10.0,
        hold_s: float = 3.0,
        tracebacks: bool = True,
        counters: Counters | None = None,
        dependencies: Dependencies | None = None,
        log_clock: Clock | None = None,
    ) -> None:
        """`name` is unique among the members, `flow` may be scaled, `log_clock` (or `clock`) judges deadlines.

        `concurrency`: handlers of one step that run at once; `stop_s`: how long a stop waits for those that run;
        `hold_s`: how long nobody else begins what runs here if this process is not heard of; `tracebacks`: see `Voice`.
        """
        self.service, self.flow, self.name = service, flow, name
        self.counters: Counters = counters or Counters()
        self.dependencies: Dependencies | DependencyReports = dependencies or DependencyReports(clock)
        self.polled_ms: int = 0
        """When it last polled, or began the commit that is under way: a sign of progress for health checks."""
        self._poll_size, self._stop_s = poll_size, stop_s
        ports = Ports(log, inbox, dead_letters, codec, clock, log_clock or clock)
        hold, limits = Hold(name, round(hold_s * 1_000)), (in_hand_max, concurrency)
        self._parts = parts = Parts(service, flow, ports, self.counters, hold, limits, tracebacks=tracebacks)
        self._desk = parts.desk
        self._waits = Waits(clock, self._again)
        self._runners = Runners(service.name, concurrency, self._wake)
        self._follower = Follower(parts, self._waits)
        self._launcher = Launcher(parts, self._runners, self._follower)
        self._intake = Intake(parts, self._follower)
        self._committer = Committer(parts, self._ring)
        self._holds = Holds(parts)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._member: Member | None = None
        self._polling: asyncio.Task[Poll] | None = None
        self._bell: asyncio.Future[None] | None = None
        self._reading_paused = self._stopping = self._given_up = False
        self._draining: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()

    @property
    def _reported_as(self) -> str:
        return f"service {self.service.name} in {self.flow.name}"

    async def run(self) -> None:
        """Work until `stop`; storage that fails is waited for, work that lost its lease is dropped.

        Raises NotFoundError where the flow's topic was never made.
        """
        self._loop = asyncio.get_running_loop()
        pause_s = PAUSE_FIRST_S
        keeping = asyncio.create_task(self._holds.keep())
        try:
            with suppress(StorageError):  # said below, where it is waited for
                await self._join()
            while not self._over():
                try:
                    await self._turn(await self._join())
                    pause_s = PAUSE_FIRST_S
                    self.dependencies.clear(self._reported_as)
                except LeaseLostError as error:
                    _log.info("service %s: %s", self.name, error)
                    await self._withdraw()
                except StorageError as error:
                    report_error(self.dependencies, self._reported_as, error)
                    self.counters.add("storage_errors", 1)
                    await self._parts.clock.sleep(pause_s)
                    pause_s = min(pause_s * 2, PAUSE_MOST_S)
                # Nothing that goes wrong here may end the host: it is said, and tried again.
                except Exception as error:  # noqa: BLE001
                    _log.exception("service %s", self.name)
                    self.dependencies.report(self._reported_as, f"{type(error).__name__}: {error}", "See the log.")
                    await self._parts.clock.sleep(PAUSE_MOST_S)
        finally:
            keeping.cancel()
            await self._leave()

    async def stop(self) -> None:
        """Take no more work, let what runs finish within `stop_s` or give it up, commit, and leave the group."""
        self._stopping = True
        self._ring()
        if self._loop is not None:
            await self._ended.wait()

    async def _join(self) -> Member:
        if self._member is None:
            types = self._parts.duties.types | self._parts.gates.types
            self._parts.voice.bytes_max = await self._parts.log.bytes_max(self.flow.name)
            self._member = await self._parts.log.member(self.flow.name, self.service.name, self.name, types)
        return self._member

    async def _turn(self, member: Member) -> None:
        poll = await self._news(member)
        if poll is not None:
            if poll.lost:
                await self._committer.wait()
            self.polled_ms = self._committer.since_ms
            self._intake.take(poll, member)
        if self._stopping:
            self._drain(member)
        if not self._stopping:
            await self._intake.plan(member)
        self._follower.hear(self._runners.results())
        await self._holds.release()
        await self._committer.settle(member, idle=self._stopping or (poll is not None and not poll.records))
        if not self._stopping:
            await self._launcher.launch()
        self._steer(member)

    async def _news(self, member: Member) -> Poll | None:
        """What a poll brought, if it is there; waits for it, or for a ring, when there is nothing else to do."""
        if self._polling is None:
            self._polling = asyncio.create_task(member.poll(self._poll_size, IDLE_S))
            self._polling.add_done_callback(self._ring)
        if self._committer.refused:
            await asyncio.wait((self._polling,))  # it will say which partitions are lost
        elif self._busy:
            await asyncio.sleep(0)
        else:
            self._bell = asyncio.get_running_loop().create_future()
            if not (self._polling.done() or self._runners.has_results or self._committer.has_news):
                await self._bell
            self._bell = None
        if not self._polling.done():
            return None
        polling, self._polling = self._polling, None
        return polling.result()

    @property
    def _busy(self) -> bool:
        """Whether the next turn has something to do in any case."""
        if (self._desk.concluded or self._desk.late) and not self._committer.busy:
            return True
        if self._stopping and self._draining is None:
            return True  # it was told to stop while it did something else
        return not self._stopping and (self._desk.can_start or self._intake.waiting)

    def _steer(self, member: Member) -> None:
        """Read no more than can be kept in hand; let the watch rest when nothing runs."""
        if self._stopping:
            return
        if self._desk.full != self._reading_paused:
            self._reading_paused = self._desk.full
            self._intake.hold_back(member, held=self._reading_paused)
        if not self._desk.running.total():
            self._runners.idle()

    def _drain(self, member: Member) -> None:
        """From here on only what was counted as begun is finished, whether its handler was called yet or not."""
        member.pause(list(self._desk.partitions()))
        if self._draining is not None:
            return
        self._waits.clear()
        self._draining = asyncio.create_task(self._give_up_later())

    async def _give_up_later(self) -> None:
        await self._parts.clock.sleep(self._stop_s)
        self._given_up = True
        self._ring()

    def _over(self) -> bool:
        if self._draining is None:
            return self._stopping and self._member is None  # storage is away: nothing is in hand
        in_hand = self._desk.running.total() or self._desk.concluded or self._desk.late or self._committer.busy
        return self._given_up or not in_hand

    def _again(self, job: Job) -> None:
        """A job's wait is over."""
        self._desk.make_ready(job)
        self._ring()

    def _wake(self) -> None:
        """Results are in. Called in any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ring)

    def _ring(self, _polled: object = None) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    async def _withdraw(self) -> None:
        """Drop everything; the next turn begins as a new member."""
        await self._committer.give_up()
        self._intake.lose_all()
        await self._close_member()

    async def _leave(self) -> None:
        self._waits.clear()
        self._runners.close()
        if self._draining is not None:
            self._draining.cancel()
        self.counters.add("in_flight", -self._desk.running.total())
        try:
            await self._committer.give_up()
            await self._close_member()
        finally:
            self._ended.set()

    async def _close_member(self) -> None:
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait((self._polling,))
            self._polling = None
        if self._member is not None:
            member, self._member = self._member, None
            await member.close()
