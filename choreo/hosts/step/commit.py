"""Commit: the results of jobs become durable together, with the marks of runs and the gates read until then.

One commit at a time, in a task of its own: meanwhile the host reads, begins attempts and takes results, so that
waiting for inbox and log costs no work. Results of that time go into the next commit, with the offsets of then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from choreo.app.steps.gates import Saving
from choreo.app.steps.jobs import JobResult
from choreo.core.errors import LeaseLostError, NotFoundError, StorageError
from choreo.hosts.step.context import HostContext
from choreo.hosts.step.work_queue import Finished, WorkQueue
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.log import CommitBatch, Consumer

_log = logging.getLogger(__name__)

REFUSALS_MAX = 3
"""Commits refused in a row, with a poll in between, before this consumer leaves its group and joins again."""
OFFSETS_MS = 1_000
"""How long offsets alone wait in a stream of records that make no jobs: one write a second instead of one a poll."""
COMMIT_MAX_S = 30.0
"""How long a consumer that leaves or gives up partitions waits for a commit: twice the time a log takes to refuse."""
FORGET_MS = 60_000
"""How often the inbox drops old entries: a minute more of memory is nothing against a linger of days."""

_OF_THE_LOG = (LeaseLostError, StorageError, NotFoundError)
"""Errors that say nothing of a single result: the whole commit is repeated. A topic that is gone may come back."""


class Committer:
    """The last stage of one host."""

    def __init__(self, context: HostContext, queue: WorkQueue, wake: Callable[[], None]) -> None:
        """Take finished jobs from `queue`; call `wake` when a commit is over."""
        self._context = context
        self._queue = queue
        self._wake = wake
        self._committed_ms = 0
        self._forget_ms = 0
        self._task: asyncio.Task[None] | None = None
        self._began_ms = 0
        self._saving: Saving | None = None
        self._refused = 0
        self.is_refused: bool = False
        """The last commit was refused. The next one waits for a poll, which returns the revoked partitions."""
        self.has_failed: bool = False
        """The last commit failed, and none has succeeded since."""

    @property
    def busy(self) -> bool:
        """Return whether a commit runs, or is over and `settle` has not taken its end."""
        return self._task is not None

    @property
    def since_ms(self) -> int:
        """Return when the running commit began; the present moment if none runs."""
        return self._began_ms if self.busy else self._context.ports.clock.now_ms()

    def polled(self) -> None:
        """Let a refused commit be made again: a poll is over, or has had time enough to report what was revoked."""
        self.is_refused = False

    @property
    def has_ended(self) -> bool:
        """Return whether a commit is over and `settle` has not taken its end."""
        return self._task is not None and self._task.done()

    async def settle(self, consumer: Consumer, *, idle: bool) -> None:
        """Commit the results, once the commit before is over; offsets alone only when `idle` or overdue.

        Raises the error of the commit before: after StorageError its results are waiting again.
        """
        if self._task is not None:
            if not self._task.done():
                return
            task, self._task = self._task, None
            if not task.cancelled():
                task.result()
        await self._record_late()
        if idle:
            await self._forget()
        if self.is_refused:
            return
        finished, done = self._queue.begin_commit()
        work = _work_of(finished, done)
        now_ms = self._context.ports.clock.now_ms()
        overdue = not 0 <= now_ms - self._committed_ms < OFFSETS_MS  # a clock may be set back
        if not (work.outcomes or work.outputs or work.dead_letters or (work.done and (idle or overdue))):
            self._done(finished, CommitBatch())
            return
        work = replace(work, marks=self._context.runs.unsaved())
        if self._context.gates.types:
            self._saving = self._context.gates.unsaved(self._queue.committed_offsets())
            work = replace(work, gates=self._saving.save)
        self._began_ms = now_ms
        self._task = asyncio.create_task(self._commit(consumer, finished, work))
        self._task.add_done_callback(lambda _: self._wake())

    async def wait(self) -> None:
        """Wait until no commit runs; `settle` takes its end. One that hangs is cancelled."""
        task = self._task
        if task is None:
            return
        limit = asyncio.ensure_future(self._context.ports.clock.sleep(COMMIT_MAX_S))
        try:
            await asyncio.wait((task, limit), return_when=asyncio.FIRST_COMPLETED)
        finally:
            limit.cancel()
        if not task.done():
            _log.warning("a commit that takes longer than %g s is cancelled", COMMIT_MAX_S)
            task.cancel()
            await asyncio.wait((task,))

    async def give_up(self) -> None:
        """Wait as `wait` does, and log the end: the results of a consumer that leaves are in inbox and log."""
        await self.wait()
        task, self._task, self.has_failed = self._task, None, False
        if task is not None and not task.cancelled() and (error := task.exception()) is not None:
            _log.info("the last commit: %s", error)

    async def _commit(self, consumer: Consumer, finished: list[Finished], work: CommitBatch) -> None:
        """Commit; raises LeaseLostError after several refusals, or another error of the log: its results wait again."""
        is_committed = False
        try:
            await self._write(consumer, finished, work)
            is_committed = True
        except LeaseLostError as error:
            self._refused += 1
            self.is_refused = True
            if self._refused >= REFUSALS_MAX:
                self._refused = 0
                raise
            _log.info("commit refused: %s", error)
        finally:
            self.has_failed = not is_committed
            if not is_committed:
                self._queue.commit_failed(finished)
        if is_committed:
            self._refused = 0
            self._committed_ms = self._began_ms
            self._done(finished, work)

    async def _write(self, consumer: Consumer, finished: list[Finished], work: CommitBatch) -> None:
        try:
            await consumer.commit(work)
        except _OF_THE_LOG:
            raise
        # One result that cannot be written must not hold up the others.
        except Exception:  # noqa: BLE001
            _log.exception("a commit of %d results failed", len(finished))
            await self._write_singly(consumer, finished)
            await consumer.commit(CommitBatch(done=work.done, marks=work.marks, gates=work.gates))

    async def _write_singly(self, consumer: Consumer, finished: list[Finished]) -> None:
        """Write each result alone; one that cannot be written becomes its job's dead letter, also in `finished`."""
        for index, (job, result) in enumerate(finished):
            try:
                await consumer.commit(_work_of([(job, result)], {}))
            except _OF_THE_LOG:
                raise
            except Exception as error:  # noqa: BLE001 - logged with the batch it was in
                cause = f"what came of it cannot be written: {error}"
                dead_letter = self._context.factory.dead_letter(job, cause, self._context.ports.clock.now_ms())
                await self._context.ports.dead_letters.add([dead_letter])
                finished[index] = (job, JobResult(failed=True))

    async def _record_late(self) -> None:
        """Record the results for revoked partitions: the owner finds the outcome and does not run the step again."""
        late = self._queue.late
        if not late:
            return
        work = _work_of(late, {})
        # Dead letters first, for an owner that finds the outcome does not look at the record again.
        await self._context.ports.dead_letters.add(work.dead_letters)
        events = await self._context.ports.inbox.record(work.outcomes)
        if events:
            await self._context.ports.log.append(self._context.topic, events)
        self._queue.late_recorded(len(late))

    async def _forget(self) -> None:
        """Let the inbox drop its entries of runs that ended a `linger` ago."""
        now_ms, linger_ms = self._context.ports.clock.now_ms(), self._context.linger_ms
        if now_ms >= self._forget_ms:
            self._forget_ms = now_ms + max(OFFSETS_MS, min(FORGET_MS, linger_ms))
            await self._context.ports.inbox.forget(now_ms - linger_ms)

    def _done(self, finished: Sequence[Finished], work: CommitBatch) -> None:
        """Note that the work is committed."""
        self._context.runs.saved(work.marks)
        if work.gates is not None and self._saving is not None:
            self._context.gates.saved(self._saving)
        self._queue.committed(work.done)
        failed = 0
        for job, result in finished:
            failed += result.failed
            if result.deferred:
                self._context.deferred.remember(job)
        metrics = self._context.metrics
        metrics.add("jobs", len(finished))
        metrics.add("jobs_failed", failed)
        metrics.add("dead_letters_written", len(work.dead_letters))


def _work_of(finished: Sequence[Finished], done: dict[int, int]) -> CommitBatch:
    """Return the writes of these results, with the offsets to be committed."""
    dead_letters: list[DeadLetter] = [result.dead_letter for _, result in finished if result.dead_letter is not None]
    return CommitBatch(
        outcomes=[result.outcome for _, result in finished if result.outcome is not None],
        outputs=[event for _, result in finished for event in result.facts],
        dead_letters=dead_letters,
        done=done,
    )
