"""Dispatch: the records of a poll become jobs; a job with a known result gets it without an attempt.

Records are kept until their jobs are made (job_maker.py), so that storage that fails in between loses nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from choreo.app.steps.jobs import DONE, Job, JobResult
from choreo.app.steps.published_outcomes import PublishedOutcomes, missing
from choreo.app.steps.run_finder import RunFinder
from choreo.core.events import Record
from choreo.hosts.step.catch_up import CatchUp
from choreo.hosts.step.context import HostContext
from choreo.hosts.step.job_maker import NOTHING, JobMaker, Made
from choreo.ports.log import Assigned, Consumer, Poll


class Dispatched(NamedTuple):
    """The jobs that some records make."""

    jobs: list[Job]
    """To be queued."""
    results: list[tuple[Job, JobResult]]
    """Jobs that need no attempt, because their result is known."""
    stopped: list[tuple[str, str]]
    """(key, run) of the facts that stop or hold a run."""
    read: dict[int, int]
    """How far each partition was read (next offset)."""


class Dispatcher:
    """The first stage of one host: polls in, jobs out."""

    def __init__(self, context: HostContext) -> None:
        """Update the runs and gates of `context` from the records."""
        self._context = context
        self._finder = RunFinder(context.ports.log, context.table, context.ports.inbox)
        self._maker = JobMaker(context, self._finder)
        self._assigned: set[int] = set()
        self._catching_up: dict[int, CatchUp] = {}
        self._published: dict[int, tuple[int, PublishedOutcomes]] = {}
        """Of each partition the outcomes that stand after its committed offset, up to an end."""
        self._records: list[Record] = []
        self._read: dict[int, int] = {}
        self._partitions = 0

    @property
    def has_work(self) -> bool:
        """Return whether `dispatch` has something to do now."""
        return bool(self._records or self._read) or not all(one.is_waiting for one in self._catching_up.values())

    def take(self, poll: Poll, consumer: Consumer) -> None:
        """Take over the partitions and records of a poll."""
        for partition in poll.revoked:
            self.revoke(partition)
        for assigned in poll.assigned:
            self._assign(assigned, consumer)
        for record in poll.records:
            catching_up = self._catching_up.get(record.partition)
            (self._records if catching_up is None else catching_up.kept).append(record)
        for partition, offset in poll.read.items():
            if partition in self._catching_up:
                self._catching_up[partition].read = offset
            elif partition in self._assigned:
                self._read[partition] = offset

    def revoke(self, partition: int) -> None:
        """Forget a partition that was revoked."""
        self._assigned.discard(partition)
        self._catching_up.pop(partition, None)
        self._published.pop(partition, None)
        self._read.pop(partition, None)
        self._context.gates.lose(partition)
        self._finder.lose(partition)
        self._records = [record for record in self._records if record.partition != partition]

    async def dispatch(self, consumer: Consumer) -> Dispatched:
        """Read ahead where that is due, then return the jobs of the records that have come."""
        if self._catching_up or self._records:
            topic = self._context.topic
            self._partitions = self._partitions or await self._context.ports.log.partitions(topic)
        # One after the other, for a log keeps few readers; the shortest first, so that no other waits long for it.
        due = [one for one in self._catching_up.values() if not one.is_waiting]
        catching_up = min(due, key=lambda one: one.left, default=None)
        if catching_up is not None:
            await catching_up.go_on(self._partitions)
            if catching_up.finished:
                self._caught_up(catching_up, consumer)
        made = await self._maker.make(self._records, self._partitions) if self._records else NOTHING
        jobs, results = await self._without_published(made.jobs)
        results += self._without_attempt(made)
        read, self._read, self._records = self._read, {}, []
        for partition, offset in read.items():
            self._context.gates.reached(partition, offset)
            if partition in self._published and self._published[partition][0] <= offset:
                del self._published[partition]
        return Dispatched(jobs, results, made.stopped, read)

    def hold_back(self, consumer: Consumer, *, held: bool) -> None:
        """Let polls bring nothing more, or go on; a partition that is read ahead is held back in any case."""
        partitions = list(self._assigned - self._catching_up.keys())
        (consumer.pause if held else consumer.resume)(partitions)

    def _assign(self, assigned: Assigned, consumer: Consumer) -> None:
        self._context.runs.forget()
        self._context.deferred.forget()
        self._assigned.add(assigned.partition)
        if assigned.committed < assigned.end or self._context.gates.types:
            self._catching_up[assigned.partition] = CatchUp(assigned, self._context)
            consumer.pause([assigned.partition])

    def _caught_up(self, one: CatchUp, consumer: Consumer) -> None:
        del self._catching_up[one.partition]
        self._published[one.partition] = (one.end, one.published)
        self._records += one.kept
        self._read[one.partition] = one.read
        consumer.resume([one.partition])

    async def _without_published(self, jobs: list[Job]) -> tuple[list[Job], list[tuple[Job, JobResult]]]:
        """Separate the jobs with an outcome in the log, and those that were deferred after their record."""
        if not self._published:
            return jobs, []
        left: list[Job] = []
        published: list[tuple[Job, set[str]]] = []
        results: list[tuple[Job, JobResult]] = []
        for job in jobs:
            _, known = self._published.get(job.source.partition, (0, None))
            outcome = known.outcome_of(job) if known is not None else None
            if outcome is not None:
                published.append((job, outcome))
            elif known is not None and known.deferred(job):
                results.append((job, DONE))
            else:
                left.append(job)
        recorded = (
            await self._context.ports.inbox.recorded([job.inbox_key for job, _ in published]) if published else {}
        )
        for job, ids_ in published:
            results.append((job, JobResult(facts=missing(recorded.get(job.inbox_key, ()), ids_))))
        return left, results

    def _without_attempt(self, made: Made) -> list[tuple[Job, JobResult]]:
        now_ms, rules = self._context.ports.clock.now_ms(), self._context.rules
        ignored = [(job, rules.ignored(job, reason, now_ms)) for job, reason in made.ignored]
        return ignored + [(job, rules.set_aside(job, error, now_ms)) for job, error in made.failed]
