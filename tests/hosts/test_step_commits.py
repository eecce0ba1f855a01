"""A step host works on while what it has concluded is being committed, and no promise hangs on the moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from choreo import StepContext
from choreo.core import facts
from choreo.core.errors import LeaseLostError, StorageError
from choreo.hosts.step.host import StepHost
from choreo.ports.log import CommitBatch
from tests.hosts.harness import Harness, Placed, both_backends, charged, payment, running_harness


class _Sluice:
    """Commits of outcomes wait here until it is opened."""

    def __init__(self, harness: Harness) -> None:
        self._seen = harness.faults.observe("consumer.commit", when=_has_outcomes)
        self._held = harness.faults.hold("consumer.commit", when=_has_outcomes)

    @property
    def batches(self) -> list[list[str]]:
        """Return keys of each commit that came."""
        return [[outcome.events[0].key for outcome in work.outcomes] for (work,) in self._seen.calls]

    def open(self, error: Exception | None = None) -> None:
        """Let commits go on; one that waits may fail."""
        self._held.lift(error)


def _has_outcomes(work: CommitBatch) -> bool:
    return bool(work.outcomes)


@asynccontextmanager
async def _committing(calls: _Calls, backend: str = "memory") -> AsyncIterator[tuple[Harness, _Sluice, StepHost]]:
    """Yield a host whose first commit, that of o-1, waits at the sluice."""
    async with running_harness(payment(calls), started=False, backend=backend) as harness:
        sluice = _Sluice(harness)
        host = harness.host()
        await harness.publish(Placed(order_id="o-1"))
        await harness.until(lambda: sluice.batches == [["o-1"]])
        yield harness, sluice, host


class _Calls:
    """A handler that notes the keys of its calls."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def __call__(self, event: Placed, ctx: StepContext) -> Any:
        """Handle an attempt."""
        self.keys.append(event.order_id)
        return await charged(event, ctx)


@both_backends
async def test_other_keys_are_handled_while_a_commit_is_under_way(backend: str) -> None:
    """Their outcomes go together with the next one; never are two commits under way."""
    calls = _Calls()
    async with _committing(calls, backend) as (harness, sluice, _):
        await harness.publish(Placed(order_id="o-2"))
        await harness.publish(Placed(order_id="o-3"))
        await harness.until(lambda: len(calls.keys) == 3)
        assert sluice.batches == [["o-1"]]
        sluice.open()
        await harness.published("Charged", 3)
        await harness.caught_up()
    assert sluice.batches == [["o-1"], ["o-2", "o-3"]]
    assert calls.keys == ["o-1", "o-2", "o-3"]


async def test_the_next_event_of_a_key_waits_until_the_outcome_before_it_is_committed() -> None:
    """Order per key and step: the next attempt finds recorded what came of the one before."""
    calls = _Calls()
    async with running_harness(payment(calls), started=False) as harness:
        sluice = _Sluice(harness)
        harness.host()
        await harness.publish(
            Placed(order_id="o-1", number=1), Placed(order_id="o-1", number=2), Placed(order_id="o-2")
        )
        await harness.until(lambda: len(calls.keys) == 2)
        await harness.publish(Placed(order_id="o-3"))
        await harness.until(lambda: len(calls.keys) == 3)
        assert calls.keys == ["o-1", "o-2", "o-3"]
        sluice.open()
        await harness.published("Charged", 4)
    assert calls.keys == ["o-1", "o-2", "o-3", "o-1"]


@both_backends
async def test_what_could_not_be_committed_goes_with_what_was_concluded_meanwhile(backend: str) -> None:
    """In its order, and no handler is called a second time."""
    calls = _Calls()
    async with _committing(calls, backend) as (harness, sluice, _):
        await harness.publish(Placed(order_id="o-2"))
        await harness.until(lambda: len(calls.keys) == 2)
        sluice.open(StorageError("disk full", where="order", remedy="Free some space."))
        while len(sluice.batches) < 2:
            await harness.clock.advance(0.1)
        assert {event.key for event in await harness.published("Charged", 2)} == {"o-1", "o-2"}
        await harness.caught_up()
    assert sluice.batches == [["o-1"], ["o-1", "o-2"]]
    assert calls.keys == ["o-1", "o-2"]


@both_backends
async def test_what_is_being_committed_when_its_partition_goes_is_found_by_the_new_owner(backend: str) -> None:
    """Its commit may be refused or not: each outcome stands in the log under one id, and no handler is called again."""
    calls = _Calls()
    async with running_harness(payment(calls), partitions=2, started=False, backend=backend) as harness:
        sluice = _Sluice(harness)
        harness.host()
        await harness.publish(*(Placed(order_id=f"o-{n}") for n in range(8)))
        await harness.until(lambda: len(calls.keys) == 8 and bool(sluice.batches))
        second = harness.host("two")
        await harness.until(lambda: bool(second.polled_ms))
        assert not [record for record in await harness.log() if record.event.type == "Charged"]
        sluice.open()
        await harness.published("Charged", 8)
        await harness.caught_up()
        assert len({event.id for event in await harness.published("Charged", 8)}) == 8
    assert sorted(calls.keys) == [f"o-{n}" for n in range(8)]


async def test_a_revoked_partition_waits_for_the_commit_that_is_under_way() -> None:
    """Its next owner finds the outcomes of this commit in the inbox, and their events in the log."""
    async with running_harness(payment(), partitions=2, started=False) as harness:
        sluice = _Sluice(harness)
        host = harness.host()
        await harness.publish(Placed(order_id="o-1"))
        await harness.until(lambda: bool(sluice.batches))
        harness.host("two")
        for _ in range(8):
            await harness.clock.advance(0.25)
        owned = host.partitions
        sluice.open()
        for _ in range(8):
            await harness.clock.advance(0.25)
        assert (owned, len(host.partitions)) == ([0, 1], 1)


async def test_a_stop_waits_for_the_commit_that_is_under_way() -> None:
    """Nothing that was concluded is left to be found by others."""
    calls = _Calls()
    async with _committing(calls) as (harness, sluice, host):
        stopping = asyncio.create_task(host.stop())
        await harness.publish(Placed(order_id="o-2"))
        sluice.open()
        await stopping
        assert (await harness.one("Charged")).key == "o-1"
        assert await harness.backend.log.committed("order", "payment") == {0: 1}


async def test_a_turn_that_is_read_while_a_commit_is_under_way_is_remembered_by_the_next() -> None:
    """The mark of a run is written before the position behind it, by whichever commit takes that position."""
    async with _committing(_Calls()) as (harness, sluice, _):
        placed = (await harness.log())[0].event
        await harness.publish(harness.fact(placed, facts.COMPENSATION_STARTED))
        sluice.open()
        await harness.one("Charged")
        await harness.caught_up()
        assert (await harness.backend.inbox("payment").marks([placed.run]))[placed.run].compensating


async def test_a_host_whose_commit_hangs_shows_no_sign_of_progress() -> None:
    """It polls and works on, but nothing of it is committed: its reports show that."""
    async with _committing(_Calls()) as (harness, sluice, host):
        began_ms = harness.clock.now_ms()
        for _ in range(20):
            await harness.clock.advance(1)
        assert host.polled_ms == began_ms
        sluice.open()
        await harness.caught_up()
        while host.polled_ms == began_ms:
            await harness.clock.advance(0.25)


async def test_a_commit_that_hangs_is_called_off_by_who_leaves() -> None:
    """A recreated consumer does not wait for ever; repeated outcomes keep their ids, no handler is called again."""
    calls = _Calls()
    async with _committing(calls) as (harness, _, host):
        error = LeaseLostError("records stand in the log, and none has come", where="order")
        harness.faults.fail("consumer.poll", error)
        began_ms = host.polled_ms
        while len(await harness.log()) < 2:
            await harness.clock.advance(1)
        assert harness.clock.now_ms() >= began_ms + 30_000
        await harness.caught_up()
        assert len({event.id for event in await harness.published("Charged")}) == 1
    assert calls.keys == ["o-1"]
