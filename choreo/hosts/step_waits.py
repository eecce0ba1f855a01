"""Short waits between attempts, in memory, on the host's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from choreo.app.jobs import Job
from choreo.ports.clock import Clock


class Waits:
    """Jobs that will be tried again soon."""

    def __init__(self, clock: Clock, ready: Callable[[Job], None]) -> None:
        """`ready` is called when a job's wait is over."""
        self._clock = clock
        self._ready = ready
        self._tasks: dict[int, tuple[Job, asyncio.Task[None]]] = {}

    def add(self, job: Job, delay_ms: int) -> None:
        """Wait this long, then the job is ready."""
        task = asyncio.create_task(self._wait(job, delay_ms / 1_000))
        self._tasks[id(job)] = (job, task)

    def hurry(self, job: Job) -> None:
        """Let the job be ready at once, if it waits."""
        if self.drop(job):
            self._ready(job)

    def drop(self, job: Job) -> bool:
        """Forget the job; False if it does not wait."""
        _, task = self._tasks.pop(id(job), (None, None))
        if task is None:
            return False
        task.cancel()
        return True

    def clear(self) -> None:
        """Forget all."""
        for job, _ in list(self._tasks.values()):
            self.drop(job)

    async def _wait(self, job: Job, delay_s: float) -> None:
        await self._clock.sleep(delay_s)
        del self._tasks[id(job)]
        self._ready(job)
