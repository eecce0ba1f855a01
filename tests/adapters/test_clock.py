"""A time of day that is set back, or ahead for a moment: leases end, timers come, and no stamp stands still."""

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from choreo.adapters.clock import LEAP_MS, TRUST_MS, SteadyClock, SystemClock
from choreo.adapters.memory import MemoryBackend
from choreo.adapters.sqlite import SqliteBackend, database
from choreo.adapters.sqlite import reboot_detection as boot_detection
from choreo.ports.inbox import AttemptGrant, AttemptLease, AttemptRequest
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import event

HOUR_S, DAY_S = 3_600, 86_400
LEASE_S = 3.0
CHARGE = AttemptRequest("t-1", "charge", "r-1")


@pytest.fixture(params=["memory", "sqlite"])
async def backend(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[MemoryBackend | SqliteBackend, VirtualClock]]:
    """Yield each embedded backend, on a clock that is set."""
    clock = VirtualClock()
    opened: MemoryBackend | SqliteBackend
    if request.param == "memory":
        opened = MemoryBackend(clock, lease_s=LEASE_S)
    else:
        opened = await SqliteBackend.open(tmp_path / "choreo.db", clock=clock, lease_s=LEASE_S)
    await opened.log.create("order", 1)
    yield opened, clock
    await opened.close()


@pytest.mark.parametrize("set_back_s", [HOUR_S, DAY_S, -HOUR_S, -DAY_S])
async def test_partitions_of_the_dead_are_free_after_a_lease_whatever_the_clock(
    backend: tuple[MemoryBackend | SqliteBackend, VirtualClock], set_back_s: float
) -> None:
    """And a consumer that lives keeps its own: it renews by the time that has passed."""
    stores, clock = backend
    dead, successor = [await stores.log.consumer("order", "payment", name) for name in ("dead", "heir")]
    assert len((await dead.poll(10, 0)).assigned) == 1
    assert (await successor.poll(10, 0)).assigned == []
    clock.set_back(set_back_s)
    assert (await successor.poll(10, 0)).assigned == []
    await clock.advance(LEASE_S)
    assert len((await successor.poll(10, 0)).assigned) == 1


@pytest.mark.parametrize("set_back_s", [HOUR_S, -HOUR_S])
async def test_attempts_of_the_dead_are_free_after_a_lease_whatever_the_clock(
    backend: tuple[MemoryBackend | SqliteBackend, VirtualClock], set_back_s: float
) -> None:
    """Not sooner either: the handler may still run."""
    stores, clock = backend
    inbox = stores.inbox("payment")
    await inbox.begin([CHARGE], AttemptLease("dead", 3_000))
    clock.set_back(set_back_s)
    assert await inbox.begin([CHARGE], AttemptLease("heir", 3_000)) == [AttemptGrant(0, held_ms=3_000)]
    await clock.advance(LEASE_S)
    assert await inbox.begin([CHARGE], AttemptLease("heir", 3_000)) == [AttemptGrant(2)]


async def test_a_poll_ends_in_its_time_although_the_clock_is_set_back(
    backend: tuple[MemoryBackend | SqliteBackend, VirtualClock],
) -> None:
    """It would wait for an hour otherwise, without a report."""
    stores, clock = backend
    consumer = await stores.log.consumer("order", "payment", "a")
    await consumer.poll(10, 0)
    clock.set_back(HOUR_S)
    assert (await consumer.poll(10, 0)).records == []


async def test_after_another_boot_nobody_holds_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time since the start begins anew: else a lease of the former boot would last as long as that boot did."""
    clock = VirtualClock()
    monkeypatch.setattr(database.reboot_detection, "boot_of_machine", lambda: 1)
    before = await SqliteBackend.open(tmp_path / "choreo.db", clock=clock, lease_s=60)
    await before.log.create("order", 1)
    dead = await before.log.consumer("order", "payment", "dead")
    await dead.poll(10, 0)
    await before.inbox("payment").begin([CHARGE], AttemptLease("dead", 60_000))
    before.database.close()
    monkeypatch.setattr(boot_detection, "boot_of_machine", lambda: 2)
    after = await SqliteBackend.open(tmp_path / "choreo.db", clock=clock, lease_s=60)
    successor = await after.log.consumer("order", "payment", "heir")
    assert len((await successor.poll(10, 0)).assigned) == 1
    assert await after.inbox("payment").begin([CHARGE], AttemptLease("heir", 60_000)) == [AttemptGrant(2)]
    await after.close()


async def test_a_steady_clock_passes_over_a_leap_and_believes_one_that_lasts() -> None:
    """A moment of a wrong day makes no timer a day late; a correction holds after a minute."""
    machine = VirtualClock()
    steady, began_ms = SteadyClock(machine), machine.now_ms()
    machine.set_back(-DAY_S)
    await machine.advance(0.4)
    assert steady.now_ms() == began_ms + 400
    machine.set_back(DAY_S)
    await machine.advance(0.6)
    assert steady.now_ms() == began_ms + 1_000
    machine.set_back(-HOUR_S)
    assert steady.now_ms() == began_ms + 1_000
    await machine.advance(TRUST_MS / 1_000)
    assert steady.now_ms() == machine.now_ms()
    machine.set_back(-LEAP_MS / 1_000)
    assert steady.now_ms() == machine.now_ms()


async def test_a_steady_clock_never_goes_back_and_never_stands_still() -> None:
    """Set back an hour it runs a tenth slower until the time of day has caught up."""
    machine = VirtualClock()
    steady, began_ms = SteadyClock(machine), machine.now_ms()
    machine.set_back(HOUR_S)
    seen = [steady.now_ms()]
    for _ in range(100):
        await machine.advance(0.001)
        seen.append(steady.now_ms())
    assert seen == sorted(seen)
    assert seen[-1] == began_ms + 90
    await machine.advance(11 * HOUR_S)
    assert steady.now_ms() == machine.now_ms()


async def test_the_log_of_a_machine_that_was_a_day_ahead_goes_on_from_there(tmp_path: Path) -> None:
    """A process that starts later learns it from the log, one that runs by its check: no stamp stands still."""
    machine = VirtualClock()
    running = SteadyClock(machine)
    backend = await SqliteBackend.open(tmp_path / "choreo.db", clock=running, observe=running.observe)
    await backend.log.create("order", 1)
    machine.set_back(-DAY_S)
    wrong = SteadyClock(machine)
    other = await SqliteBackend.open(tmp_path / "choreo.db", clock=wrong, observe=wrong.observe)
    await other.log.append("order", [event("e-1")])
    await other.close()
    machine.set_back(DAY_S)
    await backend.check()
    later = SteadyClock(machine)
    third = await SqliteBackend.open(tmp_path / "choreo.db", clock=later, observe=later.observe)
    await machine.advance(10)
    await backend.log.append("order", [event("e-2")])
    await machine.advance(10)
    await third.log.append("order", [event("e-3")])
    stamps = [record.stamp_ms for record in await backend.log.read("order", 0, 0, 10)]
    assert [later - sooner for sooner, later in pairwise(stamps)] == [9_000, 9_000]
    await third.close()
    await backend.close()


def test_the_time_since_the_start_is_the_machines() -> None:
    """It only grows, and starts near the boot."""
    clock = SystemClock()
    assert 0 < clock.elapsed_ms() <= clock.elapsed_ms() < clock.now_ms()
