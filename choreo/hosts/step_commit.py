"""How a step host makes its conclusions true: all of them in one commit, with what was read about runs.

One commit at a time, in a task of its own: the host reads, begins and calls handlers meanwhile, so that what waits for
inbox and log costs no work. What is concluded in that time goes into the next commit, with the positions of then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from msgspec.structs import replace

from choreo.app.gates import Saving
from choreo.app.steps import Conclusion
from choreo.core.errors import LeaseLostError, StorageError
from choreo.hosts.step_parts import Parts
from choreo.ports.log import Member, Work

_log = logging.getLogger(__name__)

REFUSALS_MAX = 3
"""Commits refused in a row, with a poll in between, before this member takes itself for a stranger."""
POSITIONS_MS = 1_000
"""How long positions alone wait in a stream of records that make no jobs: one write a second instead of one a poll."""
PATIENCE_S = 30.0
"""How long who leaves, or must give partitions up, waits for a commit: twice what a log may take to say no."""

FORGET_MS = 60_000
"""How often the inbox is tidied: a minute more of memory is nothing against a linger of days."""


class Committer:
    """Commits for one host."""

    def __init__(self, parts: Parts, ring: Callable[[object], None]) -> None:
        """The desk of `parts` holds what is concluded; `ring` is called when a commit is over."""
        self._parts = parts
        self._desk = parts.desk
        self._ring = ring
        self._committed_ms = 0
        self._forget_ms = 0
        self._under_way: asyncio.Task[None] | None = None
        self._began_ms = 0
        self._saving: Saving | None = None
        self.refused: int = 0
        """Commits refused in a row: the next poll says which partitions are lost."""

    @property
    def busy(self) -> bool:
        """Whether a commit is under way, or over and not heard of."""
        return self._under_way is not None

    @property
    def since_ms(self) -> int:
        """When the commit that is under way began; the present moment if none is."""
        return self._began_ms if self.busy else self._parts.clock.now_ms()

    @property
    def has_news(self) -> bool:
        """Whether a commit is over that `settle` has not heard of."""
        return self._under_way is not None and self._under_way.done()

    async def settle(self, member: Member, *, idle: bool) -> None:
        """Commit what is concluded, once the commit before is over; positions alone only when `idle` or overdue.

        Raises what became of the commit before: after StorageError all of it is still concluded.
        """
        if self._under_way is not None:
            if not self._under_way.done():
                return
            under_way, self._under_way = self._under_way, None
            if not under_way.cancelled():
                under_way.result()
        if self._desk.late:
            await self._record_late()
        if idle:
            await self._forget()
        work = self._desk.work()
        now_ms = self._parts.clock.now_ms()
        overdue = not 0 <= now_ms - self._committed_ms < POSITIONS_MS  # a clock may be set back
        self._desk.committing, self._desk.concluded = self._desk.concluded, []
        if not (work.outcomes or work.outputs or work.letters or (work.done and (idle or overdue))):
            self._over(Work())
            return
        work = replace(work, marks=self._parts.runs.unsaved())
        if self._parts.gates.types:
            committed = {partition: progress.committed for partition, progress in self._desk.progress.items()}
            self._saving = self._parts.gates.unsaved(committed)
            work = replace(work, gates=self._saving.save)
        self._began_ms = now_ms
        self._under_way = asyncio.create_task(self._commit(member, work))
        self._under_way.add_done_callback(self._ring)

    async def wait(self) -> None:
        """Until no commit is under way; what became of it is heard of in `settle`. One that hangs is called off."""
        under_way = self._under_way
        if under_way is None:
            return
        patience = asyncio.ensure_future(self._parts.clock.sleep(PATIENCE_S))
        try:
            await asyncio.wait((under_way, patience), return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()
        if not under_way.done():
            _log.warning("a commit that takes longer than %g s is called off", PATIENCE_S)
            under_way.cancel()
            await asyncio.wait((under_way,))

    async def give_up(self) -> None:
        """As `wait`; what became of it is of no interest to a member that leaves: it is found in inbox and log."""
        await self.wait()
        under_way, self._under_way = self._under_way, None
        if under_way is not None and not under_way.cancelled() and (error := under_way.exception()) is not None:
            _log.info("the last commit: %s", error)

    async def _commit(self, member: Member, work: Work) -> None:
        """Raises LeaseLostError after several refusals, StorageError; what is not committed is concluded again."""
        try:
            await self._made_true(member, work)
        except LeaseLostError as error:
            self.refused += 1
            if self.refused >= REFUSALS_MAX:
                self.refused = 0
                raise
            _log.info("commit refused: %s", error)
        else:
            self.refused = 0
            self._committed_ms = self._began_ms
        finally:
            self._desk.take_back()

    async def _made_true(self, member: Member, work: Work) -> None:
        try:
            await member.commit(work)
        except (LeaseLostError, StorageError):
            raise
        # One conclusion that cannot be written must not hold up the others.
        except Exception:  # noqa: BLE001
            _log.exception("a commit of %d conclusions failed", len(self._desk.committing))
            await self._commit_singly(member, work)
        else:
            self._over(work)

    async def _commit_singly(self, member: Member, whole: Work) -> None:
        """Each conclusion alone, positions last; one that cannot be written becomes its job's dead letter."""
        for index, (job, conclusion) in enumerate(self._desk.committing):
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
                self._desk.committing[index] = (job, Conclusion(failed=True))
        work = Work(done=whole.done, marks=whole.marks, gates=whole.gates)
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
        if work.gates is not None and self._saving is not None:
            self._parts.gates.saved(self._saving)
        concluded = self._desk.committed(work)
        failed = 0
        for job, conclusion in concluded:
            failed += conclusion.failed
            if conclusion.put_off:
                self._parts.put_off.remember(job)
        self._parts.counters.add("handled", len(concluded))
        self._parts.counters.add("failed", failed)
        self._parts.counters.add("dead_letters", len(work.letters))
