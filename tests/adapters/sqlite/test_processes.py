"""Several real processes on one file: leases, kill -9, zombies, locks."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from choreo.adapters.clock import SystemClock
from choreo.adapters.sqlite import SqliteBackend
from choreo.core.errors import StorageError
from choreo.testing.conformance import event
from tests.support.patience import PATIENCE_S

LEASE_S = 0.6
WORKER = Path(__file__).with_name("worker.py")

Start = Callable[..., Awaitable[Process]]


async def worker(path: Path, name: str, mode: str) -> Process:
    """Return a process on the file, in the group `payment`."""
    arguments = [str(WORKER), str(path), "payment", name, str(LEASE_S), mode]
    environment = {**os.environ, "PYTHONPATH": str(WORKER.parents[3])}
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=PIPE, stdout=PIPE, env=environment)


async def told(process: Process, *wanted: str) -> str:
    """Return the process's next line that begins with one of these words."""
    assert process.stdout is not None
    while True:
        line = (await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)).decode().strip()
        assert line, "the process has ended"
        if line.startswith(wanted):
            return line


async def answer(process: Process) -> None:
    """Let it go on."""
    assert process.stdin is not None
    process.stdin.write(b"\n")
    await process.stdin.drain()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the file that all share."""
    return tmp_path / "choreo.db"


@pytest.fixture
async def backend(path: Path) -> AsyncIterator[SqliteBackend]:
    """Yield this process's backend on it."""
    opened = await SqliteBackend.open(path, clock=SystemClock(), lease_s=LEASE_S, lock_timeout_s=0.05)
    await opened.log.create("order", 4)
    yield opened
    await opened.close()


@pytest.fixture
async def start(path: Path) -> AsyncIterator[Start]:
    """Yield a function that starts workers; none outlives the test."""
    started: list[Process] = []

    async def starter(name: str, mode: str = "work") -> Process:
        process = await worker(path, name, mode)
        started.append(process)
        await told(process, "open")
        return process

    yield starter
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def copies(backend: SqliteBackend, wanted: int) -> list[str]:
    """Return the keys of all copies, once there are so many."""
    reader = await backend.log.consumer("order", "auditor", "auditor", frozenset({"Copied"}))
    keys: list[str] = []
    while len(keys) < wanted:
        keys += [record.event.key for record in (await reader.poll(1_000, 1)).records]
    await reader.close()
    return keys


async def test_a_killed_process_is_replaced_and_nothing_is_done_twice_or_never(
    backend: SqliteBackend, start: Start
) -> None:
    """Two share the work; one is killed -9 in the middle of it; after its lease the other has everything."""
    first = await start("a")
    assert await told(first, "owns") == "owns 0 1 2 3"
    second = await start("b")
    assert len((await told(second, "owns")).split()) == 3
    for n in range(20):
        await backend.log.append("order", [event(f"e-{n}-{m}", key=f"o-{n}-{m}") for m in range(20)])
    first.kill()
    for n in range(20, 25):
        await backend.log.append("order", [event(f"e-{n}-{m}", key=f"o-{n}-{m}") for m in range(20)])
    assert await told(second, "owns 0 1 2 3")
    keys = await copies(backend, 500)
    assert len(keys) == len(set(keys)) == 500


async def test_a_zombie_commits_nothing(backend: SqliteBackend, start: Start) -> None:
    """It was frozen beyond its lease, another has done its work: all its commits are refused."""
    await backend.log.append("order", [event(f"e-{n}", key=f"o-{n}") for n in range(20)])
    zombie = await start("a", "freeze")
    assert await told(zombie, "polled") == "polled 20"
    successor = await start("b")
    assert await told(successor, "owns 0 1 2 3")
    assert len(await copies(backend, 20)) == 20
    await answer(zombie)
    assert await told(zombie, "refused", "committed") == "refused"
    ends = [await backend.log.end("order", partition) for partition in range(4)]
    assert sum(ends) == 40


async def test_a_process_that_restarts_under_its_name_need_not_wait_for_the_lease(
    backend: SqliteBackend, start: Start
) -> None:
    """It is the same member, alive again."""
    first = await start("a")
    await told(first, "owns")
    first.kill()
    await first.wait()
    again = await start("a")
    assert await told(again, "owns") == "owns 0 1 2 3"


async def test_a_held_lock_is_given_up_on_and_survived(backend: SqliteBackend, start: Start) -> None:
    """StorageError with the remedy; when the holder dies its half-written work is gone and ours goes through."""
    holder = await start("a", "hold")
    await told(holder, "holds")
    with pytest.raises(StorageError, match=r"another process holds the file's write lock .*fuser"):
        await backend.log.append("order", [event("e-1")])
    reads = [await backend.log.end("order", partition) for partition in range(4)]
    assert reads == [0, 0, 0, 0], "readers wait for nobody"
    holder.kill()
    await holder.wait()
    (position,) = await backend.log.append("order", [event("e-2")])
    assert position.offset == 0


async def test_two_processes_may_open_a_new_file_at_once(path: Path) -> None:
    """One makes the tables, the others find them."""
    processes = [await worker(path, f"m-{n}", "open") for n in range(4)]
    assert [await process.wait() for process in processes] == [0, 0, 0, 0]
