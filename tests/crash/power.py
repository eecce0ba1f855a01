"""The part of a backend's file that a power cut would leave, copied while the backend works.

A cut loses an end of the WAL, down to the last flush, and the flushed part always holds all promised records.
The books of the outside world are copied a moment later than the file: they know at least as much as the log.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from choreo.adapters.sqlite import SqliteBackend
from tests.crash.environment import Environment

_CP = shutil.which("cp") or "cp"
WAL_HEADER, WAL_FRAME = 32, 24 + 4_096
COMMITS_BETWEEN_CUTS = 12
FLUSH_LASTS = 6
"""Commits for which a flush lasts: a slow disk, beside which the program goes several steps on."""
FLUSH_MOST_S = 0.06
"""Then it ends although nothing is committed, for everybody may be waiting for it."""


@dataclass(frozen=True)
class Cut:
    """A copy of the part that would be left, and the records that the world had seen by then."""

    folder: Path
    lost: int
    """Frames of the WAL that were written and are gone."""
    acknowledged: dict[str, str]
    """Id → key of the starts that were acknowledged."""
    shown: dict[str, str]
    """Run → the end that somebody was shown."""

    @property
    def database(self) -> Path:
        """Return the backend's file."""
        return self.folder / "choreo.db"

    @property
    def books(self) -> Path:
        """Return where the outside systems keep theirs."""
        return self.folder / "books"


class Power:
    """Takes copies at random commits; stands in for the disk's flush."""

    def __init__(self, folder: Path, database: Path, books: Path, chance: random.Random) -> None:
        """Put copies into `folder`; none is taken before `watch`."""
        self.cuts: list[Cut] = []
        self.shown: dict[str, str] = {}
        self.news = asyncio.Event()
        """Set at every commit."""
        self._folder, self._database, self._books, self._chance = folder, database, books, chance
        self._wal = Path(f"{database}-wal")
        self._flushed = WAL_HEADER
        self._commits = 0
        self._next = 0
        self._learned = (0, (0, 0))
        self._first = books / "warehouse.sqlite-wal"
        self._committed = Event()

    def watch(self, backend: SqliteBackend, outside: Environment, most: int) -> None:
        """Watch from now on: take so many random cuts, and as many at each kind of moment in which the world learns."""
        self._flushed = self._size()  # all that stands there before the first promise
        told = backend.wal_sync.committed
        taken: Counter[str] = Counter()

        def committed() -> None:
            told()
            self._commits += 1
            self._committed.set()
            self.news.set()
            why = next((reason for reason in self._reasons() if taken[reason] < most), "")
            if why:
                taken[why] += 1
                self._cut(dict(outside.acknowledged))

        backend.wal_sync.committed = committed  # type: ignore[method-assign]

    def _reasons(self) -> Iterator[str]:
        """Yield the reasons for a cut right now: the newest effects are lost most easily."""
        before, self._learned = self._learned, (len(self.shown), self._effects())
        if self._commits >= self._next:
            self._next = self._commits + self._chance.randint(1, COMMITS_BETWEEN_CUTS)
            yield "at random"
        if self._learned[0] > before[0]:
            yield "somebody has seen a run end"
        if self._learned[1] != before[1]:
            yield "a first step has left its effect"

    def _effects(self) -> tuple[int, int]:
        """Return a value that changes with each write of the outside system of an order's first step."""
        file = self._first.stat()
        return file.st_size, file.st_mtime_ns

    def flush(self, file: int) -> None:
        """Flush as a slow disk: the bytes from when the flush began are safe, and only when it ends."""
        size = os.fstat(file).st_size
        for _ in range(FLUSH_LASTS):
            self._committed.clear()
            self._committed.wait(FLUSH_MOST_S / FLUSH_LASTS)
        self._flushed = max(self._flushed, size)

    def _size(self) -> int:
        return self._wal.stat().st_size

    def _cut(self, acknowledged: dict[str, str]) -> None:
        """Run where transactions are made, so none is under way; handlers and their books go on meanwhile."""
        folder = self._folder / f"cut-{len(self.cuts):02}"
        folder.mkdir()
        shown, flushed, written = dict(self.shown), self._flushed, self._size()
        # Half of the cuts take all that a cut can take.
        left = flushed if self._chance.random() < 0.5 else self._chance.randrange(flushed, written + 1, WAL_FRAME)
        cut = Cut(folder, (written - left) // WAL_FRAME, acknowledged, shown)
        # Not by this process: closing a file gives away the locks that SQLite holds on it here.
        subprocess.run([_CP, self._database, cut.database], check=True)
        with self._wal.open("rb") as wal, Path(f"{cut.database}-wal").open("wb") as copy:
            copy.write(wal.read(left))
        cut.books.mkdir()
        for book in sorted(self._books.glob("*.sqlite")):
            with closing(sqlite3.connect(book)) as source, closing(sqlite3.connect(cut.books / book.name)) as target:
                source.backup(target)
        self.cuts.append(cut)
