"""Measure the attempts of one host: how many, how they end, how long they wait and run. A batch at a time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence

from choreo.app.metrics import Metrics
from choreo.app.steps.jobs import Job, JobResult
from choreo.app.tracing import AttemptTraces, Place
from choreo.hosts.runners.port import Attempt
from choreo.ports.clock import Clock

DONE = "done"
FAILED = "failed"
RETRIED = "retried"
WITHDRAWN = "withdrawn"


class AttemptMeasures:
    """Adds to a host's metrics. `clock` is the log's, which stamps the triggers."""

    def __init__(self, metrics: Metrics, clock: Clock, traces: AttemptTraces | None = None) -> None:
        self._metrics = metrics
        self._clock = clock
        self._traces = traces

    def began(self, attempts: Sequence[Attempt]) -> None:
        """Note that the runners get these attempts."""
        self._metrics.add("attempts_in_flight", len(attempts))
        now_ms = self._clock.now_ms()
        waits: dict[str, list[float]] = defaultdict(list)
        for attempt in attempts:
            if attempt.job.attempt == 1:
                waits[attempt.spec.step].append((now_ms - attempt.job.record.stamp_ms) / 1_000)
        for step, seconds in waits.items():
            self._metrics.observe("attempt_queue_seconds", seconds, step=step)

    def ended(self, results: Sequence[tuple[Attempt, JobResult]]) -> None:
        """Note that the runners have ended these attempts."""
        self._metrics.add("attempts_in_flight", -len(results))
        now_s = asyncio.get_running_loop().time()  # the runners' clock, also in virtual time
        ends: dict[tuple[str, str], list[float]] = defaultdict(list)
        for attempt, result in results:
            took_s = now_s - attempt.started_s if attempt.started_s else 0.0
            ends[attempt.spec.step, _end(result)].append(took_s)
        for (step, outcome), seconds in ends.items():
            self._metrics.add("attempts", len(seconds), step=step, outcome=outcome)
            if outcome != WITHDRAWN:
                self._metrics.observe("attempt_duration_seconds", seconds, step=step)
        if self._traces is not None:
            self._traces.export(self._spans(results, now_s))

    def _spans(
        self, results: Sequence[tuple[Attempt, JobResult]], now_s: float
    ) -> Iterator[tuple[Job, Place, float, float, str]]:
        """Yield the parts of the spans of attempts whose handler was called."""
        now_ms = self._clock.now_ms()
        for attempt, result in results:
            place, end = attempt.job.span, _end(result)
            if place is not None and end != WITHDRAWN and attempt.started_s:
                begin_ms = now_ms - (now_s - attempt.started_s) * 1_000
                failure = (attempt.failure or FAILED) if end != DONE else ""
                yield attempt.job, place, begin_ms, now_ms, failure

    def abandoned(self, attempts: int) -> None:
        """Note that the host leaves while so many attempts are open."""
        self._metrics.add("attempts_in_flight", -attempts)

    def again(self, result: JobResult) -> None:
        """Note that a job is tried again later."""
        if not result.withdrawn:
            self._metrics.add("attempts_held" if result.held else "attempts_retried", 1)


def _end(result: JobResult) -> str:
    if result.withdrawn:
        return WITHDRAWN
    if result.failed or result.dead_letter is not None:
        return FAILED
    return RETRIED if result.retry_ms >= 0 or result.deferred else DONE
