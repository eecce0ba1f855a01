"""The connection: opening the file, its settings, and SQLite's errors as messages with a remedy.

One connection per process, used on the thread of its event loop: a statement takes microseconds, and a second thread
would pass the interpreter's lock to and fro at each of its steps. Knows no table but `meta`.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from choreo.adapters.sqlite import reboot_detection
from choreo.adapters.sqlite.main_file import MainFile
from choreo.adapters.sqlite.schema import SCRIPT, UPGRADES, VERSION
from choreo.core.errors import LostStorageError, StorageError

_OPEN_TIMEOUT_S = 10.0
_OPEN_AGAIN_S = 0.005
"""SQLite does not notify when the lock on a new file is free; another process holds it for about a millisecond."""

_OLDEST_SQLITE = (3, 37)
"""The first version with STRICT tables, which refuse values of a wrong type from every program."""

_SETTINGS = (
    # SQLite flushes for its own purposes only, around checkpoints; `wal_sync` decides about all other flushes.
    "synchronous = NORMAL",
    # 64 MB of pages: the working set of about 100,000 open instances.
    "cache_size = -65536",
    # 64 MB of WAL between checkpoints: pages written again and again (leases, newest rows, the leaves of the indexes
    # over ids) are copied once. With 1,000,000 open instances the tracker is a fifth faster than with 16 MB.
    "wal_autocheckpoint = 16000",
    "temp_store = MEMORY",
    # Some distributions overwrite deleted rows with zeros by default. It doubles the writes and no promise needs it.
    "secure_delete = OFF",
    "trusted_schema = OFF",
)

# Primary result code → the cause and the remedy for a person.
_REMEDIES: Final = {
    sqlite3.SQLITE_FULL: (
        "the disk is full",
        "Free some space: nothing of this write was kept, and the next one goes through.",
    ),
    sqlite3.SQLITE_READONLY: (
        "the file cannot be written",
        "Give this user the right to write the file and its folder.",
    ),
    sqlite3.SQLITE_CANTOPEN: ("the file cannot be opened", "Check that the path is a file in a folder of this user's."),
    sqlite3.SQLITE_NOTADB: ("the file is no SQLite database", "Move it away, or name another path."),
    sqlite3.SQLITE_CORRUPT: (
        "the file is damaged",
        "Stop every process on it, save it with `sqlite3 FILE .recover`, or restore a copy.",
    ),
    sqlite3.SQLITE_IOERR: ("the disk does not read or write", "Look at the system's log for the disk."),
    sqlite3.SQLITE_BUSY: (
        "another process holds the file's write lock",
        "Find who has it open (`fuser FILE`): a transaction left open in a shell, a backup, a stopped process.",
    ),
}


def _regular(path: Path) -> Path:
    """Return the path without links; raises StorageError where no file can be, such as at a device or a pipe."""
    try:
        whole = path.resolve()
        is_fit = not whole.exists() or whole.is_file() or whole.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle; a NUL
        raise StorageError(f"it is no path of a file: {error}", where=f"{path!s:.200}", remedy=_NAME_A_FILE) from error
    if not is_fit:  # a pipe would hold every process until somebody writes to it
        raise StorageError("it is a device, a pipe or a socket", where=str(path), remedy=_NAME_A_FILE)
    return whole


_NAME_A_FILE = "Name a path of a file in a folder of this user's (CHOREO_DATABASE)."
_IDENTIFY = "INSERT OR IGNORE INTO meta VALUES ('identity', ?)"
_COUNT = "INSERT INTO meta VALUES ('openings', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"

CONDITIONS = frozenset(_REMEDIES)
"""Result codes of a file that no statement can use."""


class NotTextError(StorageError):
    """A text that another program wrote is not UTF-8. Python refuses it, not SQLite."""


class Database:
    """An open file. `query` reads; the `Writer` writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # The names at this moment: a process may change its folder, and a link its target.
        self._names = [Path(f"{_regular(path)}{suffix}") for suffix in ("", "-wal", "-shm")]
        self.boot: int = reboot_detection.boot_of_machine()
        self._is_lost = False
        self._files: list[tuple[int, int] | None] = []
        self._ctime_ns = 0
        """ctime of the database file at the last look."""
        self.doubtful_ms: int = reboot_detection.NO_DOUBT
        """Newest timestamp that is in doubt: nothing is certain about triggers up to it."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"its folder cannot be made: {error.strerror}",
                where=str(path),
                remedy="Name a path in a folder that this user may write.",
            ) from error
        self._refuse_beside_wal()
        # No other user may read it. SQLite gives the files beside it the same mode, and reports an error in the path.
        with suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        self.connection: sqlite3.Connection = self._open()
        self._files = self._identities()
        self._main = MainFile(path, self.connection)

    def _refuse_beside_wal(self) -> None:
        """Raise StorageError where the file is gone and its WAL is not: SQLite empties the WAL beside a new file."""
        name, wal, _ = self._names
        # Check the WAL first: a process that creates both at this moment creates the file before its WAL.
        if wal.exists() and not name.exists():
            raise StorageError(
                f"the database file is not there, and its newest records still stand beside it in {wal.name}",
                where=str(self.path),
                remedy="Put the file back; or remove what ends in -wal and -shm beside it, to begin with a new one.",
            )

    def refuse_lost(self) -> None:
        """Raise LostStorageError where the file or one of SQLite's files beside it is gone, or is another one now.

        Until it is called again with the files in their place, `query` raises the same.
        """
        self._is_lost = self._identities() != self._files or self._main.is_other(self._ctime_ns)
        if self._is_lost:
            raise self._gone()

    def refuse_read(self) -> None:
        """Raise LostStorageError if the last `refuse_lost` did."""
        if self._is_lost:
            raise self._gone()

    def _gone(self) -> LostStorageError:
        return LostStorageError(
            "the database file was deleted or replaced while this process used it; what is written is not kept",
            where=str(self.path),
            remedy=(
                "Stop every process on it, put the file back (or begin with a new one; beside a copy, remove what ends "
                "in -wal and -shm), and start them again."
            ),
        )

    def _identities(self) -> list[tuple[int, int] | None]:
        """Return device and inode of the database, its WAL and its index; None for one that is not there."""
        found: list[tuple[int, int] | None] = []
        for name in self._names:
            try:
                status = name.stat()
            except (FileNotFoundError, NotADirectoryError):
                found.append(None)
            except OSError:  # the folder became inaccessible: this proves nothing about the file
                return self._files
            else:
                found.append((status.st_dev, status.st_ino))
                if len(found) == 1:
                    self._ctime_ns = status.st_ctime_ns
        return found

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return all rows of a reading statement; raises StorageError."""
        self.refuse_read()
        try:
            return self.connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            if code_of(error) == sqlite3.SQLITE_BUSY:
                return self._query_patiently(sql, values)
            raise self.explained(error) from error

    def query_bytes(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Return rows as `query` does, with every text as bytes: for rows with a text that is not UTF-8."""
        self.connection.text_factory = bytes
        try:
            return self.query(sql, values)
        finally:
            self.connection.text_factory = str

    def _query_patiently(self, sql: str, values: Sequence[Any]) -> list[Any]:
        """Run a query again and wait for the lock.

        A reader waits for a lock only while another process recovers the file after a process was killed.
        """
        try:
            self.connection.execute(f"PRAGMA busy_timeout = {round(_OPEN_TIMEOUT_S * 1_000)}")
            return self.connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self.explained(error) from error
        finally:
            self.connection.execute("PRAGMA busy_timeout = 0")

    def explained(self, error: Exception) -> StorageError:
        """Return SQLite's error as a StorageError with a remedy."""
        if isinstance(error, sqlite3.OperationalError) and code_of(error) == 0:
            return NotTextError(f"a text is no UTF-8 ({error})", where=str(self.path), remedy="Correct the row.")
        what, remedy = _REMEDIES.get(code_of(error), ("the database refused", "Report this with the sentence above."))
        return StorageError(f"{what} ({error})", where=str(self.path), remedy=remedy)

    def close(self) -> None:
        """Close the file; the last process out also empties its WAL."""
        self.connection.close()

    def _open(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise StorageError(
                f"this Python has SQLite {sqlite3.sqlite_version}, too old for this file",
                where=str(self.path),
                remedy="Use a Python with SQLite 3.37 or newer.",
            )
        connection = None
        try:
            connection = sqlite3.connect(
                self.path, isolation_level=None, cached_statements=256, timeout=_OPEN_TIMEOUT_S
            )
            _enter_wal(connection)
            for setting in _SETTINGS:
                connection.execute(f"PRAGMA {setting}")
            connection.execute("BEGIN IMMEDIATE")
            self._prepare(connection)
            # From here on no statement sleeps for a lock: the writer tries again between other work.
            connection.execute("PRAGMA busy_timeout = 0")
        except (sqlite3.Error, StorageError) as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise self.explained(error) from error
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Create the tables if there are none, upgrade older ones, refuse others; ends the transaction."""
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        if not tables:
            for statement in _statements(SCRIPT):
                connection.execute(statement)
        elif "meta" not in tables or tables.isdisjoint(("partitions", "lanes")):
            raise StorageError(
                "it is the database of another program", where=str(self.path), remedy="Name another path."
            )
        else:
            row = connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()
            version = row[0] if row else None
            while version in UPGRADES:
                for statement in _statements(UPGRADES[version]):
                    connection.execute(statement)
                version += 1
                connection.execute("UPDATE meta SET value = ? WHERE name = 'schema_version'", (version,))
            if version != VERSION:
                raise StorageError(
                    f"it has schema version {version}; this choreo knows version {VERSION}",
                    where=str(self.path),
                    remedy="Use the choreo that wrote it, or name another path.",
                )
        connection.execute(_IDENTIFY, (secrets.randbits(62),))
        connection.execute(_COUNT)
        self.doubtful_ms = reboot_detection.doubtful_ms(connection, self.boot)
        connection.execute("COMMIT")


def code_of(error: Exception) -> int:
    """Return SQLite's primary result code; 0 for an error of Python's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Change to WAL. SQLite does not wait for this lock itself, so two processes that open a new file would collide."""
    until = time.monotonic() + _OPEN_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(_OPEN_AGAIN_S)
        else:
            return


def _statements(script: str) -> list[str]:
    """Split a script into its statements, because `executescript` commits before it runs.

    A semicolon inside a trigger does not end a statement.
    """
    found, text = [], ""
    for line in script.splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            found.append(text)
            text = ""
    return found
