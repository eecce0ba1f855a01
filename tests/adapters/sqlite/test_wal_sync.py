"""Calls that wait for the disk with synchronous=FULL, calls that do not, and steps in doubt after a power cut."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest

from choreo.adapters.sqlite import SqliteBackend, reboot_detection, wal_sync
from choreo.adapters.sqlite.wal_sync import NotFlushedError
from choreo.ports.inbox import AttemptGrant, AttemptRequest, Outcome
from choreo.ports.log import CommitBatch, Consumer
from choreo.ports.read_model import InstanceView
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import event
from tests.support.patience import PATIENCE_S

VIEW = InstanceView("order", "o-1", "r-1", "running", "", 1, 1, 0, 0)


class FakeDisk:
    """Flushes when it is let, or fails; counts."""

    def __init__(self) -> None:
        self.flushes = 0
        self.error: OSError | None = None
        self.flushed = Event()
        self.free = Event()
        self.free.set()

    def flush(self, file: int) -> None:
        """Stand in for fdatasync."""
        assert os.fstat(file).st_size
        assert self.free.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.flushes += 1
        self.flushed.set()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDisk]:
    """Yield the disk under every backend of the test."""
    made = FakeDisk()
    monkeypatch.setattr(wal_sync, "_flush", made.flush)
    monkeypatch.setattr(reboot_detection, "boot_of_machine", lambda: 1)
    yield made
    made.free.set()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the backend's file."""
    return tmp_path / "choreo.db"


@pytest.fixture
async def backend(fake: FakeDisk, path: Path) -> AsyncIterator[SqliteBackend]:
    """Yield a backend with a topic of one partition."""
    opened = await _opened(path)
    yield opened
    fake.free.set()
    with suppress(NotFlushedError):
        await opened.close()


async def _opened(path: Path) -> SqliteBackend:
    backend = await SqliteBackend.open(path, clock=VirtualClock())
    await backend.log.create("order", 1)
    return backend


async def _consumer(backend: SqliteBackend) -> Consumer:
    consumer = await backend.log.consumer("order", "tracker", "a")
    await consumer.poll(10, 0)
    return consumer


async def _waits(task: asyncio.Task[object]) -> bool:
    """Return whether it still waits after more turns of the loop than anything takes that need not."""
    for _ in range(50):
        await asyncio.sleep(0)
    return not task.done()


async def test_a_start_is_acknowledged_when_it_is_flushed_and_read_before(
    fake: FakeDisk, backend: SqliteBackend
) -> None:
    """The flow goes on during the flush; the caller gets its answer afterwards."""
    consumer = await _consumer(backend)
    fake.free.clear()
    append = asyncio.create_task(backend.log.append("order", [event("e-1")]))
    assert await _waits(append)
    assert [record.event.id for record in (await consumer.poll(10, 0)).records] == ["e-1"]
    fake.free.set()
    assert [position.offset for position in await append] == [0]


async def test_a_commit_waits_for_no_flush(fake: FakeDisk, backend: SqliteBackend) -> None:
    """States, views, facts and positions are lost together, and derived again."""
    consumer = await _consumer(backend)
    fake.free.clear()
    await consumer.commit(CommitBatch([event("e-1")], {0: 0}, views=[VIEW]))
    assert (await backend.log.committed("order", "tracker")) == {0: 0}


async def test_an_attempt_begins_when_all_that_led_to_it_is_flushed(fake: FakeDisk, backend: SqliteBackend) -> None:
    """Else its effect could outlive its trigger."""
    consumer = await _consumer(backend)
    fake.free.clear()
    await consumer.commit(CommitBatch([event("e-1")]))
    begin = asyncio.create_task(backend.inbox("payment").begin([AttemptRequest("e-1", "charge", "r-1")]))
    assert await _waits(begin)
    fake.free.set()
    assert await begin == [AttemptGrant(1)]


async def test_an_attempt_does_not_wait_for_its_own_count(fake: FakeDisk, backend: SqliteBackend) -> None:
    """A power cut that takes it back is noticed by the machine's next boot."""
    await backend.log.append("order", [event("e-1")])
    fake.free.clear()
    assert await backend.inbox("payment").begin([AttemptRequest("e-1", "charge", "r-1")]) == [AttemptGrant(1)]


async def test_where_boots_cannot_be_told_apart_the_count_is_flushed(
    fake: FakeDisk, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing need be in doubt later."""
    monkeypatch.setattr(reboot_detection, "boot_of_machine", lambda: 0)
    backend = await _opened(path)
    fake.free.clear()
    begin = asyncio.create_task(backend.inbox("payment").begin([AttemptRequest("e-1", "charge", "r-1")]))
    assert await _waits(begin)
    fake.free.set()
    assert await begin == [AttemptGrant(1)]
    await backend.close()


async def test_what_is_shown_is_flushed(fake: FakeDisk, backend: SqliteBackend) -> None:
    """Nobody sees an end that a power cut could take back; an empty answer needs no flush."""
    consumer = await _consumer(backend)
    fake.free.clear()
    assert await backend.read_model.history("order", "o-1") == []
    await consumer.commit(CommitBatch([event("e-1")], {0: 1}, views=[VIEW]))
    for question in (backend.read_model.instance("order", "o-1"), backend.read_model.history("order", "o-1")):
        fake.free.clear()
        await consumer.commit(CommitBatch(views=[VIEW]))
        asked = asyncio.create_task(question)
        assert await _waits(asked)
        fake.free.set()
        assert await asked


async def test_what_another_process_wrote_is_flushed_by_whoever_shows_it(
    fake: FakeDisk, backend: SqliteBackend, path: Path
) -> None:
    """No process knows the flushes of another."""
    other = await SqliteBackend.open(path, clock=VirtualClock(), synchronous="NORMAL")
    await backend.log.append("order", [event("e-1")])
    flushes = fake.flushes
    await (await _consumer(other)).commit(CommitBatch([event("e-2")], {0: 0}, views=[VIEW]))
    assert fake.flushes == flushes
    assert await backend.read_model.instance("order", "o-1") == VIEW
    assert fake.flushes == flushes + 1
    assert await backend.read_model.instance("order", "o-1") == VIEW
    assert fake.flushes == flushes + 1
    await other.close()


async def test_with_normal_nothing_is_flushed_for_anybody(fake: FakeDisk, path: Path) -> None:
    """SQLite's own flushes, around checkpoints, keep the file whole."""
    backend = await SqliteBackend.open(path, clock=VirtualClock(), synchronous="NORMAL")
    await backend.log.create("order", 1)
    await backend.log.append("order", [event("e-1")])
    await backend.inbox("payment").begin([AttemptRequest("e-1", "charge", "r-1")])
    await backend.close()
    assert fake.flushes == 0


async def test_what_nobody_waits_for_is_flushed_a_little_later(fake: FakeDisk, backend: SqliteBackend) -> None:
    """An idle process leaves nothing to chance."""
    consumer = await _consumer(backend)
    await backend.log.append("order", [event("e-1")])
    fake.flushed.clear()
    await consumer.commit(CommitBatch(views=[VIEW]))
    assert await asyncio.to_thread(fake.flushed.wait, PATIENCE_S)


async def test_a_disk_that_refuses_to_flush_is_never_believed_again(fake: FakeDisk, backend: SqliteBackend) -> None:
    """The system may count lost pages as written: the caller gets an error, and nothing is written twice."""
    fake.error = OSError(5, "Input/output error")
    starts = [backend.log.append("order", [event(f"e-{number}")]) for number in (1, 2)]
    refused = await asyncio.gather(*starts, return_exceptions=True)
    assert [type(error) for error in refused] == [NotFlushedError] * 2
    assert "does not flush (Input/output error)" in str(refused[0])
    fake.error = None
    with pytest.raises(NotFlushedError, match="start this process again"):
        await backend.inbox("payment").begin([AttemptRequest("e-1", "charge", "r-1")])
    assert [record.event.id for record in await backend.log.read("order", 0, 0, 10)] == ["e-1", "e-2"]


async def test_a_home_that_is_closed_once_more_closes_nobody_elses_file(fake: FakeDisk, path: Path) -> None:
    """The system gives the number of a closed file to the next one that is opened, by whomever."""
    backend = await _opened(path)
    await backend.log.append("order", [event("e-1")])
    before = _open_files()
    await backend.close()
    theirs = [os.open(path, os.O_RDONLY) for _ in before]
    assert set(theirs) & before
    await backend.close()
    for file in theirs:
        os.close(file)  # OSError where it is closed already
    assert fake.flushes


def _open_files() -> set[int]:
    return {int(file.name) for file in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize(("boot_after", "certain"), [(1, True), (2, False), (0, False)])
async def test_under_another_boot_no_failure_of_an_old_trigger_is_certain(
    fake: FakeDisk, path: Path, monkeypatch: pytest.MonkeyPatch, boot_after: int, *, certain: bool
) -> None:
    """An attempt may have begun that nobody has counted; of triggers that came since then, all have been."""
    backend = await _opened(path)
    ((old_ms, _),) = await _stamps(backend, "old")
    await backend.close()
    monkeypatch.setattr(reboot_detection, "boot_of_machine", lambda: boot_after)
    for again in range(2):  # and it is remembered as long as this boot lasts
        clock = VirtualClock()
        await clock.advance(60 + again)
        backend = await SqliteBackend.open(path, clock=clock)
        inbox = backend.inbox("payment")
        *_, (new_ms, _) = await _stamps(backend, f"new-{again}")
        assert new_ms > old_ms
        for trigger, stamp_ms in ((f"old-{again}", old_ms), (f"new-{again}", new_ms)):
            assert await inbox.begin([AttemptRequest(trigger, "charge", "r-1")]) == [AttemptGrant(1)]
            declined = Outcome(trigger, "charge", "r-1", [event("x", type_="Declined")], False, 1, stamp_ms)
            (said,) = await inbox.record([declined])
            assert said.certain is (certain or trigger.startswith("new"))
        await backend.close()
    assert fake.flushes


async def _stamps(backend: SqliteBackend, trigger: str) -> list[tuple[int, str]]:
    await backend.log.append("order", [event(trigger)])
    return [(record.stamp_ms, record.event.id) for record in await backend.log.read("order", 0, 0, 10)]
