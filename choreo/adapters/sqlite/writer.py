"""Group commit: all writes of this process in the same few iterations of its loop go into one transaction.

A commit costs the same for one write or ten, so ten in one are ten times cheaper. No timer is needed: the other writes
of these iterations are already there. A job that fails is left out and the others run again; jobs therefore keep their
changes in memory for `after_commit`.

A caller chooses the safety it waits for: committed, which survives kill -9, or flushed, which survives a power cut.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from choreo.adapters.sqlite.database import CONDITIONS, Database, code_of
from choreo.adapters.sqlite.wal_sync import WalSync
from choreo.core.backoff import Backoff
from choreo.core.errors import LostStorageError, StorageError
from choreo.ports.dependencies import Dependencies, NoReports, report_error

T = TypeVar("T")


DATABASE = "database"
LOCK_REPORT_S = 2.0
"""A choreo transaction takes some 10 ms: a lock held for 2 s is another program's."""
_REWRITE = "UPDATE meta SET value = value WHERE name = 'epoch'"


class Until(Enum):
    """The safety for which a caller waits."""

    COMMITTED = "committed"
    SETTLED = "grounded"
    """Committed, with every earlier record of the log flushed: external effects may depend on those."""
    FLUSHED = "flushed"


_RETRY_FIRST_S, _RETRY_MOST_S = 0.0005, 0.005

_ITERATIONS = 3
"""Iterations of the loop for which a transaction waits for other jobs. A new record wakes the tracker and a service,
and both write only after as many iterations: one flush less for every event, for some 50 µs."""


class _Waiting:
    """A job and its waiting caller."""

    __slots__ = ("done", "job", "until", "until_s")

    def __init__(self, job: Callable[[], Any], done: asyncio.Future[Any], until_s: float, until: Until) -> None:
        self.job = job
        self.done = done
        self.until_s = until_s
        """Time at which the job stops waiting for the lock."""
        self.until = until


class Writer:
    """Runs jobs on the connection inside BEGIN IMMEDIATE … COMMIT.

    `before` runs first in each transaction; `after_rollback` when one is undone. `lock_timeout_s`: how long another
    process may hold the write lock before StorageError.
    """

    def __init__(
        self,
        database: Database,
        wal_sync: WalSync,
        lock_timeout_s: float = 30.0,
        dependencies: Dependencies | None = None,
    ) -> None:
        self._database = database
        self._wal_sync = wal_sync
        self._lock_timeout_s = lock_timeout_s
        self._dependencies = dependencies or NoReports()
        self._is_reported = False
        self._queue: list[_Waiting] = []
        self._scheduled = False
        self._retry = Backoff(_RETRY_FIRST_S, _RETRY_MOST_S)
        self._after: list[Callable[[], None]] = []
        self.before: Callable[[], None] = _nothing
        self.after_rollback: Callable[[], None] = _nothing
        self.transactions: int = 0
        """Committed transactions so far."""

    async def write(self, job: Callable[[], T], until: Until = Until.FLUSHED) -> T:
        """Run the job in a transaction and return its result.

        Raises the job's error, or StorageError: then nothing was written. After NotFlushedError the data is written,
        and lost only with the power.
        """
        return await self.queue(job, until)

    def queue(self, job: Callable[[], T], until: Until = Until.FLUSHED) -> asyncio.Future[T]:
        """Run the job as `write` does; the future may serve several callers."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._queue.append(_Waiting(job, done, loop.time() + self._lock_timeout_s, until))
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush_soon, loop, _ITERATIONS)
        return done

    async def check(self) -> None:
        """Write something where the last write could not be made; raises StorageError."""
        if self._is_reported:
            await self.write(partial(self._database.connection.execute, _REWRITE), Until.COMMITTED)

    @property
    def busy(self) -> bool:
        """Return whether a caller waits for a write."""
        return bool(self._queue)

    def after_commit(self, change: Callable[[], None]) -> None:
        """Make this change in memory once the transaction of the running job is committed."""
        self._after.append(change)

    def _flush_soon(self, loop: asyncio.AbstractEventLoop, iterations: int) -> None:
        """Flush after so many iterations of the loop, so that other jobs come first."""
        if iterations:
            loop.call_soon(self._flush_soon, loop, iterations - 1)
        else:
            self._flush(loop)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled = False
        batch = [waiting for waiting in self._queue if not waiting.done.done()]
        self._queue.clear()
        while batch:
            try:
                self._database.connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                self._wait_for_lock(batch, error, loop)
                return
            self._retry.reset()
            batch = self._transact(batch)

    def _transact(self, batch: list[_Waiting]) -> list[_Waiting]:
        """Run and commit all; if one fails, roll all back, fail that one, and return the others."""
        results: list[Any] = []
        self._after.clear()
        try:
            self.before()
            settled_now = self._wal_sync.settled_now
            for waiting in batch:
                results.append(waiting.job())  # noqa: PERF401 -- how far it came is needed where it fails
            self._database.connection.execute("COMMIT")
            self._database.refuse_lost()
        except Exception as error:  # noqa: BLE001 -- any error belongs to the caller that waits for this job
            self._undo()
            # All jobs succeeded: the commit itself failed, for all of them.
            blamed = batch[len(results) : len(results) + 1] or batch
            for waiting in blamed:
                self._fail(waiting, error)
            return [waiting for waiting in batch if waiting not in blamed]
        self.transactions += 1
        if self._is_reported:
            self._is_reported = False
            self._dependencies.clear(DATABASE)
        self._wal_sync.committed()
        for change in self._after:
            change()
        moments = {Until.COMMITTED: 0, Until.SETTLED: settled_now, Until.FLUSHED: self._wal_sync.newest}
        for waiting, result in zip(batch, results, strict=True):
            moment = moments[waiting.until]
            if self._wal_sync.settled(moment):
                if not waiting.done.done():
                    waiting.done.set_result(result)
            else:
                self._wal_sync.flushed(moment).add_done_callback(partial(_answer, waiting.done, result))
        return []

    def _undo(self) -> None:
        # After a full disk or a failed write SQLite has already rolled back on its own.
        if self._database.connection.in_transaction:
            self._database.connection.execute("ROLLBACK")
        self.after_rollback()

    def _fail(self, waiting: _Waiting, error: Exception) -> None:
        # Numbers beyond 64 bits and text beyond UTF-8 are refused by the binding, not by SQLite.
        if isinstance(error, sqlite3.Error | OverflowError | UnicodeEncodeError):
            explained = self._database.explained(error)
            explained.__cause__ = error
            if code_of(error) in CONDITIONS:
                self._report(explained)
            error = explained
        elif isinstance(error, LostStorageError):
            self._report(error)
        if not waiting.done.done():
            waiting.done.set_exception(error)

    def _report(self, error: StorageError) -> None:
        self._is_reported = True
        report_error(self._dependencies, DATABASE, error)

    def _wait_for_lock(self, batch: list[_Waiting], error: sqlite3.Error, loop: asyncio.AbstractEventLoop) -> None:
        """Try again soon, together with newer jobs; fail the jobs that have waited too long."""
        busy = code_of(error) == sqlite3.SQLITE_BUSY
        for waiting in batch:
            left_s = waiting.until_s - loop.time()
            if busy and left_s > 0:
                self._queue.append(waiting)
                if self._lock_timeout_s - left_s > LOCK_REPORT_S and not self._is_reported:
                    self._report(self._database.explained(error))
            else:
                self._fail(waiting, error)
        if self._queue:
            self._scheduled = True
            loop.call_later(self._retry.next_s(), self._flush, loop)


def _answer(done: asyncio.Future[Any], result: Any, flushed: asyncio.Future[None]) -> None:
    """Complete the caller's future once the flush succeeds or fails."""
    error = flushed.exception()
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


def _nothing() -> None:
    """Do nothing: the default of `before` and `after_rollback`."""
