"""How records come onto a step host's desk: partitions gained and lost, reading ahead, records made into jobs.

Keeps what a poll brought until it is planned, so that storage that fails in between loses nothing.
"""

from __future__ import annotations

from choreo.app.jobs import Job
from choreo.app.plan import Plan, Planner
from choreo.app.run_finder import RunFinder
from choreo.app.seen import Seen, missing
from choreo.app.steps import DONE, Conclusion
from choreo.core.events import Record
from choreo.hosts.step_follow import Follower
from choreo.hosts.step_lanes import Progress
from choreo.hosts.step_parts import Parts
from choreo.hosts.step_scan import Scan
from choreo.ports.log import Gained, Member, Poll


class Intake:
    """From polls to jobs, for one host."""

    def __init__(self, parts: Parts, follower: Follower) -> None:
        """The desk of `parts` gets the jobs."""
        self._parts = parts
        self._desk = parts.desk
        self._finder = RunFinder(parts.log, parts.table, parts.inbox)
        self._planner = Planner(parts.duties, parts.table, parts.runs, parts.gates, self._finder, parts.log)
        self._follower = follower
        self._scans: dict[int, Scan] = {}
        self._seen: dict[int, tuple[int, Seen]] = {}
        """What stands ahead in each partition, and up to where."""
        self._records: list[Record] = []
        self._read: dict[int, int] = {}
        self._partitions = 0

    @property
    def waiting(self) -> bool:
        """Whether there is something to read ahead or to plan now."""
        return bool(self._records or self._read) or not all(scan.is_waiting for scan in self._scans.values())

    def take(self, poll: Poll, member: Member) -> None:
        """Take in what a poll brought."""
        for partition in poll.lost:
            self._lose(partition)
        for gained in poll.gained:
            self._gain(gained, member)
        for record in poll.records:
            scan = self._scans.get(record.partition)
            (self._records if scan is None else scan.kept_back).append(record)
        for partition, offset in poll.read.items():
            if partition in self._scans:
                self._scans[partition].read = offset
            elif partition in self._desk.progress:
                self._read[partition] = offset

    async def plan(self, member: Member) -> None:
        """Read ahead where that is due, then make jobs of what has come."""
        if self._scans or self._records:
            self._partitions = self._partitions or await self._parts.log.partitions(self._parts.topic)
        for scan in [scan for scan in self._scans.values() if not scan.is_waiting]:
            await scan.go_on(self._partitions)
            if scan.finished:
                self._scanned(scan, member)
        if self._records:
            plan = await self._planner.plan(self._records, self._partitions)
            passed = await self._passed(plan)
            self._records = []
            self._put_on_desk(plan, passed)
        for partition, offset in self._read.items():
            self._desk.progress[partition].read = offset
            self._parts.gates.reached(partition, offset)
            if partition in self._seen and self._seen[partition][0] <= offset:
                del self._seen[partition]
        self._read.clear()

    def hold_back(self, member: Member, *, held: bool) -> None:
        """Let polls bring nothing more, or go on; a partition being read ahead is held back in any case."""
        partitions = [partition for partition in self._desk.partitions() if partition not in self._scans]
        (member.pause if held else member.resume)(partitions)

    def lose_all(self) -> None:
        """No partition is this host's any more."""
        for partition in self._desk.partitions():
            self._lose(partition)

    def _gain(self, gained: Gained, member: Member) -> None:
        self._parts.runs.forget()
        self._parts.put_off.forget()
        self._desk.progress[gained.partition] = Progress(gained.committed)
        if gained.committed < gained.end or self._parts.gates.types:
            self._scans[gained.partition] = Scan(gained, self._parts)
            member.pause([gained.partition])

    def _lose(self, partition: int) -> None:
        self._scans.pop(partition, None)
        self._seen.pop(partition, None)
        self._read.pop(partition, None)
        self._parts.gates.lose(partition)
        self._finder.lose(partition)
        self._records = [record for record in self._records if record.partition != partition]
        self._follower.lost(partition)

    def _scanned(self, scan: Scan, member: Member) -> None:
        del self._scans[scan.partition]
        self._seen[scan.partition] = (scan.end, scan.seen)
        self._records += scan.kept_back
        self._read[scan.partition] = scan.read
        member.resume([scan.partition])

    async def _passed(self, plan: Plan) -> dict[int, Conclusion]:
        """Jobs that need no attempt: their outcome stands in the log, or they were put off after their record."""
        passed: dict[int, Conclusion] = {}
        if not self._seen:
            return passed
        said: list[tuple[Job, set[str]]] = []
        for job in plan.jobs:
            _, seen = self._seen.get(job.source.partition, (0, None))
            if seen is None:
                continue
            outcome = seen.outcome_of(job)
            if outcome is not None:
                said.append((job, outcome))
            elif seen.put_off(job):
                passed[id(job)] = DONE
        recorded = await self._parts.inbox.recorded([job.begun_as for job, _ in said]) if said else {}
        for job, ids in said:
            passed[id(job)] = Conclusion(facts=missing(recorded.get(job.begun_as, ()), ids))
        return passed

    def _put_on_desk(self, plan: Plan, passed: dict[int, Conclusion]) -> None:
        for job in plan.jobs:
            conclusion = passed.get(id(job))
            if conclusion is not None:
                self._desk.pass_by(job, conclusion)
            else:
                self._desk.take(job)
        now_ms = self._parts.clock.now_ms()
        for job, reason in plan.ignored:
            self._desk.pass_by(job, self._parts.steps.ignored(job, reason, now_ms))
        for job, error in plan.failed:
            self._follower.set_aside(job, error)
        if plan.stopped:
            self._follower.stopped(plan.stopped, self._parts.duties.forward)
