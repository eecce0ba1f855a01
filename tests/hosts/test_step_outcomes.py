"""The outcome that a step host publishes for a step, with every field that the tracker decides by."""

from __future__ import annotations

from typing import Any

import pytest

from choreo import Service, StepContext
from choreo.core import facts, ids
from tests.hosts.harness import Cancelled, Charged, Confirmed, Declined, Placed, payment, running_harness


async def test_a_trigger_becomes_the_outcome_its_handler_returns() -> None:
    """The envelope carries run, step, causation and one hop more; its id derives from the trigger."""
    async with running_harness(payment()) as harness:
        placed = harness.event(Placed(order_id="o-1", number=7), traceparent="00-trace", version=3)
        await harness.publish(placed)
        event = await harness.one("Charged")
        assert event.id == ids.outcome(placed.id, "payment.charge")
        assert (event.key, event.flow, event.run, event.step) == ("o-1", "order", placed.id, "payment.charge")
        assert (event.causation, event.hops, event.version, event.attempt) == (placed.id, 1, 3, 1)
        assert (event.traceparent, event.source, event.certain) == ("00-trace", "choreo/payment", False)
        assert harness.codec.decode(Charged, event.content_type, event.data) == Charged(order_id="o-1", number=7)


async def test_a_handler_is_told_its_circumstances() -> None:
    """The context names flow, key, run, step, attempt, the trigger, and a key for outside systems."""
    seen: list[StepContext] = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        seen.append(ctx)
        return Charged(order_id=event.order_id)

    async with running_harness(payment(charge, timeout="10s", deadline="1m")) as harness:
        placed = harness.event(Placed(order_id="o-1"), traceparent="00-trace")
        await harness.publish(placed)
        await harness.one("Charged")
        (context,) = seen
        assert (context.flow, context.key, context.run, context.step) == ("order", "o-1", placed.id, "payment.charge")
        assert (context.attempt, context.event_id, context.undoes) == (1, placed.id, "")
        assert context.idempotency_key == ids.idempotency("step", placed.id, "payment.charge")
        assert context.deadline_ms == (await harness.log())[0].stamp_ms + 60_000
        assert context.traceparent == "00-trace"


async def test_a_declared_failure_of_the_only_attempt_is_certain() -> None:
    """It has left nothing: the inbox counted one attempt."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        return Declined(order_id=event.order_id)

    async with running_harness(payment(charge)) as harness:
        await harness.publish(Placed(order_id="o-1"))
        assert (await harness.one("Declined")).certain


async def test_a_step_that_emits_nothing_is_said_to_be_completed() -> None:
    """`emits=None`: a success all the same."""
    mail = Service("mail")

    @mail.step(on=Placed)
    async def greet(event: Placed, ctx: StepContext) -> None:
        """Say hello."""

    async with running_harness(mail) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed)
        event = await harness.one(facts.STEP_COMPLETED)
        assert (event.step, event.causation, event.certain) == ("mail.greet", placed.id, False)


async def test_several_events_returned_get_places() -> None:
    """A list is one outcome: its events keep their order and have ids of their own."""
    mail = Service("mail")

    @mail.step(on=Placed, emits=[Charged, Confirmed])
    async def both(event: Placed, ctx: StepContext) -> list[Charged | Confirmed]:
        return [Charged(order_id=event.order_id), Confirmed(order_id=event.order_id)]

    async with running_harness(mail) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed)
        await harness.one("Confirmed")
        published = [record.event for record in await harness.log()][1:]
        assert [(event.type, event.id) for event in published] == [
            ("Charged", ids.outcome(placed.id, "mail.both", 0)),
            ("Confirmed", ids.outcome(placed.id, "mail.both", 1)),
        ]


async def test_several_events_of_one_type_are_a_failure() -> None:
    """Any return hint: one of them would be handled and the others lost in silence."""
    mail = Service("mail")

    @mail.step(on=Placed, emits=[Charged, Confirmed], effect=False)
    async def both(event: Placed, ctx: StepContext) -> list[Charged | Confirmed]:
        return [Charged(order_id=event.order_id, number=number) for number in range(3)]

    async with running_harness(mail) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
        assert failed.reason == (
            "mail.both returned 3 Charged: of several events of one type only one is handled. "
            "Return one event that holds them all"
        )


@pytest.mark.parametrize("returned", [{1}, {"a": 1}, iter(()), [], ["text"], 5, b"bytes", object])
async def test_what_is_no_declared_outcome_is_a_failure(returned: object) -> None:
    """Nothing that a handler returns is dropped in silence."""

    async def charge(event: Placed, ctx: StepContext) -> object:
        return returned

    async with running_harness(payment(charge)) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
        assert "expected Charged | Declined" in failed.reason


async def test_two_steps_on_one_event_both_run() -> None:
    """A record is finished when each of its steps is."""
    mail = Service("mail")

    @mail.step(on=Placed)
    async def greet(event: Placed, ctx: StepContext) -> None:
        """Say hello."""

    @mail.step(on=Placed, emits=Confirmed)
    def confirm(event: Placed, ctx: StepContext) -> Confirmed:
        return Confirmed(order_id=event.order_id)

    async with running_harness(mail) as harness:
        await harness.publish(Placed(order_id="o-1"))
        await harness.one("Confirmed")
        await harness.one(facts.STEP_COMPLETED)
        await harness.caught_up()


async def test_a_plain_handler_is_run_too() -> None:
    """`def` runs in a thread; its outcome is the same."""
    mail = Service("mail")

    @mail.step(on=Placed, emits=Confirmed)
    def confirm(event: Placed, ctx: StepContext) -> Confirmed:
        return Confirmed(order_id=event.order_id)

    async with running_harness(mail) as harness:
        await harness.publish(*(Placed(order_id=f"o-{n}") for n in range(50)))
        events = await harness.published("Confirmed", 50)
        assert {event.key for event in events} == {f"o-{n}" for n in range(50)}


async def test_a_reaction_runs_in_any_status_of_its_run() -> None:
    """A message to the customer about the end is no forward step: a started compensation does not stop it."""
    mail = Service("mail")

    @mail.step(on=Cancelled)
    async def tell(event: Cancelled, ctx: StepContext) -> None:
        """Say sorry."""

    async with running_harness(mail) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        compensating = harness.fact(placed, facts.COMPENSATION_STARTED)
        cancelled = harness.event(Cancelled(order_id="o-1"), id="c-1", run=placed.run)
        await harness.publish(placed, compensating, cancelled, harness.fact(placed, facts.FLOW_COMPENSATED))
        assert (await harness.one(facts.STEP_COMPLETED)).causation == "c-1"


async def test_positions_are_committed_up_to_the_lowest_unfinished() -> None:
    """When all is finished the group's lag is nothing, its own outcomes included."""
    async with running_harness(payment(), partitions=4) as harness:
        await harness.publish(*(Placed(order_id=f"o-{n}") for n in range(100)))
        await harness.published("Charged", 100)
        await harness.caught_up()
        assert harness.hosts[0][0].metrics.read() == {"attempts": 100, "attempts_in_flight": 0, "jobs": 100}
