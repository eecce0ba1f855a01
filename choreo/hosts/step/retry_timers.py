"""Retry timers: short delays between the attempts of a job, in memory, on the host's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from choreo.app.steps.jobs import Job
from choreo.ports.clock import Clock


class RetryTimers:
    """The jobs that will be tried again soon."""

    def __init__(self, clock: Clock, ready: Callable[[Job], None]) -> None:
        """Call `ready` when a job's delay is over."""
        self._clock = clock
        self._ready = ready
        self._tasks: dict[int, tuple[Job, asyncio.Task[None]]] = {}

    def add(self, job: Job, delay_ms: int) -> None:
        """Let the job be ready after this delay."""
        task = asyncio.create_task(self._wait(job, delay_ms / 1_000))
        self._tasks[id(job)] = (job, task)

    def expedite(self, job: Job) -> None:
        """Let the job be ready at once, if it waits."""
        if self.cancel(job):
            self._ready(job)

    def cancel(self, job: Job) -> bool:
        """Forget the job; return whether it waited."""
        _, task = self._tasks.pop(id(job), (None, None))
        if task is None:
            return False
        task.cancel()
        return True

    def cancel_all(self) -> None:
        """Forget every job."""
        for job, _ in list(self._tasks.values()):
            self.cancel(job)

    async def _wait(self, job: Job, delay_s: float) -> None:
        await self._clock.sleep(delay_s)
        del self._tasks[id(job)]
        self._ready(job)
