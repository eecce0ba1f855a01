"""A database file that is deleted or replaced while it is used: nothing is acknowledged that is not kept."""

import asyncio
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from choreo.adapters.sqlite import SqliteHome
from choreo.adapters.sqlite.home import LOST_S
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
    """What the process cannot use."""
    return DependencyReports(clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The home's file."""
    return tmp_path / "data" / "choreo.db"


@pytest.fixture
async def home(path: Path, clock: VirtualClock, reports: DependencyReports) -> AsyncIterator[SqliteHome]:
    """A home with a record."""
    opened = await SqliteHome.open(path, clock=clock, dependencies=reports)
    await opened.log.create("order", 1)
    await opened.log.append("order", [event("e-1")])
    yield opened
    opened._database.close()


def replace(path: Path) -> None:
    """As a restore does that does not know of the process."""
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    copy.rename(path)


def put_back(path: Path) -> None:
    """Undo "file moved"."""
    path.with_name("away.db").rename(path)


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
    home: SqliteHome, path: Path, reports: DependencyReports, way: str
) -> None:
    """Neither written nor read: two processes would see two worlds."""
    WAYS[way](path)
    with pytest.raises(LostStorageError, match=GONE):
        await home.log.append("order", [event("e-2")])
    with pytest.raises(LostStorageError, match=GONE):
        await home.log.read("order", 0, 0, 10)
    assert [one.name for one in reports.all()] == ["database"]
    assert reports.all()[0].remedy.startswith("Stop every process on it, put the file back")


async def test_a_process_that_only_reads_notices_by_the_check_and_ends(
    home: SqliteHome, path: Path, clock: VirtualClock
) -> None:
    """It says so for a while first: who starts it again makes a new file."""
    WAYS["file deleted"](path)
    with pytest.raises(StorageError, match=GONE) as caught:
        await home.check()
    assert not isinstance(caught.value, LostStorageError)
    with pytest.raises(StorageError, match=GONE):
        await home.read_model.counts("order")
    await clock.advance(LOST_S)
    with pytest.raises(LostStorageError, match=GONE):
        await watch(home, asyncio.Event())


async def test_a_file_that_is_put_back_is_used_again(home: SqliteHome, path: Path, reports: DependencyReports) -> None:
    """Nothing was lost, and nothing is doubled."""
    WAYS["file moved"](path)
    with pytest.raises(StorageError):
        await home.check()
    put_back(path)
    await home.check()
    assert reports.all() == []
    await home.log.append("order", [event("e-3")])
    assert [record.event.id for record in await home.log.read("order", 0, 0, 10)] == ["e-1", "e-3"]


async def test_no_file_is_made_beside_the_wal_of_one_that_was_moved(
    home: SqliteHome, path: Path, clock: VirtualClock
) -> None:
    """Its newest records stand there, and SQLite would empty it: a command in another terminal is refused."""
    WAYS["file moved"](path)
    with pytest.raises(StorageError, match="newest records") as caught:
        await SqliteHome.open(path, clock=clock)
    assert caught.value.remedy.startswith("Put the file back")
    put_back(path)
    await home.check()
    other = await SqliteHome.open(path, clock=clock)
    assert [record.event.id for record in await other.log.read("order", 0, 0, 10)] == ["e-1"]
    other._database.close()


async def test_what_is_made_is_readable_by_its_owner_alone(home: SqliteHome, path: Path) -> None:
    """The file, what SQLite keeps beside it, and the folder."""
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (path.parent, *path.parent.iterdir())}
    assert modes == {"data": 0o700, "choreo.db": 0o600, "choreo.db-wal": 0o600, "choreo.db-shm": 0o600}
