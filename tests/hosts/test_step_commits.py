"""A step host works on while what it has concluded is being committed, and no promise hangs on the moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from choreo import StepContext
from choreo.core import facts
from choreo.core.errors import LeaseLostError, StorageError
from choreo.hosts.step import StepHost
from tests.hosts.stage import Placed, Stage, both_homes, charged, payment, staged


class _Sluice:
    """Commits of outcomes wait here until it is opened; `broken` ones fail then, once each."""

    def __init__(self, stage: Stage) -> None:
        self.open = asyncio.Event()
        self.batches: list[list[str]] = []
        """Keys of each commit that came."""
        self.broken = 0
        self._commit = stage.home._groups.commit
        stage.home._groups.commit = self

    async def __call__(self, ticket: Any, epochs: Any, work: Any) -> Any:
        """A commit."""
        if work.outcomes:
            self.batches.append([outcome.events[0].key for outcome in work.outcomes])
            await self.open.wait()
            if self.broken:
                self.broken -= 1
                raise StorageError("disk full", where="order", remedy="Free some space.")
        return await self._commit(ticket, epochs, work)


@asynccontextmanager
async def _committing(calls: _Calls, home: str = "memory") -> AsyncIterator[tuple[Stage, _Sluice, StepHost]]:
    """A host whose first commit, that of o-1, waits at the sluice."""
    async with staged(payment(calls), started=False, home=home) as stage:
        sluice = _Sluice(stage)
        host = stage.host()
        await stage.publish(Placed(order_id="o-1"))
        await stage.until(lambda: sluice.batches == [["o-1"]])
        yield stage, sluice, host


class _Calls:
    """A handler that says which keys it was called for."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def __call__(self, event: Placed, ctx: StepContext) -> Any:
        """An attempt."""
        self.keys.append(event.order_id)
        return await charged(event, ctx)


@both_homes
async def test_other_keys_are_handled_while_a_commit_is_under_way(home: str) -> None:
    """Their outcomes go together with the next one; never are two commits under way."""
    calls = _Calls()
    async with _committing(calls, home) as (stage, sluice, _):
        await stage.publish(Placed(order_id="o-2"))
        await stage.publish(Placed(order_id="o-3"))
        await stage.until(lambda: len(calls.keys) == 3)
        assert sluice.batches == [["o-1"]]
        sluice.open.set()
        await stage.said("Charged", 3)
        await stage.caught_up()
    assert sluice.batches == [["o-1"], ["o-2", "o-3"]]
    assert calls.keys == ["o-1", "o-2", "o-3"]


async def test_the_next_event_of_a_key_waits_until_the_outcome_before_it_is_committed() -> None:
    """Order per key and step: the next attempt finds recorded what came of the one before."""
    calls = _Calls()
    async with staged(payment(calls), started=False) as stage:
        sluice = _Sluice(stage)
        stage.host()
        await stage.publish(Placed(order_id="o-1", number=1), Placed(order_id="o-1", number=2), Placed(order_id="o-2"))
        await stage.until(lambda: len(calls.keys) == 2)
        await stage.publish(Placed(order_id="o-3"))
        await stage.until(lambda: len(calls.keys) == 3)
        assert calls.keys == ["o-1", "o-2", "o-3"]
        sluice.open.set()
        await stage.said("Charged", 4)
    assert calls.keys == ["o-1", "o-2", "o-3", "o-1"]


@both_homes
async def test_what_could_not_be_committed_goes_with_what_was_concluded_meanwhile(home: str) -> None:
    """In its order, and no handler is called a second time."""
    calls = _Calls()
    async with _committing(calls, home) as (stage, sluice, _):
        sluice.broken = 1
        await stage.publish(Placed(order_id="o-2"))
        await stage.until(lambda: len(calls.keys) == 2)
        sluice.open.set()
        while len(sluice.batches) < 2:
            await stage.clock.advance(0.1)
        assert {event.key for event in await stage.said("Charged", 2)} == {"o-1", "o-2"}
        await stage.caught_up()
    assert sluice.batches == [["o-1"], ["o-1", "o-2"]]
    assert calls.keys == ["o-1", "o-2"]


@both_homes
async def test_what_is_being_committed_when_its_partition_goes_is_found_by_the_new_owner(home: str) -> None:
    """Its commit may be refused or not: each outcome stands in the log under one id, and no handler is called again."""
    calls = _Calls()
    async with staged(payment(calls), partitions=2, started=False, home=home) as stage:
        sluice = _Sluice(stage)
        stage.host()
        await stage.publish(*(Placed(order_id=f"o-{n}") for n in range(8)))
        await stage.until(lambda: len(calls.keys) == 8 and bool(sluice.batches))
        second = stage.host("two")
        await stage.until(lambda: bool(second.polled_ms))
        assert not [record for record in await stage.log() if record.event.type == "Charged"]
        sluice.open.set()
        await stage.said("Charged", 8)
        await stage.caught_up()
        assert len({event.id for event in await stage.said("Charged", 8)}) == 8
    assert sorted(calls.keys) == [f"o-{n}" for n in range(8)]


async def test_a_stop_waits_for_the_commit_that_is_under_way() -> None:
    """Nothing that was concluded is left to be found by others."""
    calls = _Calls()
    async with _committing(calls) as (stage, sluice, host):
        stopping = asyncio.create_task(host.stop())
        await stage.publish(Placed(order_id="o-2"))
        sluice.open.set()
        await stopping
        assert (await stage.one("Charged")).key == "o-1"
        assert await stage.home.log.committed("order", "payment") == {0: 1}


async def test_a_turn_that_is_read_while_a_commit_is_under_way_is_remembered_by_the_next() -> None:
    """The mark of a run is written before the position behind it, by whichever commit takes that position."""
    async with _committing(_Calls()) as (stage, sluice, _):
        placed = (await stage.log())[0].event
        await stage.publish(stage.fact(placed, facts.FLOW_TURNED))
        sluice.open.set()
        await stage.one("Charged")
        await stage.caught_up()
        assert (await stage.home.inbox("payment").marks([placed.run]))[placed.run].turned


async def test_a_host_whose_commit_hangs_shows_no_sign_of_progress() -> None:
    """It polls and works on, but nothing of it becomes true: whoever watches it shall know."""
    async with _committing(_Calls()) as (stage, sluice, host):
        began_ms = stage.clock.now_ms()
        for _ in range(20):
            await stage.clock.advance(1)
        assert host.polled_ms == began_ms
        sluice.open.set()
        await stage.caught_up()
        while host.polled_ms == began_ms:
            await stage.clock.advance(0.25)


async def test_a_commit_that_hangs_is_called_off_by_who_leaves() -> None:
    """A member that is made anew does not wait for ever; what is said again has its id, no handler is called again."""
    calls = _Calls()
    async with _committing(calls) as (stage, _, host):
        assert host._member is not None
        host._member.poll = _standing_still  # type: ignore[method-assign]
        began_ms = host.polled_ms
        while len(await stage.log()) < 2:
            await stage.clock.advance(1)
        assert stage.clock.now_ms() >= began_ms + 30_000
        await stage.caught_up()
        assert len({event.id for event in await stage.said("Charged")}) == 1
    assert calls.keys == ["o-1"]


async def _standing_still(limit: int, timeout_s: float) -> Any:
    raise LeaseLostError("records stand in the log, and none has come", where="order")
