"""Results: the result of an attempt becomes the result of its job.

Any fault of one job ends as a dead letter of that job; nothing here stops the host.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Sequence

from choreo.app.failures import LOGGER
from choreo.app.log_context import about
from choreo.app.steps.hooks import HookFailed
from choreo.app.steps.jobs import WITHDRAWN, AttemptTimedOut, HeartbeatMissed, Job, JobResult, Withdrawn
from choreo.core.errors import described
from choreo.hosts.runners.port import Attempt, Result
from choreo.hosts.step.context import HostContext
from choreo.redaction import redact_part

_log = logging.getLogger(__name__)
_failures = logging.getLogger(LOGGER)


class ResultHandler:
    """The stage between the runners and the commit, of one host."""

    def __init__(self, context: HostContext) -> None:
        """Decide by the rules of `context`; its runs hold whether a run still goes forward."""
        self._rules = context.rules
        self._runs = context.runs
        self._clock = context.ports.clock

    def handle(self, results: Sequence[Result]) -> list[tuple[Attempt, JobResult]]:
        """Return the job results of these attempts, in order."""
        return [(result.attempt, self._handled(result)) for result in results]

    def _handled(self, result: Result) -> JobResult:
        job = result.attempt.job
        if isinstance(result.error, Withdrawn):
            return WITHDRAWN
        try:
            return self._job_result(job, result)
        # An event that cannot be encoded for an unforeseen reason, an error without a readable text, and the like.
        except BaseException as unforeseen:
            if isinstance(unforeseen, KeyboardInterrupt):
                raise
            extra = about(job.event, job.spec.step, job.attempt)
            _log.exception("step %s: the result of %s cannot be handled", job.spec.step, job.place, extra=extra)
            return self._rules.set_aside(job, unforeseen, self._clock.now_ms())

    def _job_result(self, job: Job, result: Result) -> JobResult:
        now_ms = self._clock.now_ms()
        if result.error is None:
            if job.spec.children is not None:
                return self._rules.planned(job, job.spec.children, result.value, now_ms)
            return self._rules.returned(job, result.value, now_ms)
        result.attempt.failure = _kind_of(result.error)
        _log_failure(job, result.error)
        status = self._runs.of(job.event.run)
        hasty = not job.spec.reaction and not job.spec.undo and (status.stopped or status.paused)
        return self._rules.raised(job, result.error, now_ms, hasty=hasty)


def _kind_of(error: BaseException) -> str:
    """Return the kind of a failure, for its span."""
    if isinstance(error, (AttemptTimedOut, HeartbeatMissed)):
        return "timeout"
    return type(error.error if isinstance(error, HookFailed) else error).__qualname__


def _log_failure(job: Job, error: BaseException) -> None:
    """Log the failure of an attempt with its traceback, without secrets."""
    place = (job.spec.step, job.event.key, job.attempt)
    extra = about(job.event, job.spec.step, job.attempt)
    if isinstance(error, (AttemptTimedOut, HeartbeatMissed)):
        reason = str(error) or "gave no answer in time"
        _failures.warning("step %s, key %r, attempt %d %s", *place, reason, extra=extra)
        return
    try:
        text = "".join(traceback.format_exception(error.error if isinstance(error, HookFailed) else error))
    except BaseException:  # noqa: BLE001 - a user's class may do anything when it is looked at
        text = described(error)
    _failures.warning("step %s, key %r, attempt %d failed\n%s", *place, redact_part(text).rstrip(), extra=extra)
