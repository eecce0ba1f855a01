"""Storage that fails, records that nobody foresaw, dead letters that are redriven, and an inbox that stays small."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from choreo import Service, StepContext
from choreo.core import facts, ids
from choreo.core.errors import NotFoundError, StorageError
from choreo.ports.inbox import Begin, Begun, Hold
from tests.hosts.stage import Cancelled, Placed, Stage, both_homes, payment, staged


async def test_storage_that_fails_is_waited_for_and_nothing_is_lost() -> None:
    """Whatever fails, poll, begin or commit, is done again when storage is back."""
    async with staged(payment(), started=False) as stage:
        inbox, groups = stage.home.inbox("payment"), stage.home._groups
        real_begin, real_commit, failures = inbox.begin, groups.commit, {"begin": 2, "commit": 2}

        def fail(what: str) -> None:
            if failures[what]:
                failures[what] -= 1
                raise StorageError("disk full", where="order", remedy="Free some space.")

        async def begin(attempts: Sequence[Begin], hold: Hold | None = None) -> list[Begun]:
            fail("begin")
            return await real_begin(attempts, hold)

        async def commit(*arguments: Any) -> Any:
            fail("commit")
            return await real_commit(*arguments)

        inbox.begin, groups.commit = begin, commit  # type: ignore[method-assign]
        stage.host()
        await stage.publish(*(Placed(order_id=f"o-{n}") for n in range(10)))
        while sum(failures.values()) or len(await stage.log()) < 20:
            await stage.clock.advance(0.1)
        assert sorted(event.key for event in await stage.said("Charged", 10)) == [f"o-{n}" for n in range(10)]
        await stage.caught_up()


async def test_a_host_without_its_topic_ends_with_an_error_and_can_be_stopped() -> None:
    """Nobody waits for it for ever."""
    async with staged(payment(), started=False) as stage:
        stage.definition = msgspec.structs.replace(stage.definition, name="unmade")
        host = stage.host()
        with pytest.raises(NotFoundError, match="no such topic"):
            await stage.hosts.pop()[1]
        await host.stop()


async def test_a_log_that_is_away_at_the_start_is_waited_for() -> None:
    """Services may be started before the broker."""
    async with staged(payment(), started=False) as stage:
        away = _Away(stage, times=3)
        stage.host()
        await stage.publish(Placed(order_id="o-1"))
        while away.times or len(await stage.log()) < 2:
            await stage.clock.advance(0.1)


async def test_a_host_that_waits_for_its_log_can_be_stopped() -> None:
    """It has nothing in hand."""
    async with staged(payment(), started=False) as stage:
        away = _Away(stage, times=1_000_000)
        host = stage.host()
        while away.times == 1_000_000:
            await stage.clock.advance(0.1)
        stopping = asyncio.create_task(host.stop())
        while not stopping.done():
            await stage.clock.advance(0.1)


class _Away:
    """Makes the log refuse members so many times."""

    def __init__(self, stage: Stage, times: int) -> None:
        self.times = times
        self._member = stage.home.log.member
        stage.home.log.member = self

    async def __call__(self, *arguments: Any) -> Any:
        if self.times:
            self.times -= 1
            raise StorageError("no broker answers", where="order", remedy="Start one.")
        return await self._member(*arguments)


async def test_an_outcome_that_cannot_be_written_is_its_own_jobs_dead_letter() -> None:
    """Found in a batch by committing one by one; the others are not held up."""
    async with staged(payment(), started=False) as stage:
        groups = stage.home._groups
        real_commit = groups.commit

        async def commit(ticket: Any, epochs: Any, work: Any) -> Any:
            if any(outcome.events[0].key == "rotten" for outcome in work.outcomes):
                raise ValueError("this cannot be")
            return await real_commit(ticket, epochs, work)

        groups.commit = commit  # type: ignore[method-assign]
        stage.host()
        await stage.publish(Placed(order_id="o-1"), Placed(order_id="rotten"), Placed(order_id="o-2"))
        assert {event.key for event in await stage.said("Charged", 2)} == {"o-1", "o-2"}
        await stage.caught_up()
        (letter,) = await stage.letters()
        assert letter.cause == "what came of it cannot be written: this cannot be"


async def test_a_job_that_cannot_be_begun_is_its_own_dead_letter() -> None:
    """Found in a batch by beginning one by one."""
    async with staged(payment(), started=False) as stage:
        inbox = stage.home.inbox("payment")
        real_begin = inbox.begin

        async def begin(attempts: Sequence[Begin], hold: Hold | None = None) -> list[Begun]:
            if any(attempt.trigger == "rotten" for attempt in attempts):
                raise ValueError("this cannot be")
            return await real_begin(attempts, hold)

        inbox.begin = begin  # type: ignore[method-assign]
        stage.host()
        rotten = stage.event(Placed(order_id="o-2"), id="rotten", run="rotten")
        await stage.publish(Placed(order_id="o-1"), rotten, Placed(order_id="o-3"))
        assert {event.key for event in await stage.said("Charged", 2)} == {"o-1", "o-3"}
        assert (await stage.one(facts.STEP_FAILED)).reason == "set aside: ValueError: this cannot be"
        assert len(await stage.letters()) == 1


@both_homes
async def test_the_inbox_forgets_runs_that_ended_a_linger_ago(home: str) -> None:
    """Entries live until then, for twins that may still come."""
    async with staged(payment(), linger="2m", home=home) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed)
        await stage.one("Charged")
        await stage.publish(stage.fact(placed, facts.FLOW_COMPLETED))
        await stage.caught_up()
        key, inbox = (placed.id, "payment.charge"), stage.home.inbox("payment")
        await stage.clock.advance(110)
        assert await inbox.recorded([key])
        await stage.clock.advance(70)
        assert not await inbox.recorded([key])


@both_homes
async def test_a_redriven_dead_letter_runs_its_step_under_the_old_id(home: str) -> None:
    """Only that step of that service, although an outcome of the old try was recorded."""
    mail, broken = Service("mail"), True

    @mail.step(on=Cancelled)
    async def tell(event: Cancelled, ctx: StepContext) -> None:
        if broken:
            raise ValueError("template missing")

    @mail.step(on=Cancelled)
    async def count(event: Cancelled, ctx: StepContext) -> None:
        """Count them."""

    async with staged(mail, home=home) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        cancelled = stage.event(Cancelled(order_id="o-1"), id="c-1", run=placed.run)
        await stage.publish(placed, stage.fact(placed, facts.FLOW_TURNED), cancelled)
        while not await stage.letters():
            await stage.clock.advance(60)
        (letter,) = await stage.letters()
        broken = False
        redriven = stage.fact(placed, facts.REDRIVEN, step=letter.step, trigger="c-1", outcome=letter.offset)
        await stage.publish(redriven)
        told = [event for event in await stage.said(facts.STEP_COMPLETED, 2) if event.step == "mail.tell"]
        assert [(event.causation, event.id) for event in told] == [("c-1", ids.outcome("c-1", "mail.tell"))]
        await stage.caught_up()
        assert len(await stage.said(facts.STEP_COMPLETED)) == 2


async def test_a_redriven_forward_step_of_a_turned_run_is_skipped() -> None:
    """Aloud, for an operator waits for it; no attempt of the redrive has begun, so it leaves no doubt."""
    async with staged(payment()) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(stage.fact(placed, facts.FLOW_TURNED), placed)
        redriven = stage.fact(placed, facts.REDRIVEN, step="payment.charge", trigger=placed.id, outcome=1)
        await stage.publish(redriven)
        await stage.caught_up()
        *before, skipped = [record.event for record in await stage.log()]
        assert [event.type for event in before] == [facts.FLOW_TURNED, "Placed", facts.REDRIVEN]
        assert (skipped.type, skipped.certain) == (facts.STEP_SKIPPED, True)
        assert (skipped.trigger, skipped.causation) == (placed.id, redriven.id)
