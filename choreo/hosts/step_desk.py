"""What a step host has in hand: jobs in their lanes, jobs ready to start, conclusions to be committed together.

Bookkeeping only: it waits for nothing and talks to nobody. A lane goes on only when its job's conclusion is committed,
so that the next job of a key and step finds the outcome recorded.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from choreo.app.jobs import Job
from choreo.app.steps import Conclusion
from choreo.core.events import Envelope
from choreo.hosts.step_lanes import Lanes, Progress
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.inbox import Outcome
from choreo.ports.log import Work

BATCH = 500
"""Attempts begun at once. The write that counts them and the two thread switches cost about a millisecond together."""
IN_HAND_BYTES = 32 << 20
"""From so many bytes of events on the desk is full, however few jobs they are."""
FAR_TOO_MUCH = 10
"""Times the desk: at some 2 kB a job, 40 MB of waiting for one step."""


class Desk:
    """The jobs of one host."""

    def __init__(self, in_hand_max: int, concurrency: int, steps: int) -> None:
        """From `in_hand_max` jobs on the desk is full; `concurrency` handlers of each of `steps` run at once."""
        self._in_hand_max = in_hand_max
        # A step whose handlers hang piles up jobs: it counts for half, so that the others go on being read.
        self._share = in_hand_max if steps == 1 else in_hand_max // 2
        self._concurrency = concurrency
        self.lanes: Lanes = Lanes()
        self.progress: dict[int, Progress] = {}
        self.concluded: list[tuple[Job, Conclusion]] = []
        self.committing: list[tuple[Job, Conclusion]] = []
        """What was concluded and is being committed. No partition is lost meanwhile: that waits for it."""
        self.late: list[tuple[Job, Conclusion]] = []
        """What came of jobs whose partition was lost meanwhile."""
        self.free: list[tuple[str, str]] = []
        """What the inbox knows to be in this host's hands and is not any more: others may begin it."""
        self.running: Counter[str] = Counter()
        """Attempts in the runners' hands, by step."""
        self._ready: dict[str, deque[Job]] = {}
        self._in_hand: Counter[str] = Counter()
        self._bytes = 0
        """Of the events of all jobs in hand."""
        self._quick: set[str] = set()

    @property
    def full(self) -> bool:
        """Whether no more should be read. One step of several never fills the desk alone, unless by far too much."""
        weighed = sum(min(count, self._share) for count in self._in_hand.values())
        is_heavy = self._bytes >= IN_HAND_BYTES
        return is_heavy or weighed >= self._in_hand_max or self._in_hand.total() >= FAR_TOO_MUCH * self._in_hand_max

    def take(self, job: Job) -> None:
        """A job was read: it waits for its turn in its lane."""
        self.progress[job.source.partition].opened(job.source.offset)
        self._in_hand[job.duty.step] += 1
        self._bytes += len(job.event.data)
        job.queued = True
        if self.lanes.add(job):
            self.make_ready(job)

    def pass_by(self, job: Job, conclusion: Conclusion) -> None:
        """A job was read of which nothing is left to do but this."""
        self.progress[job.source.partition].opened(job.source.offset)
        self.conclude(job, conclusion)

    def make_ready(self, job: Job) -> None:
        """It is this job's turn."""
        self._ready.setdefault(job.duty.step, deque()).append(job)

    def put_back(self, jobs: Sequence[Job]) -> None:
        """These could not be started just now."""
        for job in reversed(jobs):
            self._ready.setdefault(job.duty.step, deque()).appendleft(job)

    def startable(self, now_ms: int) -> list[Job]:
        """Jobs to start: as many of each step as it has room for, and those whose time is over in any case."""
        jobs: list[Job] = []
        for step, ready in self._ready.items():
            room = self._room(step)
            while ready and room > 0:
                jobs.append(ready.popleft())
                room -= 1
            while ready and ready[0].deadline_ms < now_ms and not ready[0].duty.reaction:
                jobs.append(ready.popleft())
        return jobs

    @property
    def can_start(self) -> bool:
        """Whether `startable` would find one, deadlines aside."""
        return any(ready and self._room(step) > 0 for step, ready in self._ready.items())

    def _room(self, step: str) -> int:
        return (BATCH if step in self._quick else self._concurrency) - self.running[step]

    def heard(self, job: Job, *, waited: bool) -> None:
        """Its attempt is over. A step whose handlers never wait gets its work in larger batches."""
        step = job.duty.step
        job.in_hands = None
        self.running[step] -= 1
        if job.duty.is_async and not waited:
            self._quick.add(step)
        else:
            self._quick.discard(step)

    def conclude(self, job: Job, conclusion: Conclusion) -> None:
        """The job's handling is over, once this is committed."""
        if job.dropped:
            self.late.append((job, conclusion))
            return
        self.progress[job.source.partition].finished(job.source.offset)
        self.concluded.append((job, conclusion))

    def work(self) -> Work:
        """Everything concluded, with the lowest unfinished position of each partition that has moved."""
        outcomes: list[Outcome] = []
        outputs: list[Envelope] = []
        letters: list[DeadLetter] = []
        for _, conclusion in self.concluded:
            if conclusion.outcome is not None:
                outcomes.append(conclusion.outcome)
            outputs += conclusion.facts
            if conclusion.letter is not None:
                letters.append(conclusion.letter)
        return Work(outputs=outputs, done=self._moved(), outcomes=outcomes, letters=letters)

    def committed(self, work: Work) -> list[tuple[Job, Conclusion]]:
        """The work is true now: positions are noted, lanes go on; returns what was concluded by it."""
        for partition, offset in work.done.items():
            if partition in self.progress:
                self.progress[partition].committed = offset
        committed, self.committing = self.committing, []
        for job, _ in committed:
            self.leave(job)
        return committed

    def take_back(self) -> None:
        """What is still being committed is only concluded again."""
        self.concluded, self.committing = self.committing + self.concluded, []

    def let_go(self, job: Job) -> None:
        """An attempt of the job is over, and nothing was recorded of it."""
        if job.attempt:
            self.free.append(job.begun_as)

    def in_hands(self) -> list[Job]:
        """Jobs at work, and those of which the outcome is not committed yet."""
        at_work = [job for job in self.lanes.heads() if job.in_hands is not None]
        return at_work + [job for job, _ in (*self.committing, *self.concluded, *self.late) if job.attempt]

    def leave(self, job: Job) -> None:
        """The job is off the desk; the next of its lane is ready."""
        if not job.queued:
            return
        self._off(job)
        following = self.lanes.leave(job)
        if following is not None:
            self.make_ready(following)

    def lose(self, partition: int) -> list[Job]:
        """The partition is another's: drop what has not begun; returns the jobs that are at work or wait to try again.

        Of jobs already concluded the conclusion is kept as late.
        """
        self.progress.pop(partition, None)
        for job in self.lanes.drop_waiting(partition):
            self._off(job)
        for ready in self._ready.values():
            for job in [job for job in ready if job.source.partition == partition]:
                ready.remove(job)
                self.leave(job)
        kept = []
        for job, conclusion in self.concluded:
            if job.source.partition == partition:
                job.dropped = True
                self.late.append((job, conclusion))
            else:
                kept.append((job, conclusion))
        self.concluded = kept
        late = {id(job) for job, _ in self.late}
        left = [job for job in self.lanes.heads() if job.source.partition == partition and id(job) not in late]
        for job in left:
            job.dropped = True
        return left

    def _off(self, job: Job) -> None:
        self._in_hand[job.duty.step] -= 1
        self._bytes -= len(job.event.data)

    def partitions(self) -> Iterable[int]:
        """Those this host works."""
        return list(self.progress)

    def _moved(self) -> dict[int, int]:
        return {
            partition: lowest
            for partition, progress in self.progress.items()
            if (lowest := progress.lowest) > progress.committed
        }
