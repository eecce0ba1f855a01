"""Detect that the database file was overwritten in place: same inode, content of another file or of an old copy.

SQLite would mix its pages with those of the WAL. The file changes only when a process checkpoints, so it is read when
its ctime has changed, without the WAL. A copy made since the last checkpoint does no harm: the WAL has the rest.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

_OTHER = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""Result codes of a file without our tables.

SQLITE_CORRUPT is none of them: during a checkpoint, and after a kill in one, the file holds pages of two moments. The
WAL has the rest, and a query on a file that is really damaged fails by itself.
"""


class _Content(NamedTuple):
    """Values at the beginning of the file."""

    identity: int
    schema: int
    """SQLite's own count of schema changes; VACUUM raises it in the copy that it makes."""
    growing: tuple[int, int, int]
    """Pages, membership changes and openings: these numbers never fall."""


class MainFile:
    """The file of one open database, without the content of its WAL."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Read the content that the file has now; write it first where the file is new.

        `connection` has created or upgraded the tables.
        """
        self._path = path.resolve()
        self._ctime_ns = 0
        self._is_other = False
        self._seen: _Content | None = None
        if self._read() is None:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self.is_other(self._path.stat().st_ctime_ns)

    def is_other(self, ctime_ns: int) -> bool:
        """Return whether the content is another database's; read the file if its ctime is not that of the last read."""
        if ctime_ns != self._ctime_ns:
            found = self._read()
            if self._path.stat().st_ctime_ns == ctime_ns:  # else it is being written: the next call sees more
                self._ctime_ns = ctime_ns
                self._is_other = self._seen is not None and not _follows(found, self._seen)
                self._seen = self._seen if self._is_other else found
        return self._is_other

    def _read(self) -> _Content | None:
        """Return the content; None where the tables are missing. Any other error counts as no change."""
        try:
            with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
                meta = dict(connection.execute("SELECT name, value FROM meta"))
                ((schema,),) = connection.execute("PRAGMA schema_version")
                ((pages,),) = connection.execute("PRAGMA page_count")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _OTHER:
                return None
            return self._seen
        if "identity" not in meta:
            return None
        return _Content(meta["identity"], schema, (pages, meta["epoch"], meta["openings"]))


def _follows(now: _Content | None, was: _Content) -> bool:
    return (
        now is not None
        and now.identity == was.identity
        and now.schema == was.schema
        and all(new >= old for new, old in zip(now.growing, was.growing, strict=True))
    )
