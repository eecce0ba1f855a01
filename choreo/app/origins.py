"""Where the trigger of a step stands that the tracker calls for by its id alone (`StepRetryDue`).

The inbox remembers the offset when a step is put off; where it has lost its memory, the log is searched.
"""

from __future__ import annotations

from collections.abc import Sequence

from choreo.app.jobs import Job
from choreo.core import facts, ids
from choreo.core.events import Envelope, Record
from choreo.core.fold import identified
from choreo.ports.inbox import Inbox, Outcome
from choreo.ports.log import Log

READ_AT_ONCE = 1_000
REMEMBERED_MAX = 10_000


class Origins:
    """The memory of steps put off, for one service."""

    def __init__(self, inbox: Inbox, log: Log) -> None:
        """Both are asked only when a step is put off or called for again."""
        self._inbox = inbox
        self._log = log
        self._failed: dict[tuple[str, str], int] = {}

    async def remember(self, put_off: Sequence[tuple[Job, Envelope]]) -> None:
        """Keep where each job's record stands; the fact that puts it off carries the offset."""
        for job, fact in put_off:
            if fact.type == facts.STEP_ATTEMPT_FAILED:
                self._failed[job.begun_as] = fact.attempt
        while len(self._failed) > REMEMBERED_MAX:
            del self._failed[next(iter(self._failed))]
        if put_off:
            await self._inbox.record(
                [
                    Outcome(_key(job.event.id), job.duty.step, job.event.run, (fact,), success=False)
                    for job, fact in put_off
                ]
            )

    def stale(self, job: Job) -> bool:
        """Whether the job's record is a twin of one that was handled: an attempt it does not know of was put off."""
        if job.redriven or (job.duty.undo and job.woken):
            return False
        return job.failed < self._failed.get(job.begun_as, 0)

    def forget(self) -> None:
        """What was said for a partition may never have been committed: its records are read anew."""
        self._failed.clear()

    async def find(self, call: Record, trigger: str, step: str) -> Record | None:
        """The record of this id, before `call` in its partition; None if it is no longer there."""
        key = (_key(trigger), step)
        for fact in (await self._inbox.recorded([key])).get(key, ()):
            found = await self.at(call, fact.outcome, trigger)
            if found is not None:
                return found
        for first in range(0, call.offset, READ_AT_ONCE):
            limit = min(READ_AT_ONCE, call.offset - first)
            for record in await self._log.read(call.topic, call.partition, first, limit):
                if identified(record).id == trigger:
                    return record
        return None

    async def at(self, call: Record, offset: int, trigger: str) -> Record | None:
        """The record at this offset of the call's partition, if it is the one of this id."""
        if offset < 0:
            return None
        records = await self._log.read(call.topic, call.partition, offset, 1)
        if records and records[0].offset == offset and identified(records[0]).id == trigger:
            return records[0]
        return None


def _key(trigger: str) -> str:
    return ids.derive("origin", trigger)
