"""Storage that fails, records that nobody foresaw, dead letters that are redriven, and an inbox that stays small."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from choreo import Service, StepContext
from choreo.core import facts, ids
from choreo.core.errors import NotFoundError
from choreo.ports.dependencies import NoReports
from choreo.ports.inbox import AttemptRequest
from choreo.ports.log import CommitBatch
from tests.hosts.harness import Cancelled, Placed, both_backends, payment, running_harness


class _Reports(NoReports):
    """Keeps the order of reports and clears."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []

    def report(self, name: str, cause: str, remedy: str) -> None:
        """Note a report."""
        self.seen.append(("report", name, cause, remedy))

    def clear(self, name: str) -> None:
        """Note its end."""
        self.seen.append(("clear", name))


async def test_storage_that_fails_is_waited_for_and_nothing_is_lost() -> None:
    """A call that fails, poll, begin or commit, before or after its effect, is repeated when storage is back."""
    async with running_harness(payment(), started=False) as harness:
        operations = ("consumer.poll", "inbox.begin", "consumer.commit")
        failing = [harness.faults.fail(operation, times=2) for operation in operations]
        failing += [harness.faults.lose_answer(operation) for operation in operations[1:]]
        harness.host()
        await harness.publish(*(Placed(order_id=f"o-{n}") for n in range(10)))
        while not all(fault.is_over for fault in failing) or len(await harness.log()) < 20:
            await harness.clock.advance(0.1)
        assert {event.key for event in await harness.published("Charged", 10)} == {f"o-{n}" for n in range(10)}
        await harness.caught_up()
        assert len({event.id for event in await harness.published("Charged", 10)}) == 10


async def test_a_host_without_its_topic_ends_with_an_error_and_can_be_stopped() -> None:
    """Nobody waits for it for ever."""
    async with running_harness(payment(), started=False) as harness:
        harness.definition = msgspec.structs.replace(harness.definition, name="unmade")
        host = harness.host()
        with pytest.raises(NotFoundError, match="no such topic"):
            await harness.hosts.pop()[1]
        await host.stop()


async def test_a_log_that_is_away_at_the_start_is_waited_for() -> None:
    """Services may be started before the broker."""
    async with running_harness(payment(), started=False) as harness:
        away = harness.faults.fail("log.consumer", times=3)
        harness.host()
        await harness.publish(Placed(order_id="o-1"))
        while not away.is_over or len(await harness.log()) < 2:
            await harness.clock.advance(0.1)


async def test_a_host_that_waits_for_its_log_can_be_stopped() -> None:
    """The host has no open work."""
    async with running_harness(payment(), started=False) as harness:
        away = harness.faults.fail("log.consumer", times=None)
        host = harness.host()
        while not away.calls:
            await harness.clock.advance(0.1)
        stopping = asyncio.create_task(host.stop())
        while not stopping.done():
            await harness.clock.advance(0.1)


async def test_an_outcome_that_cannot_be_written_is_its_own_jobs_dead_letter() -> None:
    """Found in a batch by committing one by one; the others are not held up."""

    def is_rotten(work: CommitBatch) -> bool:
        return any(outcome.events[0].key == "rotten" for outcome in work.outcomes)

    async with running_harness(payment(), started=False) as harness:
        harness.faults.fail("consumer.commit", ValueError("this cannot be"), times=None, when=is_rotten)
        harness.host()
        await harness.publish(Placed(order_id="o-1"), Placed(order_id="rotten"), Placed(order_id="o-2"))
        assert {event.key for event in await harness.published("Charged", 2)} == {"o-1", "o-2"}
        await harness.caught_up()
        (dead_letter,) = await harness.dead_letters()
        assert dead_letter.cause == "what came of it cannot be written: this cannot be"


async def test_a_topic_that_is_gone_at_a_commit_may_come_back() -> None:
    """It is no fault of a result: none becomes a dead letter, and one report lasts until a commit succeeds."""
    async with running_harness(payment(), started=False) as harness:
        gone = NotFoundError("no such topic", where="topic order")
        missing = harness.faults.fail("consumer.commit", gone, times=3, when=lambda work: bool(work.outcomes))
        reports = _Reports()
        harness.host(dependencies=reports)
        await harness.publish(Placed(order_id="o-1"), Placed(order_id="o-2"))
        while not missing.is_over or len(await harness.log()) < 4:
            await harness.clock.advance(0.1)
        await harness.caught_up()
        assert {event.key for event in await harness.published("Charged", 2)} == {"o-1", "o-2"}
        assert await harness.dead_letters() == []
        kinds = [kind for kind, *_ in reports.seen]
        first = kinds.index("report")
        assert kinds[first : first + 4] == ["report", "report", "report", "clear"]


async def test_a_job_that_cannot_be_begun_is_its_own_dead_letter() -> None:
    """Found in a batch by beginning one by one."""

    def is_rotten(attempts: Sequence[AttemptRequest], *_: object) -> bool:
        return any(attempt.trigger == "rotten" for attempt in attempts)

    async with running_harness(payment(), started=False) as harness:
        harness.faults.fail("inbox.begin", ValueError("this cannot be"), times=None, when=is_rotten)
        harness.host()
        rotten = harness.event(Placed(order_id="o-2"), id="rotten", run="rotten")
        await harness.publish(Placed(order_id="o-1"), rotten, Placed(order_id="o-3"))
        assert {event.key for event in await harness.published("Charged", 2)} == {"o-1", "o-3"}
        assert (await harness.one(facts.STEP_FAILED)).reason == "set aside: ValueError: this cannot be"
        assert len(await harness.dead_letters()) == 1


@both_backends
async def test_the_inbox_forgets_runs_that_ended_a_linger_ago(backend: str) -> None:
    """Entries live until then, for duplicates that may still come."""
    async with running_harness(payment(), linger="2m", backend=backend) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed)
        await harness.one("Charged")
        await harness.publish(harness.fact(placed, facts.FLOW_COMPLETED))
        await harness.caught_up()
        key, inbox = (placed.id, "payment.charge"), harness.backend.inbox("payment")
        await harness.clock.advance(110)
        assert await inbox.recorded([key])
        await harness.clock.advance(70)
        assert not await inbox.recorded([key])


@both_backends
async def test_a_redriven_dead_letter_runs_its_step_under_the_old_id(backend: str) -> None:
    """Only that step of that service, although an outcome of the old try was recorded."""
    mail, broken = Service("mail"), True

    @mail.step(on=Cancelled)
    async def tell(event: Cancelled, ctx: StepContext) -> None:
        if broken:
            raise ValueError("template missing")

    @mail.step(on=Cancelled)
    async def count(event: Cancelled, ctx: StepContext) -> None:
        """Count them."""

    async with running_harness(mail, backend=backend) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        cancelled = harness.event(Cancelled(order_id="o-1"), id="c-1", run=placed.run)
        await harness.publish(placed, harness.fact(placed, facts.COMPENSATION_STARTED), cancelled)
        while not await harness.dead_letters():
            await harness.clock.advance(60)
        (dead_letter,) = await harness.dead_letters()
        broken = False
        redriven = harness.fact(
            placed, facts.REDRIVEN, step=dead_letter.step, trigger="c-1", outcome=dead_letter.offset
        )
        await harness.publish(redriven)
        told = [event for event in await harness.published(facts.STEP_COMPLETED, 2) if event.step == "mail.tell"]
        assert [(event.causation, event.id) for event in told] == [("c-1", ids.outcome("c-1", "mail.tell"))]
        await harness.caught_up()
        assert len(await harness.published(facts.STEP_COMPLETED)) == 2


async def test_a_redriven_forward_step_of_a_turned_run_is_skipped() -> None:
    """Aloud, for an operator waits for it; no attempt of the redrive has begun, so it leaves no doubt."""
    async with running_harness(payment()) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(harness.fact(placed, facts.COMPENSATION_STARTED), placed)
        redriven = harness.fact(placed, facts.REDRIVEN, step="payment.charge", trigger=placed.id, outcome=1)
        await harness.publish(redriven)
        await harness.caught_up()
        *before, skipped = [record.event for record in await harness.log()]
        assert [event.type for event in before] == [facts.COMPENSATION_STARTED, "Placed", facts.REDRIVEN]
        assert (skipped.type, skipped.certain) == (facts.STEP_SKIPPED, True)
        assert (skipped.trigger, skipped.causation) == (placed.id, redriven.id)
