"""A file during a checkpoint, or after one that a kill cut, is the same file: it holds pages of two moments."""

import asyncio
import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from choreo.adapters.sqlite import SqliteBackend
from choreo.adapters.sqlite.main_file import MainFile
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import event

CUTS = 200


async def checkpointed(backend: SqliteBackend, path: Path, number: int) -> bytes:
    """Append events, move the WAL into the file, and return the file's content."""
    await backend.log.append("order", [event(f"e-{number}-{n}") for n in range(200)])
    backend.database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return await asyncio.to_thread(path.read_bytes)


def torn(before: bytes, after: bytes, page: int, seed: random.Random) -> Iterator[bytes]:
    """Yield files in which some pages are written and the others are not yet."""
    ends = range(0, len(after), page)
    for number in range(CUTS):
        first = seed.randrange(len(ends))
        new = {at for at in ends if (at < first * page if number % 2 else seed.random() < 0.5)}
        yield b"".join(after[at : at + page] if at in new else before[at : at + page] for at in ends)


def write(path: Path, content: bytes) -> None:
    """Write in place, and let the file's ctime differ from the one before."""
    was = path.stat().st_ctime_ns
    path.write_bytes(content)
    while path.stat().st_ctime_ns == was:
        os.utime(path)


async def test_a_file_whose_checkpoint_is_cut_is_no_other_file(tmp_path: Path) -> None:
    """Any mixture of pages before and after a checkpoint: the content belongs to the file that was opened."""
    path = tmp_path / "choreo.db"
    backend = await SqliteBackend.open(path, clock=VirtualClock())
    await backend.log.create("order", 1)
    before = await checkpointed(backend, path, 0)
    after = await checkpointed(backend, path, 1)
    await backend.close()
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        unreadable = 0
        for content in torn(before, after, page, random.Random(1)):
            write(path, before)
            main = MainFile(path, connection)
            for now in (content, after):
                write(path, now)
                assert not main.is_other(path.stat().st_ctime_ns)
                unreadable += not _is_readable(path)
    assert unreadable, "no cut left a file that SQLite calls malformed: the test has tried nothing"


def _is_readable(path: Path) -> bool:
    """Return whether SQLite reads our table in the file alone."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        try:
            connection.execute("SELECT name, value FROM meta").fetchall()
        except sqlite3.DatabaseError:
            return False
        return True
