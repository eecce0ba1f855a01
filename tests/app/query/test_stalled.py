"""Runs that stand still: measured by the past of their own step; orphans; due times. No deadline is declared for it."""

from __future__ import annotations

import pytest

from choreo.app.query.durations import SAMPLES_MIN, durations, usual
from choreo.app.query.stalled import Stalled, places
from choreo.app.tracking.views import detail_of
from choreo.core.errors import NotFoundError
from choreo.core.partition import partition_of
from choreo.ports.read_model import Filter
from choreo.testing.clock import VirtualClock
from tests.app.harness import PARTITIONS, PaymentCharged, ShipmentPicked, Shop, StockReserved


async def passed(shop: Shop, duration_s: float) -> None:
    """Let time pass."""
    assert isinstance(shop.clock, VirtualClock)
    await shop.clock.advance(duration_s)


@pytest.fixture
async def shop() -> Shop:
    """Return a shop of 30 orders that were picked two minutes after they were charged."""
    shop = await Shop().open()
    keys = [f"k-{number}" for number in range(SAMPLES_MIN + 10)]
    for key in keys:
        await shop.start(key)
        await passed(shop, 1)
        await shop.outcome("stock.reserve", StockReserved(order_id=key))
        await shop.outcome("payment.charge", PaymentCharged(order_id=key))
    await passed(shop, 120)
    for key in keys:
        await shop.publisher.publish("order", ShipmentPicked(order_id=key))
    await shop.track()
    return shop


def stands(found: Stalled) -> dict[str, str]:
    """Return the place of each stalled run, by key."""
    return {run.key: run.place for run in found.runs}


async def test_a_run_that_waits_longer_than_others_did(shop: Shop) -> None:
    """camunda#57295: the event came under another name, no time-out is near, and the list has the run all the same."""
    await shop.charged("late")
    assert stands(await shop.queries.stalled("order")) == {}
    await passed(shop, 160)
    found = await shop.queries.stalled("order")
    late = next(run for run in found.runs if run.key == "late")
    assert late.place == "wait.ShipmentPicked"
    assert late.age_ms == 160_000
    assert 120_000 <= late.p99_ms < 160_000
    assert late.limit_ms == late.p99_ms
    assert late.ratio == pytest.approx(160_000 / late.p99_ms)


async def test_a_step_is_measured_by_its_own_past(shop: Shop) -> None:
    """A step that takes a second is stalled after half a minute; the furthest beyond its measure stands first."""
    await shop.start("slow")
    await passed(shop, 20)
    assert "slow" not in stands(await shop.queries.stalled("order"))
    await passed(shop, 20)
    found = await shop.queries.stalled("order", 100)
    assert stands(found)["slow"] == "stock.reserve"
    slow = next(run for run in found.runs if run.key == "slow")
    assert (slow.p99_ms, slow.limit_ms) == (1_000, 30_000)
    assert [run.ratio for run in found.runs] == sorted((run.ratio for run in found.runs), reverse=True)


async def test_without_a_measure_the_step_has_the_time_of_its_attempts() -> None:
    """A fresh flow has no past: all attempts and a minute for a step, a day for a wait."""
    shop = await Shop().open()
    await shop.start("o-1")
    await shop.charged("o-2")
    limits = places(shop.table)
    await passed(shop, (limits["stock.reserve"] - 1_000) / 1_000)
    assert stands(await shop.queries.stalled("order")) == {}
    await passed(shop, 2)
    assert stands(await shop.queries.stalled("order")) == {"o-1": "stock.reserve"}
    await passed(shop, 86_400)
    assert stands(await shop.queries.stalled("order"))["o-2"] == "wait.ShipmentPicked"


async def test_paused_and_ended_runs_stand_nowhere(shop: Shop) -> None:
    """A person holds the one, and the other has nothing to do."""
    await shop.start("held")
    await shop.start("over")
    await shop.operator.pause("order", "held")
    await shop.operator.terminate("order", "over", reason="by mistake")
    await shop.track()
    await passed(shop, 90_000)
    assert not {"held", "over"} & set(stands(await shop.queries.stalled("order", 100)))


async def test_an_undo_that_takes_too_long(shop: Shop) -> None:
    """It stands in the list under the name of the step."""
    await shop.charged("undone")
    await shop.operator.cancel("order", "undone")
    await shop.track()
    await passed(shop, 86_000)
    assert stands(await shop.queries.stalled("order", 100))["undone"] == "undo payment.charge"


async def test_events_without_a_run(shop: Shop) -> None:
    """They are orphans once they are older than some seconds, until a run of their key is known."""
    await shop.publisher.publish("order", ShipmentPicked(order_id="nobody"), allow_early=True)
    await shop.publisher.publish("order", ShipmentPicked(order_id="soon"), allow_early=True)
    assert (await shop.queries.stalled("order")).orphans == []
    await passed(shop, 10)
    found = (await shop.queries.stalled("order")).orphans
    assert {each.key for each in found} == {"nobody", "soon"}
    await shop.start("soon")
    (orphan,) = (await shop.queries.stalled("order")).orphans
    assert (orphan.type, orphan.key) == ("ShipmentPicked", "nobody")
    assert orphan.position.startswith(f"order/{partition_of('nobody', PARTITIONS)}/")


async def test_runs_held_up_by_a_partition(shop: Shop) -> None:
    """A lagging partition leads to its runs: those that stand in a step of the group, in this partition."""
    await shop.start("o-1")
    partition = partition_of("o-1", PARTITIONS)
    assert [run.key for run in await shop.queries.held_up("order", "stock", partition)] == ["o-1"]
    assert await shop.queries.held_up("order", "stock", (partition + 1) % PARTITIONS) == []
    assert await shop.queries.held_up("order", "payment", partition) == []
    with pytest.raises(NotFoundError, match="there is no group 'stok'"):
        await shop.queries.held_up("order", "stok", partition)


async def test_runs_by_their_next_due_time() -> None:
    """The earliest first, page by page, each with the timer that is due; a passed one is overdue."""
    shop = await Shop().open()
    for number in range(3):
        await shop.charged(f"o-{number}")
        await passed(shop, 60)
    first = await shop.queries.timers("order", 2)
    assert [row.key for row in first.items] == ["o-0", "o-1"]
    assert first.items[0].about == "the timeout of the wait for ShipmentPicked"
    last = await shop.queries.timers("order", 2, first.cursor)
    assert [(row.key, last.cursor) for row in last.items] == [("o-2", "")]
    assert await shop.queries.overdue("order") == []
    await passed(shop, 86_400 - 120)
    found = await shop.queries.stalled("order")
    assert [row.key for row in found.overdue] == ["o-0"]
    assert found.overdue[0].late_ms == 60_000
    with pytest.raises(NotFoundError, match="not a cursor"):
        await shop.queries.timers("order", 2, "x")


async def test_the_index_of_due_times_is_that_of_the_detail() -> None:
    """Each row's due time is the next timer of its run, in every status."""
    shop = await Shop().open()
    await shop.start("o-1")
    await shop.charged("o-2")
    await shop.completed("o-3")
    await shop.stuck("o-4")
    await shop.charged("o-5")
    await shop.operator.cancel("order", "o-5")
    await shop.start("o-6")
    await shop.operator.pause("order", "o-6")
    await shop.track()
    rows = (await shop.backend.read_model.instances(Filter(flow="order"), 100)).items
    assert len(rows) == 6
    assert [row.due_ms for row in rows] == [detail_of(row).next_due_ms for row in rows]
    assert len({row.due_ms for row in rows}) == 3


async def test_the_age_of_the_oldest_by_step(shop: Shop) -> None:
    """The numbers for metrics: only places in which a run stands."""
    await shop.charged("o-1")
    await passed(shop, 30)
    ages = await shop.queries.oldest_ages("order")
    assert ages["wait.ShipmentPicked"] == 30_000
    assert "stock.reserve" not in ages


def test_few_durations_are_no_measure() -> None:
    """The 99th percentile of five is the longest of five."""
    assert usual([1] * (SAMPLES_MIN - 1)) is None
    assert usual([1] * SAMPLES_MIN) is not None
    many = usual([*range(1_000)])
    assert many is not None
    assert (many.median_ms, many.p99_ms) == (500, 990)


async def test_durations_of_the_log(shop: Shop) -> None:
    """Steps by their trigger, waits by the event that opened them."""
    records = await shop.backend.log.read("order", 0, 0, 10_000)
    found = durations(shop.table, records)
    assert set(found["stock.reserve"]) == {1_000}
    assert set(found["payment.charge"]) == {0}
    assert all(duration_ms >= 120_000 for duration_ms in found["wait.ShipmentPicked"])
