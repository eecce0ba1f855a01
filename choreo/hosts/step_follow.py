"""What a step host does with what came of a job: conclude it, wait and try again, or let another look at it.

Whatever goes wrong for one job ends as a dead letter of that job; nothing here stops the host.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable, Sequence
from typing import Any

from choreo.app.failures import LOGGER
from choreo.app.jobs import Job
from choreo.app.steps import AttemptTimedOut, Conclusion, Withdrawn
from choreo.core.errors import described
from choreo.hosts.attempts import Attempt, Result
from choreo.hosts.step_parts import Parts
from choreo.hosts.step_waits import Waits
from choreo.redaction import redact

_log = logging.getLogger(__name__)
_failures = logging.getLogger(LOGGER)


class Follower:
    """Carries out conclusions on the desk."""

    def __init__(self, parts: Parts, waits: Waits) -> None:
        """The steps of `parts` decide, its runs say whether a run still goes forward."""
        self._steps = parts.steps
        self._runs = parts.runs
        self._desk = parts.desk
        self._counters = parts.counters
        self._clock = parts.clock
        self._waits = waits

    def hear(self, results: Sequence[Result]) -> None:
        """These attempts are over."""
        for attempt, value, error in results:
            self._heard(attempt, value, error)
        self._counters.add("in_flight", -len(results))

    def _heard(self, attempt: Attempt, value: Any, error: BaseException | None) -> None:
        job = attempt.job
        self._desk.heard(job, waited=attempt.suspended)
        if isinstance(error, Withdrawn):
            self._look_again(job)
            return
        try:
            conclusion = self._conclude(job, value, error)
        # An event that cannot be encoded in a way nobody foresaw, an error whose text cannot be had, and the like.
        except BaseException as unforeseen:
            if isinstance(unforeseen, KeyboardInterrupt):
                raise
            _log.exception("step %s: what came of %s cannot be handled", job.duty.step, job.place)
            conclusion = self._steps.set_aside(job, unforeseen, self._clock.now_ms())
        self.follow(job, conclusion)

    def follow(self, job: Job, conclusion: Conclusion) -> None:
        """Do what the conclusion says."""
        if conclusion.retry_ms < 0:
            if conclusion.outcome is None:
                self._desk.let_go(job)
            if not job.queued:
                self._desk.pass_by(job, conclusion)
            else:
                self._desk.conclude(job, conclusion)
            return
        self._counters.add("held" if conclusion.held else "retried", 1)
        if job.dropped:
            self._desk.let_go(job)
            self._desk.leave(job)
        elif conclusion.retry_ms:
            self._waits.add(job, conclusion.retry_ms)
        else:
            self._desk.make_ready(job)

    def set_aside(self, job: Job, error: BaseException) -> None:
        """The job cannot be done at all."""
        try:
            conclusion = self._steps.set_aside(job, error, self._clock.now_ms())
        except Exception:  # noqa: BLE001 - the loop must go on
            _log.exception("step %s: %s cannot be set aside", job.duty.step, job.place)
            conclusion = Conclusion(failed=True)
        self.follow(job, conclusion)

    def stopped(self, runs: Iterable[tuple[str, str]], steps: Iterable[str]) -> None:
        """Facts were read that stop or hold these (key, run): call off what has not started, wake what waits."""
        for key, run in runs:
            for step in steps:
                job = self._desk.lanes.head(key, step)
                if job is None or job.event.run != run or job.duty.reaction:
                    continue
                if job.in_hands is not None and not job.duty.undo:
                    job.in_hands.withdrawn = True
                self._waits.hurry(job)

    def lost(self, partition: int) -> None:
        """The partition is another's: what runs may finish, the rest is dropped."""
        for job in self._desk.lose(partition):
            if self._waits.drop(job):
                self._desk.let_go(job)
                self._desk.leave(job)

    def _conclude(self, job: Job, value: Any, error: BaseException | None) -> Conclusion:
        now_ms = self._clock.now_ms()
        if error is None:
            return self._steps.returned(job, value, now_ms)
        _tell(job, error)
        standing = self._runs.of(job.event.run)
        hasty = not job.duty.reaction and not job.duty.undo and (standing.stopped or standing.paused)
        return self._steps.raised(job, error, now_ms, hasty=hasty)

    def _look_again(self, job: Job) -> None:
        """Its attempt was called off before it began: see whether it is still to be done."""
        self._desk.let_go(job)
        if job.dropped:
            self._desk.leave(job)
        else:
            self._desk.make_ready(job)


def _tell(job: Job, error: BaseException) -> None:
    """Write what an attempt has failed with, for whoever is to mend it; without secrets."""
    about = (job.duty.step, job.event.key, job.attempt)
    if isinstance(error, AttemptTimedOut):
        _failures.warning("step %s, key %r, attempt %d gave no answer in time", *about)
        return
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - a user's class may do anything when it is looked at
        text = described(error)
    _failures.warning("step %s, key %r, attempt %d failed\n%s", *about, redact(text).rstrip())
