"""A database file that is deleted or replaced while it is used: nothing is acknowledged that is not kept."""

import asyncio
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from choreo.adapters.sqlite import SqliteBackend
from choreo.adapters.sqlite.backend import LOST_S
from choreo.app.dependencies import DependencyReports
from choreo.core.errors import LostStorageError, StorageError
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import event
from choreo.wiring.dependencies import watch

GONE = "deleted or replaced while this process used it"


@pytest.fixture
def clock() -> VirtualClock:
    """Time stands still."""
    return VirtualClock()


@pytest.fixture
def reports(clock: VirtualClock) -> DependencyReports:
    """Return the reports of dependencies that the process cannot use."""
    return DependencyReports(clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the backend's file."""
    return tmp_path / "data" / "choreo.db"


@pytest.fixture
async def backend(path: Path, clock: VirtualClock, reports: DependencyReports) -> AsyncIterator[SqliteBackend]:
    """Yield a backend with a record."""
    opened = await SqliteBackend.open(path, clock=clock, dependencies=reports)
    await opened.log.create("order", 1)
    await opened.log.append("order", [event("e-1")])
    yield opened
    opened.database.close()


def replace(path: Path) -> None:
    """Replace the file as a restore does that does not know of the process."""
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    copy.rename(path)


def put_back(path: Path) -> None:
    """Undo "file moved"."""
    path.with_name("away.db").rename(path)


def overwrite(path: Path, *, by: Path) -> None:
    """Put another file's content into this one, as `cp` does: its inode stays."""
    with by.open("rb") as source, path.open("wb") as target:
        shutil.copyfileobj(source, target)


WAYS: dict[str, Callable[[Path], object]] = {
    "folder deleted": lambda path: shutil.rmtree(path.parent),
    "file deleted": lambda path: path.unlink(),
    "file moved": lambda path: path.rename(path.with_name("away.db")),
    "file replaced": replace,
    "WAL deleted": lambda path: path.with_name("choreo.db-wal").unlink(),
    "index deleted": lambda path: path.with_name("choreo.db-shm").unlink(),
}


@pytest.mark.parametrize("way", WAYS)
async def test_nothing_is_acknowledged_in_a_file_that_is_gone(
    backend: SqliteBackend, path: Path, reports: DependencyReports, way: str
) -> None:
    """Neither written nor read: two processes would see two worlds."""
    WAYS[way](path)
    with pytest.raises(LostStorageError, match=GONE):
        await backend.log.append("order", [event("e-2")])
    with pytest.raises(LostStorageError, match=GONE):
        await backend.log.read("order", 0, 0, 10)
    assert [one.name for one in reports.all()] == ["database"]
    assert reports.all()[0].remedy.startswith("Stop every process on it, put the file back")


def checkpoint(backend: SqliteBackend) -> None:
    """Let SQLite move the WAL into the file."""
    assert backend.database.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


async def another(folder: Path, clock: VirtualClock) -> Path:
    """Return a database of another installation."""
    other = await SqliteBackend.open(folder / "other.db", clock=clock)
    await other.log.create("order", 1)
    await other.close()
    return folder / "other.db"


async def old_copy(backend: SqliteBackend, folder: Path) -> Path:
    """Return a byte by byte copy of the file, behind which records were written since."""
    checkpoint(backend)
    shutil.copy(backend.database.path, folder / "old.db")
    for number in range(100):
        await backend.log.append("order", [event(f"more-{number}")])
    checkpoint(backend)
    await backend.check()
    return folder / "old.db"


async def backup(backend: SqliteBackend, folder: Path) -> Path:
    """Return a copy as the documentation makes it."""
    backend.database.connection.execute(f"VACUUM INTO '{folder / 'backup.db'}'")
    return folder / "backup.db"


def text(folder: Path) -> Path:
    """Write a text in place of the database."""
    (folder / "text.db").write_text("hello " * 10_000)
    return folder / "text.db"


def empty(folder: Path) -> Path:
    """Truncate the file as `: > FILE` does."""
    (folder / "empty.db").touch()
    return folder / "empty.db"


@pytest.mark.parametrize("content", ["another", "old copy", "backup", "text", "empty"])
async def test_nothing_is_acknowledged_in_a_file_that_was_overwritten_in_place(
    backend: SqliteBackend, path: Path, clock: VirtualClock, reports: DependencyReports, content: str
) -> None:
    """It is the same file for the system, with other content: an older copy of its own counts as that, too."""
    other = {
        "another": lambda: another(path.parent, clock),
        "old copy": lambda: old_copy(backend, path.parent),
        "backup": lambda: backup(backend, path.parent),
        "text": lambda: asyncio.to_thread(text, path.parent),
        "empty": lambda: asyncio.to_thread(empty, path.parent),
    }[content]
    by = await other()
    mine = path.with_name("mine.db")
    shutil.copy(path, mine)
    overwrite(path, by=by)
    with pytest.raises(LostStorageError, match=GONE):
        await backend.log.append("order", [event("e-2")])
    with pytest.raises(LostStorageError, match=GONE):
        await backend.log.read("order", 0, 0, 10)
    assert [one.name for one in reports.all()] == ["database"]
    overwrite(path, by=mine)
    await backend.check()
    assert reports.all() == []
    await backend.log.append("order", [event("e-3")])


async def test_a_file_that_grows_in_several_processes_is_the_same_file(
    backend: SqliteBackend, path: Path, clock: VirtualClock
) -> None:
    """Any process may checkpoint the WAL into it; putting back a copy from after that checkpoint does no harm."""
    other = await SqliteBackend.open(path, clock=clock)
    for number in range(20):
        one = (backend, other)[number % 2]
        await one.log.append("order", [event(f"m-{number}")])
        checkpoint(one)
        await backend.check()
        await other.check()
    same = path.with_name("same.db")
    shutil.copy(path, same)
    await backend.log.append("order", [event("last")])
    overwrite(path, by=same)
    await other.log.append("order", [event("very last")])
    assert [record.event.id for record in await backend.log.read("order", 0, 21, 10)] == ["last", "very last"]
    other.database.close()


async def test_a_process_that_only_reads_notices_by_the_check_and_ends(
    backend: SqliteBackend, path: Path, clock: VirtualClock
) -> None:
    """It reports this for a while first: a restart makes a new file."""
    WAYS["file deleted"](path)
    with pytest.raises(StorageError, match=GONE) as caught:
        await backend.check()
    assert not isinstance(caught.value, LostStorageError)
    with pytest.raises(StorageError, match=GONE):
        await backend.read_model.counts("order")
    await clock.advance(LOST_S)
    with pytest.raises(LostStorageError, match=GONE):
        await watch(backend, asyncio.Event())


async def test_a_file_that_is_put_back_is_used_again(
    backend: SqliteBackend, path: Path, reports: DependencyReports
) -> None:
    """Nothing was lost, and nothing is doubled."""
    WAYS["file moved"](path)
    with pytest.raises(StorageError):
        await backend.check()
    put_back(path)
    await backend.check()
    assert reports.all() == []
    await backend.log.append("order", [event("e-3")])
    assert [record.event.id for record in await backend.log.read("order", 0, 0, 10)] == ["e-1", "e-3"]


async def test_no_file_is_made_beside_the_wal_of_one_that_was_moved(
    backend: SqliteBackend, path: Path, clock: VirtualClock
) -> None:
    """Its newest records stand there, and SQLite would empty it: a command in another terminal is refused."""
    WAYS["file moved"](path)
    with pytest.raises(StorageError, match="newest records") as caught:
        await SqliteBackend.open(path, clock=clock)
    assert caught.value.remedy.startswith("Put the file back")
    put_back(path)
    await backend.check()
    other = await SqliteBackend.open(path, clock=clock)
    assert [record.event.id for record in await other.log.read("order", 0, 0, 10)] == ["e-1"]
    other.database.close()


async def test_what_is_made_is_readable_by_its_owner_alone(backend: SqliteBackend, path: Path) -> None:
    """The file, SQLite's files beside it, and the folder."""
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (path.parent, *path.parent.iterdir())}
    assert modes == {"data": 0o700, "choreo.db": 0o600, "choreo.db-wal": 0o600, "choreo.db-shm": 0o600}
