"""Results of a step host for a partition that another host owns by now: none is lost."""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core import facts
from tests.hosts.harness import Placed, charged, payment, running_harness


async def test_a_dead_letter_that_comes_too_late_is_kept_all_the_same() -> None:
    """Its failure is published too, and an owner that finds the failure does not handle the record again."""
    async with running_harness(payment(charged), started=False) as harness:
        taken = harness.faults.act(
            "consumer.commit", lambda: harness.backend.revoke("payment"), when=lambda work: work.dead_letters
        )
        garbage = harness.event(Placed(order_id="o-1"))
        await harness.publish(replace(garbage, data=b"garbage"))
        harness.host()
        other = await harness.backend.log.consumer("order", "payment", "other")
        while len(await harness.log()) < 2:
            await harness.clock.advance(0.25)
        failed, dead_letters = (
            await harness.published(facts.STEP_FAILED),
            await harness.backend.dead_letters.list("order"),
        )
        await other.close()
    assert taken.is_over
    assert [event.causation for event in failed] == [garbage.id]
    assert [dead_letter.record.event.id for dead_letter in dead_letters] == [garbage.id]
