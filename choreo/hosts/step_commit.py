"""How a step host makes its conclusions true: one commit a turn for all of them, with what was read about runs."""

from __future__ import annotations

import logging

from msgspec.structs import replace

from choreo.app.steps import Conclusion
from choreo.core.errors import LeaseLostError, StorageError
from choreo.hosts.step_parts import Parts
from choreo.ports.log import Member, Work

_log = logging.getLogger(__name__)

REFUSALS_MAX = 3
"""Commits refused in a row, with a poll in between, before this member takes itself for a stranger."""
POSITIONS_MS = 1_000
"""How long positions alone wait in a stream of records that make no jobs: one write a second instead of one a poll."""

FORGET_MS = 60_000
"""How often the inbox is tidied: a minute more of memory is nothing against a linger of days."""


class Committer:
    """Commits for one host."""

    def __init__(self, parts: Parts) -> None:
        """The desk of `parts` holds what is concluded."""
        self._parts = parts
        self._desk = parts.desk
        self._committed_ms = 0
        self._forget_ms = 0
        self.refused = 0
        """Commits refused in a row: the next poll says which partitions are lost."""

    async def settle(self, member: Member, *, idle: bool) -> None:
        """Commit what is concluded; positions alone only when `idle` or overdue. After StorageError all is kept."""
        if self._desk.late:
            await self._record_late()
        if idle:
            await self._forget()
        work = self._desk.work()
        now_ms = self._parts.clock.now_ms()
        overdue = now_ms >= self._committed_ms + POSITIONS_MS
        if not (work.outcomes or work.outputs or work.letters or (work.done and (idle or overdue))):
            self._over(Work())
            return
        work = replace(work, marks=self._parts.runs.unsaved())
        try:
            await member.commit(work)
        except LeaseLostError as error:
            self.refused += 1
            if self.refused >= REFUSALS_MAX:
                self.refused = 0
                raise
            _log.info("commit refused: %s", error)
            return
        except StorageError:
            raise  # the loop waits and comes back; everything is kept
        # One conclusion that cannot be written must not hold up the others.
        except Exception:  # noqa: BLE001
            _log.exception("a commit of %d conclusions failed", len(self._desk.concluded))
            await self._commit_singly(member)
            return
        self.refused = 0
        self._committed_ms = now_ms
        self._over(work)

    async def _commit_singly(self, member: Member) -> None:
        """Each conclusion alone, positions last; one that cannot be written becomes its job's dead letter."""
        for index, (job, conclusion) in enumerate(self._desk.concluded):
            work = Work(
                outcomes=[conclusion.outcome] if conclusion.outcome else [],
                outputs=conclusion.facts,
                letters=[conclusion.letter] if conclusion.letter else [],
            )
            try:
                await member.commit(work)
            except (LeaseLostError, StorageError):
                raise
            except Exception as error:  # noqa: BLE001 - logged with the batch it was in
                cause = f"what came of it cannot be written: {error}"
                await self._parts.dead_letters.add([self._parts.voice.letter(job, cause, self._parts.clock.now_ms())])
                self._desk.concluded[index] = (job, Conclusion(failed=True))
        work = Work(done=self._desk.work().done, marks=self._parts.runs.unsaved())
        await member.commit(work)
        self._over(work)

    async def _record_late(self) -> None:
        """What was done for a partition that is another's now: its owner finds the outcome and does not do it again."""
        late = self._desk.late
        outcomes = [conclusion.outcome for _, conclusion in late if conclusion.outcome is not None]
        # First, for an owner that finds the outcome does not look at the record again.
        await self._parts.dead_letters.add([conclusion.letter for _, conclusion in late if conclusion.letter])
        events = await self._parts.inbox.record(outcomes)
        if events:
            await self._parts.log.append(self._parts.topic, events)
        for job, _ in late:
            self._desk.leave(job)
        self._desk.late = []

    async def _forget(self) -> None:
        """Let the inbox drop what it remembers of runs that ended a `linger` ago."""
        now_ms, linger_ms = self._parts.clock.now_ms(), self._parts.table.flow.linger_ms
        if now_ms >= self._forget_ms:
            self._forget_ms = now_ms + max(POSITIONS_MS, min(FORGET_MS, linger_ms))
            await self._parts.inbox.forget(now_ms - linger_ms)

    def _over(self, work: Work) -> None:
        """The work is true: what was concluded by it is off the desk."""
        self._parts.runs.saved(work.marks)
        concluded = self._desk.committed(work)
        failed = 0
        for job, conclusion in concluded:
            failed += conclusion.failed
            if conclusion.put_off:
                self._parts.put_off.remember(job)
        self._parts.counters.add("handled", len(concluded))
        self._parts.counters.add("failed", failed)
        self._parts.counters.add("dead_letters", len(work.letters))
