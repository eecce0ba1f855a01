"""How a step host has jobs begun: all that are ready at once, and one by one where something in a batch is rotten."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from choreo.app.jobs import Job
from choreo.core.errors import LeaseLostError, StorageError
from choreo.hosts.runners import Runners
from choreo.hosts.step_follow import Follower
from choreo.hosts.step_parts import Parts
from choreo.hosts.step_start import Starter

_log = logging.getLogger(__name__)


class Launcher:
    """From ready jobs to handlers that run."""

    def __init__(self, parts: Parts, runners: Runners, follower: Follower) -> None:
        """The desk of `parts` says what is ready."""
        self._desk = parts.desk
        self._clock = parts.log_clock
        self._counters = parts.counters
        self._starter = Starter(parts)
        self._runners = runners
        self._follower = follower

    async def launch(self) -> None:
        """Begin what is ready and has room. Raises StorageError with what could not be begun still ready."""
        jobs = self._desk.startable(self._clock.now_ms())
        if not jobs or await self._begun(jobs):
            return
        for index, job in enumerate(jobs):
            try:
                await self._begun([job])
            except (StorageError, LeaseLostError):
                self._desk.put_back(jobs[index + 1 :])
                raise

    async def _begun(self, jobs: Sequence[Job]) -> bool:
        """Begin all of these; False if one of them cannot be begun at all."""
        try:
            started = await self._starter.start(jobs, self._clock.now_ms())
        except (StorageError, LeaseLostError):
            self._desk.put_back(jobs)
            raise
        # One record that nobody foresaw must not stop the others: it is found, and set aside.
        except Exception as error:  # noqa: BLE001
            _log.exception("a batch of %d jobs cannot be begun", len(jobs))
            if len(jobs) > 1:
                return False
            self._follower.set_aside(jobs[0], error)
            return True
        self._desk.put_back(started.again)
        for job, conclusion in started.over:
            self._follower.follow(job, conclusion)
        for attempt in started.attempts:
            self._desk.running[attempt.duty.step] += 1
        if started.attempts:
            self._counters.add("in_flight", len(started.attempts))
            self._runners.start(started.attempts)
        return True
