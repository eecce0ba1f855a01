"""Work queue of a step host: jobs from their dispatch until their results are committed.

Bookkeeping only: reads no log and calls no handler. Jobs of one key and step run one after the other; the next one
starts only when the result of the one before is committed, so that it finds the outcome recorded.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from choreo.app.steps.jobs import Job, JobResult
from choreo.hosts.runners.port import Attempt
from choreo.hosts.step.context import HostContext
from choreo.hosts.step.heartbeats import AttemptPulse
from choreo.hosts.step.measures import AttemptMeasures
from choreo.hosts.step.offsets import OffsetTracker
from choreo.hosts.step.retry_timers import RetryTimers

ATTEMPTS_MAX = 500
"""Attempts begun at once. The write that counts them and the two thread switches cost about a millisecond together."""
QUEUED_BYTES = 32 << 20
"""From so many bytes of events on the queue is full, however few jobs they are."""
FAR_TOO_MUCH = 10
"""Times the queue's size: at some 2 kB a job, 40 MB of jobs that wait for one step."""

Finished = tuple[Job, JobResult]


class Limits(NamedTuple):
    """From `queued_max` jobs on the queue is full; `concurrency` handlers of each step run at once."""

    queued_max: int
    concurrency: int


class KeyQueues:
    """Jobs by key and step; only the first of each queue may run."""

    def __init__(self) -> None:
        self._heads: dict[tuple[str, str], Job] = {}
        self._waiting: dict[tuple[str, str], deque[Job]] = {}

    def add(self, job: Job) -> bool:
        """Queue the job; return whether it may start at once."""
        queue_key = job.queue_key
        if queue_key in self._heads:
            self._waiting.setdefault(queue_key, deque()).append(job)
            return False
        self._heads[queue_key] = job
        return True

    def head(self, key: str, step: str) -> Job | None:
        """Return the job of this key and step that may run."""
        return self._heads.get((key, step))

    def leave(self, job: Job) -> Job | None:
        """Remove the first job of a queue; return the one that may start now."""
        queue_key = job.queue_key
        waiting = self._waiting.get(queue_key)
        if not waiting:
            del self._heads[queue_key]
            return None
        following = self._heads[queue_key] = waiting.popleft()
        if not waiting:
            del self._waiting[queue_key]
        return following

    def heads(self) -> Iterable[Job]:
        """Return the first job of every queue."""
        return list(self._heads.values())

    def drop_waiting(self, partition: int) -> list[Job]:
        """Remove and return the jobs of this partition that are not the first."""
        dropped = []
        for queue_key, waiting in list(self._waiting.items()):
            removed = [job for job in waiting if job.source.partition == partition]
            if removed:
                dropped += removed
                kept = deque(job for job in waiting if job.source.partition != partition)
                if kept:
                    self._waiting[queue_key] = kept
                else:
                    del self._waiting[queue_key]
        return dropped


class ReadyJobs:
    """The jobs that may start, and how many attempts of each step the runners have."""

    def __init__(self, concurrency: int) -> None:
        """Run `concurrency` handlers of each step at once; more of a step with handlers that never wait."""
        self._concurrency = concurrency
        self._jobs: dict[str, deque[Job]] = {}
        self._running: Counter[str] = Counter()
        self._quick: set[str] = set()

    @property
    def running(self) -> int:
        """Return how many attempts the runners have."""
        return self._running.total()

    def add(self, job: Job) -> None:
        """Let the job start behind the others of its step."""
        self._jobs.setdefault(job.spec.step, deque()).append(job)

    def put_back(self, jobs: Sequence[Job]) -> None:
        """Let these jobs start before the others."""
        for job in reversed(jobs):
            self._jobs.setdefault(job.spec.step, deque()).appendleft(job)

    def drop(self, partition: int) -> list[Job]:
        """Remove and return the jobs of this partition."""
        dropped = []
        for step, jobs in self._jobs.items():
            removed = [job for job in jobs if job.source.partition == partition]
            if removed:
                dropped += removed
                self._jobs[step] = deque(job for job in jobs if job.source.partition != partition)
        return dropped

    def startable(self, now_ms: int) -> list[Job]:
        """Take the jobs to start: as many of each step as it has room for, and those past their deadline."""
        startable: list[Job] = []
        for step, jobs in self._jobs.items():
            room = self._room(step)
            while jobs and room > 0:
                startable.append(jobs.popleft())
                room -= 1
            while jobs and jobs[0].deadline_ms < now_ms and not jobs[0].spec.reaction:
                startable.append(jobs.popleft())
        return startable

    @property
    def can_start(self) -> bool:
        """Return whether `startable` would find a job, deadlines aside."""
        return any(jobs and self._room(step) > 0 for step, jobs in self._jobs.items())

    def started(self, step: str) -> None:
        """Note that the runners have one attempt more."""
        self._running[step] += 1

    def ended(self, step: str, *, is_quick: bool) -> None:
        """Note that the runners have one attempt less; a step with handlers that never wait gets larger batches."""
        self._running[step] -= 1
        (self._quick.add if is_quick else self._quick.discard)(step)

    def _room(self, step: str) -> int:
        return (ATTEMPTS_MAX if step in self._quick else self._concurrency) - self._running[step]


class WorkQueue:
    """The jobs of one host."""

    def __init__(self, context: HostContext, limits: Limits, wake: Callable[[], None]) -> None:
        """Call `wake` when the delay before a retry is over."""
        self._measures = AttemptMeasures(context.metrics, context.ports.log_clock, context.traces)
        self._runs = context.runs
        self._steps = tuple(sorted(context.handlers.names))
        self._limits = limits
        # A step with hanging handlers piles up jobs: it counts for half, so that records of the others are read.
        self._share = limits.queued_max if len(self._steps) == 1 else limits.queued_max // 2
        self._wake = wake
        self._timers = RetryTimers(context.ports.clock, self._retry)
        self._key_queues = KeyQueues()
        self._offsets: dict[int, OffsetTracker] = {}
        self._ready = ReadyJobs(limits.concurrency)
        self._queued: Counter[str] = Counter()
        self._bytes = 0
        """Of the events of all queued jobs."""
        self._finished: list[Finished] = []
        self._committing: list[Finished] = []
        """No partition is revoked while these are being committed: the revocation waits."""
        self._late: list[Finished] = []
        """Results for partitions that were revoked meanwhile."""
        self._released: list[tuple[str, str]] = []
        """Attempts that the inbox has leased to this host and that have ended without an outcome."""

    # Partitions

    def assign(self, partition: int, committed: int) -> None:
        """Take the jobs of this partition from the committed offset on."""
        self._offsets[partition] = OffsetTracker(committed)

    def revoke(self, partition: int) -> None:
        """Drop the jobs of a revoked partition that have not begun; keep the results of the others as late."""
        self._offsets.pop(partition, None)
        for job in self._key_queues.drop_waiting(partition):
            self._remove(job)
        for job in self._ready.drop(partition):
            self._leave(job)
        kept: list[Finished] = []
        for job, result in self._finished:
            if job.source.partition == partition:
                job.revoked = True
                self._late.append((job, result))
            else:
                kept.append((job, result))
        self._finished = kept
        late = {id(job) for job, _ in self._late}
        for job in self._key_queues.heads():
            if job.source.partition == partition and id(job) not in late:
                job.revoked = True
                if self._timers.cancel(job):
                    self._release(job)
                    self._leave(job)

    @property
    def partitions(self) -> list[int]:
        """Return the assigned partitions."""
        return list(self._offsets)

    def was_read(self, read: Mapping[int, int]) -> None:
        """Note how far these partitions were read (next offset)."""
        for partition, offset in read.items():
            self._offsets[partition].read = offset

    def committed_offsets(self) -> dict[int, int]:
        """Return the committed offset of each partition."""
        return {partition: offsets.committed for partition, offsets in self._offsets.items()}

    # Jobs that wait

    @property
    def full(self) -> bool:
        """Return whether no more should be read. One step of several alone never fills it, unless by far too much."""
        weighed = sum(min(count, self._share) for count in self._queued.values())
        most = self._limits.queued_max
        return self._bytes >= QUEUED_BYTES or weighed >= most or self._queued.total() >= FAR_TOO_MUCH * most

    @property
    def size(self) -> int:
        """Return how many jobs are queued."""
        return self._queued.total()

    def add(self, job: Job) -> None:
        """Queue a job behind the others of its key and step."""
        self._offsets[job.source.partition].opened(job.source.offset)
        self._queued[job.spec.step] += 1
        self._bytes += len(job.event.data)
        job.queued = True
        if self._key_queues.add(job):
            self._ready.add(job)

    @property
    def ready(self) -> ReadyJobs:
        """Return the jobs that may start."""
        return self._ready

    def recheck(self, runs: Iterable[tuple[str, str]]) -> None:
        """Call off attempts of these (key, run) that have not begun, and decide their retries at once."""
        for key, run in runs:
            for step in self._steps:
                job = self._key_queues.head(key, step)
                if job is None or job.event.run != run or job.spec.reaction:
                    continue
                if job.running is not None and not job.spec.undo:
                    job.running.withdrawn = True
                self._cancel(job)
                self._timers.expedite(job)

    def _cancel(self, job: Job) -> None:
        """Tell a handler that reports that nobody needs its outcome any more."""
        pulse = job.running.context.pulse if job.running is not None else None
        if isinstance(pulse, AttemptPulse):
            status = self._runs.of(job.event.run)
            pulse.is_cancelled = status.stopped

    def drop_retries(self) -> None:
        """Forget the jobs that wait for their next attempt: the next owner of the partition makes it."""
        self._timers.cancel_all()

    # Attempts

    def started(self, attempts: Sequence[Attempt]) -> None:
        """Note that the runners get these attempts."""
        for attempt in attempts:
            attempt.job.running = attempt
            self._ready.started(attempt.spec.step)
        self._measures.began(attempts)

    def ended(self, results: Sequence[tuple[Attempt, JobResult]]) -> None:
        """Take attempts back from the runners, and apply their results."""
        for attempt, result in results:
            attempt.job.running = None
            self._ready.ended(attempt.spec.step, is_quick=attempt.spec.is_async and not attempt.suspended)
            self.apply(attempt.job, result)
        self._measures.ended(results)

    def apply(self, job: Job, result: JobResult) -> None:
        """Finish the job, or let it be tried again: its result decides."""
        if result.retry_ms < 0:
            self._finish(job, result)
            return
        self._measures.again(result)
        if result.withdrawn or job.revoked:
            self._release(job)
        if job.revoked:
            self._leave(job)
        elif result.retry_ms:
            self._timers.add(job, result.retry_ms)
        else:
            self._ready.add(job)

    def abandon(self) -> None:
        """Count the attempts that are still open as ended: their host leaves."""
        self.drop_retries()
        self._measures.abandoned(self._ready.running)

    def leased(self) -> set[tuple[str, str]]:
        """Return the inbox keys of attempts that run, or have an outcome that is not recorded yet."""
        running = {job.inbox_key for job in self._key_queues.heads() if job.running is not None}
        ended = (*self._committing, *self._finished, *self._late)
        return running | {job.inbox_key for job, _ in ended if job.attempt}

    def released(self) -> list[tuple[str, str]]:
        """Return the inbox keys of attempts that have ended without an outcome."""
        return list(self._released)

    def forget_released(self, count: int) -> None:
        """Forget the first `count` of `released`."""
        del self._released[:count]

    # Results

    @property
    def has_finished(self) -> bool:
        """Return whether there are results to be committed or recorded."""
        return bool(self._finished or self._late)

    def begin_commit(self) -> tuple[list[Finished], dict[int, int]]:
        """Take all results, with the lowest unfinished offset of each partition where that has moved."""
        self._committing, self._finished = self._finished, []
        done = {
            partition: lowest
            for partition, offsets in self._offsets.items()
            if (lowest := offsets.lowest) > offsets.committed
        }
        return list(self._committing), done

    def committed(self, done: Mapping[int, int]) -> None:
        """Note that the results taken last are committed: the next jobs of their keys may start."""
        for partition, offset in done.items():
            if partition in self._offsets:
                self._offsets[partition].committed = offset
        committed, self._committing = self._committing, []
        for job, _ in committed:
            self._leave(job)

    def commit_failed(self, finished: Sequence[Finished]) -> None:
        """Take back the results taken last, as they are now."""
        self._finished, self._committing = [*finished, *self._finished], []

    @property
    def late(self) -> list[Finished]:
        """Return the results for partitions that were revoked."""
        return list(self._late)

    def late_recorded(self, count: int) -> None:
        """Forget the first `count` late results: the new owner finds them recorded."""
        recorded, self._late = self._late[:count], self._late[count:]
        for job, _ in recorded:
            self._leave(job)

    def _finish(self, job: Job, result: JobResult) -> None:
        if result.outcome is None:
            self._release(job)
        if job.revoked:
            self._late.append((job, result))
            return
        offsets = self._offsets[job.source.partition]
        if not job.queued:
            offsets.opened(job.source.offset)
        offsets.finished(job.source.offset)
        self._finished.append((job, result))

    def _leave(self, job: Job) -> None:
        """Remove the job; the next one of its key and step is ready."""
        if not job.queued:
            return
        self._remove(job)
        following = self._key_queues.leave(job)
        if following is not None:
            self._ready.add(following)

    def _remove(self, job: Job) -> None:
        self._queued[job.spec.step] -= 1
        self._bytes -= len(job.event.data)

    def _release(self, job: Job) -> None:
        if job.attempt:
            self._released.append(job.inbox_key)

    def _retry(self, job: Job) -> None:
        self._ready.add(job)
        self._wake()
