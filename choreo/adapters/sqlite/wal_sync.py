"""Flush the WAL, so that a power cut cannot take a commit back. Knows no table and no transaction.

Every transaction of every process goes into one sequence, the WAL. A power cut loses an end of it, never a piece out of
the middle. A commit that is not flushed yet may therefore be used inside the program, because everything that follows
from it is lost together with it. It must be flushed, with everything before it, only before the outside world learns of
it. Numbers name the moments of the sequence.
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

# Commits without a waiting caller are flushed this much later, together with the commits of the meanwhile: ten flushes
# a second beside the five of an order that is under way.
_LATEST_S: Final = 0.1

# Linux' fdatasync leaves out the modification time, which no program reads here: half the writing.
_flush: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


DISK = "disk of the database"


class NotFlushedError(StorageError):
    """The disk refused to flush. The file holds the data, but a power cut may lose it."""


class WalSync:
    """Flushes the WAL in a thread, so that the event loop goes on; callers that come meanwhile share the next flush.

    `needed`: False where the settings ask only for safety from kill -9 (synchronous=NORMAL); nothing waits then.
    """

    def __init__(self, database: Database, *, needed: bool, dependencies: Dependencies) -> None:
        self._database = database
        self._needed = needed
        self._dependencies = dependencies
        self.newest: int = 1
        """The last moment: a commit of this process, or a look that saw one of another's. The first is the opening."""
        self.settled_now: int = 1
        """Last moment at which records may have come into the log: external effects may depend on these records."""
        self._flushing = 0
        self._flushed = 0
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._thread: ThreadPoolExecutor | None = None
        self._file = -1
        self._timer: asyncio.TimerHandle | None = None
        self._refused: OSError | None = None

    def committed(self) -> None:
        """Note a commit of this process."""
        self.newest += 1
        if self._needed and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LATEST_S, self._flush_late)

    def recorded(self) -> None:
        """Note that the commit had records: a caller will wait for their flush, so it begins at once."""
        self.settled_now = self.newest
        if not self.settled(self.settled_now):
            self._begin(asyncio.get_running_loop())

    def noticed(self) -> None:
        """Note a commit of another process, which may flush it later than this process acts on it."""
        self.newest += 1
        self.settled_now = self.newest

    def settled(self, moment: int) -> bool:
        """Return whether everything up to this moment is flushed, or needs no flush."""
        return self._flushed >= moment or not self._needed

    def flushed(self, moment: int) -> asyncio.Future[None]:
        """Return a future that is done when everything up to this moment is flushed; it may raise NotFlushedError."""
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
        """Flush everything that is not flushed. The caller closes the database. A second call does nothing."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self.flushed(self.newest)
        finally:
            if self._thread is not None:
                self._thread.shutdown()
            if self._file >= 0:
                # Forget the descriptor first: another file may get its number as soon as it is closed.
                file, self._file = self._file, -1
                os.close(file)

    def _flush_late(self) -> None:
        self._timer = None
        if not self.settled(self.newest):
            self._begin(asyncio.get_running_loop())

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Flush, unless a flush is under way: another flush follows it if a caller came too late for it."""
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
            # Never try again: the system may take the failed write for written and let the next flush succeed.
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
        if self._waiting or not self.settled(self.settled_now):
            self._begin(flight.get_loop())

    def _explained(self, error: OSError) -> NotFlushedError:
        return NotFlushedError(
            f"the disk does not flush ({error.strerror})",
            where=str(self._database.path),
            remedy="Look at the system's log for the disk, then start this process again.",
        )
