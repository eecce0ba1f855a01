"""Flushing: from when on a power cut cannot take a commit back. Knows no table and no transaction.

Every transaction of every process goes into one sequence, the WAL; a cut loses some end of it, never a piece out of the
middle. Hence a commit need not be flushed to be true for this program, which loses what follows from it together with
it: only before the world outside learns of it, and then with all that stood before. Moments of the sequence are
numbers.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from choreo.adapters.sqlite.database import Database
from choreo.core.errors import StorageError
from choreo.ports.dependencies import Dependencies, report_error

# What nobody waits for is flushed this much later, with whatever has come meanwhile: ten flushes a second beside the
# five of an order that is under way.
_LATEST_S: Final = 0.1

# Linux' fdatasync leaves out the time of the last change, which nobody reads: half the writing.
_flush: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


DISK = "disk of the database"


class NotFlushedError(StorageError):
    """The disk refused to flush. What was to be flushed stands in the file, and may be gone after a power cut."""


class Disk:
    """Flushes the WAL in a thread of its own, so that the event loop goes on; who comes meanwhile shares the next one.

    `needed`: False where nobody has asked for more than kill -9 (synchronous=NORMAL); nothing waits then.
    """

    def __init__(self, database: Database, *, needed: bool, dependencies: Dependencies) -> None:
        self._database = database
        self._needed = needed
        self._dependencies = dependencies
        self.newest: int = 1
        """The last moment: a commit of this process, or a look that saw one of another's. The first is the opening."""
        self.ground: int = 1
        """The last moment at which records may have come into the log: what is done outside may rest on them."""
        self._flushing = 0
        self._flushed = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._thread: ThreadPoolExecutor | None = None
        self._file = -1
        self._timer: asyncio.TimerHandle | None = None
        self._refused: OSError | None = None

    def committed(self) -> None:
        """This process has committed something."""
        self.newest += 1
        if self._needed and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LATEST_S, self._flush_late)

    def recorded(self) -> None:
        """There were records in that commit: somebody will wait for them to be flushed, so it begins at once."""
        self.ground = self.newest
        if not self.settled(self.ground):
            self._begin(asyncio.get_running_loop())

    def noticed(self) -> None:
        """Another process has committed something, and may be slower to flush it than we are to act on it."""
        self.newest += 1
        self.ground = self.newest

    def settled(self, moment: int) -> bool:
        """Whether all until then is flushed, or need not be."""
        return self._flushed >= moment or not self._needed

    def flushed(self, moment: int) -> asyncio.Future[None]:
        """A future that is done when all until then is flushed; it may raise NotFlushedError."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if self.settled(moment):
            done.set_result(None)
        elif self._refused is not None:
            done.set_exception(self._explained(self._refused))
        else:
            self._waiting.append((moment, done))
            self._begin(loop)
        return done

    async def close(self) -> None:
        """Flush what is not; the database is its owner's to close. Once more does nothing."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self.flushed(self.newest)
        finally:
            if self._thread is not None:
                self._thread.shutdown()
            if self._file >= 0:
                # Forgotten first: the number may be somebody else's file as soon as it is closed.
                file, self._file = self._file, -1
                os.close(file)

    def _flush_late(self) -> None:
        self._timer = None
        if not self.settled(self.newest):
            self._begin(asyncio.get_running_loop())

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Flush, unless one is under way: another follows it if somebody came too late for it."""
        if self._flushing or self._refused is not None:
            return
        self._flushing = self.newest
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "choreo-flush")
        loop.run_in_executor(self._thread, self._run).add_done_callback(self._landed)

    def _run(self) -> None:
        if self._file < 0:
            # SQLite keeps this file as long as a connection is open. Its locks are on the two others, so that opening
            # and closing it here gives none of them away.
            self._file = os.open(f"{os.path.realpath(self._database.path)}-wal", os.O_RDWR)
        _flush(self._file)

    def _landed(self, flight: asyncio.Future[None]) -> None:
        moment, self._flushing = self._flushing, 0
        error = flight.exception()
        if error is None:
            self._flushed = moment
        elif isinstance(error, OSError):
            # Never again: the system may take for written what it could not write, and let the next flush succeed.
            self._refused, moment = error, self.newest
            report_error(self._dependencies, DISK, self._explained(error))
        else:
            raise error
        waiting, self._waiting = self._waiting, []
        for wanted, done in waiting:
            if wanted > moment:
                self._waiting.append((wanted, done))
            elif not done.done():
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(self._explained(error))
        if self._waiting or not self.settled(self.ground):
            self._begin(flight.get_loop())

    def _explained(self, error: OSError) -> NotFlushedError:
        return NotFlushedError(
            f"the disk does not flush ({error.strerror})",
            where=str(self._database.path),
            remedy="Look at the system's log for the disk, then start this process again.",
        )
