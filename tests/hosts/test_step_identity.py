"""Foreign producers that number their own events: a host works each source's, once."""

from __future__ import annotations

from choreo.core import facts, ids
from choreo.core.identity import identified
from tests.hosts.harness import Charged, Placed, payment, running_harness


async def test_two_sources_that_number_from_one_are_both_worked_and_each_once() -> None:
    """Also where one number is used for two keys: a run and its slot are named by source, number and key."""
    async with running_harness(payment()) as harness:
        placed = [
            harness.event(Placed(order_id=key), id="1", run="", source=source)
            for source, key in (("shop-a", "o-1"), ("shop-b", "o-1"), ("shop-a", "o-2"))
        ]
        await harness.publish(*placed, placed[0])
        await harness.published("Charged", 3)
        await harness.caught_up()
        charged = {event.id: event for event in await harness.published("Charged", 3)}.values()
        assert [event.attempt for event in charged] == [1, 1, 1]
        starts = [ids.of_source(event.flow, event.source, "1", event.key) for event in placed]
        assert sorted(event.run for event in charged) == sorted(starts)


async def test_what_a_host_ignores_and_skips_names_the_id_that_the_tracker_knows() -> None:
    """A started compensation of one source's run stops that one."""
    async with running_harness(payment()) as harness:
        placed = harness.event(Placed(order_id="o-1"), id="1", run="", source="shop-a")
        other = harness.event(Placed(order_id="o-1"), id="1", run="", source="shop-b")
        run = ids.of_source("order", "shop-a", "1", "o-1")
        compensating = harness.fact(other, facts.COMPENSATION_STARTED, id="turned")
        await harness.publish(
            type(compensating)("turned", facts.COMPENSATION_STARTED, "o-1", "order", run=run), placed, other
        )
        (charged,) = await harness.published("Charged", 1)
        await harness.caught_up()
        assert charged.run == identified((await harness.log())[2]).id


async def test_an_outcome_of_another_source_is_known_by_the_number_that_its_trigger_has() -> None:
    """A second program charges an order by the number that the shop gave it: the host does not charge it again."""
    async with running_harness(payment(), started=False) as harness:
        placed = harness.event(Placed(order_id="o-1"), id="1", run="", source="shop-a")
        other = harness.event(Placed(order_id="o-2"), id="1", run="", source="shop-a")
        charged = harness.event(Charged(order_id="o-1"), id="c-1", run="", source="bank", causation="1")
        await harness.publish(placed, other, charged)
        harness.host()
        await harness.caught_up()
        keys = [record.event.key for record in await harness.log() if record.event.source == "choreo/payment"]
        assert keys == ["o-2"]
