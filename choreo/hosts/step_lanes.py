"""The jobs in a host's hands: one lane for each key and step, and how far each partition is finished.

Pure bookkeeping: waits for nothing, decides nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from choreo.app.jobs import Job


class Lanes:
    """Jobs of one key and step, one after the other; the first of each lane is at work."""

    def __init__(self) -> None:
        self._heads: dict[tuple[str, str], Job] = {}
        self._waiting: dict[tuple[str, str], deque[Job]] = {}

    def add(self, job: Job) -> bool:
        """Queue the job; True if it may start at once."""
        lane = job.lane
        if lane in self._heads:
            self._waiting.setdefault(lane, deque()).append(job)
            return False
        self._heads[lane] = job
        return True

    def head(self, key: str, step: str) -> Job | None:
        """The job of this lane that is at work."""
        return self._heads.get((key, step))

    def leave(self, job: Job) -> Job | None:
        """The job is over; returns the one that may start now."""
        lane = job.lane
        waiting = self._waiting.get(lane)
        if not waiting:
            del self._heads[lane]
            return None
        following = self._heads[lane] = waiting.popleft()
        if not waiting:
            del self._waiting[lane]
        return following

    def heads(self) -> Iterable[Job]:
        """Every job that is at work."""
        return list(self._heads.values())

    def drop_waiting(self, partition: int) -> list[Job]:
        """Take out those that wait for their turn in this partition."""
        dropped = []
        for lane, waiting in list(self._waiting.items()):
            gone = [job for job in waiting if job.source.partition == partition]
            if gone:
                dropped += gone
                kept = deque(job for job in waiting if job.source.partition != partition)
                if kept:
                    self._waiting[lane] = kept
                else:
                    del self._waiting[lane]
        return dropped


class Progress:
    """How far one partition was read, and the lowest position whose jobs are not finished."""

    def __init__(self, committed: int) -> None:
        """`committed`: the offset from which the partition is worked."""
        self.read = committed
        self.committed = committed
        self._order: deque[int] = deque()
        self._open: dict[int, int] = {}

    def opened(self, offset: int) -> None:
        """A record at this offset makes one job (more)."""
        if offset in self._open:
            self._open[offset] += 1
        else:
            self._open[offset] = 1
            self._order.append(offset)

    def finished(self, offset: int) -> None:
        """One job of this offset is finished."""
        left = self._open[offset] - 1
        if left:
            self._open[offset] = left
        else:
            del self._open[offset]

    @property
    def lowest(self) -> int:
        """The next offset to be committed."""
        order = self._order
        while order and order[0] not in self._open:
            order.popleft()
        return order[0] if order else self.read
