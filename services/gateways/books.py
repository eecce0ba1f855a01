"""The database an outside system keeps: one SQLite file, safe for many threads and processes, opened at first use.

The folder is CHOREO_BOOKS_DIR (`.choreo/books` where it is not set), looked up at each use.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

_CALLS = """
CREATE TABLE IF NOT EXISTS calls (operation TEXT, key TEXT, count INTEGER NOT NULL, PRIMARY KEY (operation, key))
WITHOUT ROWID;
"""

_BUSY_TIMEOUT_S = 30.0
"""How long a writer waits for those of other processes; each of them takes well under a millisecond."""


def directory() -> Path:
    """Where the books of all outside systems lie."""
    return Path(os.environ.get("CHOREO_BOOKS_DIR", ".choreo/books"))


class Books:
    """One outside system's tables. One connection a process, used by one thread at a time."""

    def __init__(self, name: str, tables: str, synchronous: Literal["FULL", "NORMAL"] = "NORMAL") -> None:
        """Nothing is opened yet. NORMAL survives kill -9; FULL also a power cut, at a disk sync a transaction."""
        self._name = name
        self._tables = tables + _CALLS
        self._synchronous = synchronous
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all of it is in the books afterwards, or nothing."""
        with self._lock:
            db = self._open()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def count_call(self, operation: str, key: str) -> int:
        """Which call of that operation under that key this is; kept apart, so that it counts calls that fail too."""
        with self.transaction() as db:
            row = db.execute(
                "INSERT INTO calls VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count",
                (operation, key),
            ).fetchone()
        return int(row[0])

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            self._close()

    def _open(self) -> sqlite3.Connection:
        path = directory() / f"{self._name}.sqlite"
        if self._connection is not None and path == self._path:
            return self._connection
        self._close()
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {self._synchronous}")
        db.executescript(f"BEGIN IMMEDIATE; {self._tables} COMMIT;")
        self._path, self._connection = path, db
        return db

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
