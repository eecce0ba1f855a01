"""A host of a build takes the runs of that build alone; its group has the others' offsets, too."""

from __future__ import annotations

from msgspec.structs import replace

from choreo import Service, StepContext
from choreo.core import facts
from tests.hosts.harness import TOPIC, Cancelled, Harness, Placed, payment, running_harness


async def caught_up(harness: Harness, group: str) -> None:
    """Wait until the group has committed everything in the log."""
    while await harness.backend.log.committed(TOPIC, group) != {0: await harness.backend.log.end(TOPIC, 0)}:
        await harness.clock.advance(0.25)


async def test_a_run_is_charged_by_the_hosts_of_its_build() -> None:
    """Beside a run without a build, which the hosts without one take."""
    async with running_harness(payment(), started=False) as harness:
        blue, plain = harness.event(Placed(order_id="o-1"), build="blue"), harness.event(Placed(order_id="o-2"))
        await harness.publish(blue, plain)
        harness.host("green-1", build="green")
        await caught_up(harness, "payment@green")
        assert len(await harness.log()) == 2
        harness.host("blue-1", build="blue")
        charged = await harness.one("Charged")
        assert (charged.key, charged.build) == ("o-1", "blue")
        await caught_up(harness, "payment@blue")
        harness.host()
        assert [event.build for event in await harness.published("Charged", 2)] == ["blue", ""]


async def test_a_request_to_undo_reaches_the_hosts_of_the_run_s_build() -> None:
    """The others skip it."""
    async with running_harness(payment(), started=False) as harness:
        placed = harness.event(Placed(order_id="o-1"), build="blue")
        await harness.publish(placed, replace(harness.undo_request(placed), build="blue"))
        harness.host("green-1", build="green")
        await caught_up(harness, "payment@green")
        assert [record.event.type for record in await harness.log()] == ["Placed", facts.COMPENSATION_REQUESTED]
        harness.host("blue-1", build="blue")
        assert (await harness.one("Refunded")).build == "blue"


async def test_a_redrive_reaches_the_hosts_of_the_run_s_build() -> None:
    """Also of a foreign record, which names neither run nor build: its dead letter does."""
    mail, broken = Service("mail"), True

    @mail.step(on=Cancelled)
    async def tell(event: Cancelled, ctx: StepContext) -> None:
        if broken:
            raise TypeError("template missing")

    async with running_harness(mail, started=False) as harness:
        placed = harness.event(Placed(order_id="o-1"), build="blue")
        await harness.publish(placed, harness.event(Cancelled(order_id="o-1"), id="c-1"))
        harness.host("green-1", build="green")
        harness.host("blue-1", build="blue")
        while not await harness.dead_letters():
            await harness.clock.advance(60)
        (dead_letter,) = await harness.dead_letters()
        assert dead_letter.record.event.build == "blue"
        broken = False
        about = {"step": "mail.tell", "trigger": "c-1", "outcome": dead_letter.offset, "build": "blue"}
        await harness.publish(replace(harness.fact(placed, facts.REDRIVEN, **about), run=""))
        assert (await harness.one(facts.STEP_COMPLETED)).build == "blue"
        await caught_up(harness, "mail@green")
