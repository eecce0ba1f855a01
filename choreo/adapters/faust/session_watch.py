"""Watch that a session makes progress: Faust runs, partitions are assigned, records arrive.

Otherwise the session fails.

A failed session is closed; its poll or commit raises the cause, and the next session is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Protocol, TypeVar

from choreo.adapters.faust.assignments import Assignments
from choreo.core.errors import ReplacedLogError, SkippedError, StorageError, UnavailableError
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies, report_error
from choreo.ports.log import Log

CHECK_S = 10.0
"""How often progress is checked; a session without progress between two checks is opened anew."""
ASSIGNED_S = 60.0
"""How long partitions may be neither assigned nor restored while the cluster answers: a rebalance takes 20 s at the
most, and a restore reports progress with every fetch.
"""
LOOK_S = 1.0
"""How often Faust is asked whether it has ended."""
T = TypeVar("T")


class Application(Protocol):
    """The part of the Faust application that is watched."""

    crash_reason: BaseException | None

    @property
    def crashed(self) -> bool:
        """Return whether it has ended by an error."""
        ...


class SessionWatch:
    """The watch of one session, and its failure."""

    def __init__(
        self, flow: str, log: Log, clock: Clock, dependencies: Dependencies, on_change: Callable[[], None]
    ) -> None:
        """Call `on_change` when a poll may have news."""
        self.is_away: bool = False
        """Whether the cluster did not answer the last request."""
        self.is_assigned: bool = False
        """Whether partitions are assigned, or just being taken over."""
        self._flow = flow
        self._log = log
        self._clock = clock
        self._dependencies = dependencies
        self._on_change = on_change
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sign_ms = clock.now_ms()

    def sign(self) -> None:
        """Note progress: partitions are being assigned or restored."""
        self._sign_ms = self._clock.now_ms()

    def fail(self, error: Exception) -> None:
        """Let the session fail; only the first cause counts."""
        if not self._failure.done():
            self._failure.set_exception(error)
            self._failure.exception()  # marks it as retrieved: no poll may follow
        self._on_change()

    def raise_failure(self) -> None:
        """Raise the cause if the session has failed."""
        if self._failure.done():
            self._failure.result()

    async def unless_failed(self, work: Awaitable[T]) -> T:
        """Wait for work, but not past the session's failure, which is raised."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self._failure), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self.raise_failure()
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def failing_with(self, work: Awaitable[None]) -> None:
        """Do work; its error is the session's failure."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - the next poll raises it
            self.fail(error)

    async def supervise(self, app: Application, starting: asyncio.Future[None]) -> None:
        """Raise StorageError when Faust has ended."""
        while True:
            await asyncio.sleep(LOOK_S)
            cause = starting.exception() if starting.done() else None
            if app.crashed:
                cause = app.crash_reason or cause
            if cause is not None:
                raise StorageError(f"Faust ended: {cause!r}", where=f"tracker of {self._flow}") from cause

    async def watch(self, check_topics: Callable[[], Awaitable[None]], assignments: Assignments) -> None:
        """Check that records in the log arrive here. Raises SkippedError, ReplacedLogError."""
        before: Mapping[int, int] = {}
        role = f"tracker of {self._flow}"
        while True:
            await asyncio.sleep(CHECK_S)
            try:
                await check_topics()
                await self._check_assigned()
                before = await assignments.check_progress(before, self._log, self._flow)
            except (SkippedError, ReplacedLogError):
                raise
            except (StorageError, UnavailableError) as error:
                self.is_away = True
                self.sign()
                report_error(self._dependencies, role, error)
            else:
                self._on_change()
                if self.is_away:
                    self.is_away = False
                    self._dependencies.clear(role)

    async def _check_assigned(self) -> None:
        """Raise SkippedError where Faust may be in its group, and has no partition to work."""
        if self.is_assigned or self._clock.now_ms() - self._sign_ms < ASSIGNED_S * 1_000:
            return
        await self._log.end(self._flow, 0)
        raise SkippedError(
            f"no partition was assigned or restored for {ASSIGNED_S:g} s, and the cluster answers",
            where=f"tracker of {self._flow}",
            remedy="Nothing: a new consumer is opened.",
        )
