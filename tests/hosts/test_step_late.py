"""What a step host concludes for a partition that has become another's: nothing of it is lost."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from choreo.adapters.refusals import lease_lost
from choreo.core import facts
from tests.hosts.stage import Placed, charged, payment, staged


async def test_a_dead_letter_that_comes_too_late_is_kept_all_the_same() -> None:
    """Its failure is said too, and an owner that finds that does not look at the record again."""
    async with staged(payment(charged), started=False) as stage:
        groups, taken = stage.home._groups, False
        real_commit = groups.commit

        async def commit(ticket: Any, epochs: Any, work: Any) -> Any:
            nonlocal taken
            if work.letters and not taken:
                taken = True
                rows = groups._groups["order", "payment"]
                rows.leases[0] = rows.leases[0]._replace(owner="other", epoch=groups._next_epoch())
                raise lease_lost(ticket, [0])
            return await real_commit(ticket, epochs, work)

        groups.commit = commit  # type: ignore[method-assign]
        garbage = stage.event(Placed(order_id="o-1"))
        await stage.publish(replace(garbage, data=b"garbage"))
        stage.host()
        other = await stage.home.log.member("order", "payment", "other")
        while len(await stage.log()) < 2:
            await stage.clock.advance(0.25)
        failed, letters = await stage.said(facts.STEP_FAILED), await stage.home.dead_letters.list("order")
        await other.close()
    assert taken
    assert [event.causation for event in failed] == [garbage.id]
    assert [letter.record.event.id for letter in letters] == [garbage.id]
