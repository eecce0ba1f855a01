"""The tracker host ends when it is asked to, and goes on after states that cannot be read are put right."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from choreo.adapters.memory.backend import MemoryBackend
from choreo.core.errors import ChangelogError
from choreo.hosts import tracker
from choreo.hosts.tracker import TrackerHost
from choreo.ports.log import CommitBatch
from choreo.testing.clock import VirtualClock
from tests.hosts.test_tracker import HOUR_S, TOPIC, definition, running_harness, start, status
from tests.support.patience import PATIENCE_S


async def test_a_stop_ends_a_commit_that_storage_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its records are read again by the next owner."""
    monkeypatch.setattr(tracker, "STOP_S", 0.01)
    clock = VirtualClock()
    backend = MemoryBackend(clock)
    await backend.log.create(TOPIC, 1)
    await backend.log.append(TOPIC, [start()])
    hangs = asyncio.Event()

    async def join() -> Any:
        consumer = await backend.log.consumer(TOPIC, "tracker", "one")

        async def commit(_: CommitBatch) -> None:
            hangs.set()
            await asyncio.Event().wait()

        consumer.commit = commit  # type: ignore[method-assign] - a store that hangs
        return consumer

    host = TrackerHost(definition(HOUR_S), backend.log, backend.states, clock, name="one", join=join)
    running = asyncio.create_task(host.run())
    await hangs.wait()
    await host.stop()
    await asyncio.wait_for(running, PATIENCE_S)
    assert (await backend.log.committed(TOPIC, "tracker")).get(0, 0) == 0


async def test_a_state_that_could_not_be_written_ends_the_host() -> None:
    """A new process goes on from the last offset that is safe; what is committed beside it would be lost."""
    clock = VirtualClock()
    backend = MemoryBackend(clock)
    await backend.log.create(TOPIC, 1)
    await backend.log.append(TOPIC, [start()])

    async def join() -> Any:
        consumer = await backend.log.consumer(TOPIC, "tracker", "one")

        async def commit(_: CommitBatch) -> None:
            raise ChangelogError("not written", where="changelog")

        consumer.commit = commit  # type: ignore[method-assign] - a changelog that takes no record
        return consumer

    host = TrackerHost(definition(HOUR_S), backend.log, backend.states, clock, name="one", join=join)
    with pytest.raises(ChangelogError):
        await host.run()


async def test_a_state_that_cannot_be_read_is_reported_with_its_key_and_worked_once_it_is_put_right() -> None:
    """Nothing is decided from it, and nothing behind it is lost."""
    async with running_harness() as harness:
        harness.start()
        await harness.publish(start())
        await harness.stop()
        (row,) = (await harness.backend.states.load(TOPIC, 0, ["o-1"])).values()
        harness.backend.states.save([replace(row, state=b"\xc1")])
        host = harness.start("two")
        await harness.publish(start(id="again"))
        (report,) = host.dependencies.all()
        assert "the state of key 'o-1' cannot be read" in report.cause
        assert "rebuild" in report.remedy
        harness.backend.states.save([row])
        await harness.clock.advance(10)
        assert host.dependencies.all() == []
        assert await status(harness) == "compensating"
