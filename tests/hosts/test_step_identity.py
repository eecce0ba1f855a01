"""Foreign producers that number their own events: a host works each source's, once."""

from __future__ import annotations

from choreo.core import facts, ids
from choreo.core.fold import identified
from tests.hosts.stage import Placed, payment, staged


async def test_two_sources_that_number_from_one_are_both_worked_and_each_once() -> None:
    """Also where one number is used for two keys: a run and its slot are named by source, number and key."""
    async with staged(payment()) as stage:
        placed = [
            stage.event(Placed(order_id=key), id="1", run="", source=source)
            for source, key in (("shop-a", "o-1"), ("shop-b", "o-1"), ("shop-a", "o-2"))
        ]
        await stage.publish(*placed, placed[0])
        await stage.said("Charged", 3)
        await stage.caught_up()
        charged = {event.id: event for event in await stage.said("Charged", 3)}.values()
        assert [event.attempt for event in charged] == [1, 1, 1]
        starts = [ids.of_source(event.source, "1", event.key) for event in placed]
        assert sorted(event.run for event in charged) == sorted(starts)


async def test_what_a_host_ignores_and_skips_names_the_id_that_the_tracker_knows() -> None:
    """A turn of one source's run stops that one."""
    async with staged(payment()) as stage:
        placed = stage.event(Placed(order_id="o-1"), id="1", run="", source="shop-a")
        other = stage.event(Placed(order_id="o-1"), id="1", run="", source="shop-b")
        run = ids.of_source("shop-a", "1", "o-1")
        turned = stage.fact(other, facts.FLOW_TURNED, id="turned")
        await stage.publish(type(turned)("turned", facts.FLOW_TURNED, "o-1", "order", run=run), placed, other)
        (charged,) = await stage.said("Charged", 1)
        await stage.caught_up()
        assert charged.run == identified((await stage.log())[2]).id
