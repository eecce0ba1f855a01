"""Compensation in a step host: the arguments of the call, and the meaning of its answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from choreo import NonRetryableError, Retry, Service, StepContext
from choreo.core import facts, ids
from choreo.core.events import Envelope
from tests.hosts.harness import (
    Charged,
    Confirmed,
    Harness,
    Placed,
    Refunded,
    both_backends,
    charged,
    payment,
    plain_payment,
    running_harness,
)

OUTCOME = 1
"""Offset of the outcome where the log begins with a trigger."""


REFUNDED = Refunded(order_id="o-1")


class Refund:
    """A compensation that remembers its arguments and gives the answers of the test."""

    def __init__(self, answer: Any = REFUNDED, error: Exception | None = None) -> None:
        self.answer = answer
        self.error = error
        self.calls: list[tuple[Charged | None, StepContext]] = []

    async def __call__(self, event: Charged | None, ctx: StepContext) -> Any:
        """Handle an attempt."""
        self.calls.append((event, ctx))
        if self.error:
            raise self.error
        return self.answer


async def compensating(harness: Harness) -> Envelope:
    """Play a run that was charged and whose compensation has started."""
    placed = harness.event(Placed(order_id="o-1", number=7))
    await harness.publish(placed)
    await harness.one("Charged")
    await harness.publish(harness.fact(placed, facts.COMPENSATION_STARTED))
    return placed


@both_backends
async def test_an_undo_is_given_the_outcome_it_undoes(backend: str) -> None:
    """With the forward attempt's key; its event's id derives from the ledger entry alone."""
    refund = Refund()
    async with running_harness(payment(charged, refund), backend=backend) as harness:
        placed = await compensating(harness)
        request = harness.undo_request(placed, outcome=OUTCOME, round_=2, n=1)
        await harness.publish(request)
        event = await harness.one("Refunded")
        assert (event.id, event.entry, event.round) == (ids.undo(request.entry), request.entry, 2)
        assert (event.causation, event.step, event.run) == (request.id, "payment.charge", placed.run)
        ((given, context),) = refund.calls
        assert given == Charged(order_id="o-1", number=7)
        assert context.undoes == ids.idempotency("step", placed.run, "payment.charge")
        assert context.idempotency_key == ids.idempotency("undo", request.entry, 1)


async def test_an_undo_in_doubt_is_given_none() -> None:
    """Whether there was an effect the gateway knows; an event proves it."""
    refund = Refund()
    async with running_harness(payment(charged, refund)) as harness:
        placed = await compensating(harness)
        await harness.publish(harness.undo_request(placed))
        await harness.one("Refunded")
        assert refund.calls[0][0] is None


@both_backends
async def test_none_for_an_undo_in_doubt_means_nothing_to_undo(backend: str) -> None:
    """Published once a round."""
    async with running_harness(payment(charged, Refund(None)), backend=backend) as harness:
        placed = await compensating(harness)
        request = harness.undo_request(placed, round_=1)
        await harness.publish(request)
        answer = await harness.one(facts.NOTHING_TO_COMPENSATE)
        assert answer.id == ids.of_round("nothing", request.entry, 1)
        assert (answer.entry, answer.round, answer.trigger) == (request.entry, 1, placed.id)


async def test_a_step_that_emits_nothing_can_be_undone() -> None:
    """There is no event to give: its compensation gets None, and answers with its own."""
    mail = Service("mail")

    @mail.step(on=Placed)
    async def greet(event: Placed, ctx: StepContext) -> None:
        """Say hello."""

    @greet.compensate(emits=Refunded)
    async def apologise(nothing: None, ctx: StepContext) -> Refunded | None:
        return Refunded(order_id=ctx.key)

    async with running_harness(mail) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed)
        await harness.one(facts.STEP_COMPLETED)
        entry = ids.entry(placed.run, "mail.greet", placed.id)
        about = {"step": "mail.greet", "trigger": placed.id, "entry": entry}
        await harness.publish(harness.fact(placed, facts.COMPENSATION_STARTED))
        await harness.publish(harness.fact(placed, facts.COMPENSATION_REQUESTED, outcome=1, **about))
        assert (await harness.one("Refunded")).entry == entry


async def test_none_although_the_outcome_was_given_is_a_failed_undo() -> None:
    """It was there, so there is something to undo."""
    async with running_harness(payment(charged, Refund(None))) as harness:
        placed = await compensating(harness)
        request = harness.undo_request(placed, outcome=OUTCOME)
        await harness.publish(request)
        failed = await harness.one(facts.COMPENSATION_FAILED)
        assert failed.id == ids.of_round("undo-failed", request.entry, 0)
        assert failed.reason == (
            "the undo of payment.charge was given the outcome and answered nothing. "
            "Return Refunded: None answers only a doubt"
        )


@pytest.mark.parametrize(
    ("refund", "reason"),
    [
        (Refund(Confirmed(order_id="o-1")), "payment.charge returned Confirmed, expected Refunded | None"),
        (Refund(error=NonRetryableError("gone")), "attempt 1 failed with NonRetryableError: gone (is not tried again)"),
    ],
)
async def test_an_undo_that_goes_wrong_for_good_has_failed(refund: Refund, reason: str) -> None:
    """The run is stuck until an operator lets it be tried again, in a new round with a request of its own."""
    async with running_harness(payment(charged, refund)) as harness:
        placed = await compensating(harness)
        await harness.publish(harness.undo_request(placed, outcome=OUTCOME))
        assert (await harness.one(facts.COMPENSATION_FAILED)).reason == reason
        refund.answer, refund.error = Refunded(order_id="o-1"), None
        await harness.publish(harness.undo_request(placed, outcome=OUTCOME, round_=1))
        assert (await harness.one("Refunded")).round == 1


async def test_an_undo_is_tried_again_like_a_step() -> None:
    """Short waits in memory, long ones as facts that name entry and round."""
    service, refund = Service("payment"), Refund(error=OSError("down"))

    @service.step(on=Placed, emits=Charged)
    async def charge(event: Placed, ctx: StepContext) -> Charged:
        return Charged(order_id=event.order_id)

    @charge.compensate(emits=Refunded, deadline="1d", retry=Retry(initial="1h", max_interval="1h"))
    async def back(event: Charged | None, ctx: StepContext) -> Refunded | None:
        result: Refunded | None = await refund(event, ctx)
        return result

    async with running_harness(service) as harness:
        placed = await compensating(harness)
        request = harness.undo_request(placed, outcome=OUTCOME)
        await harness.publish(request)
        failed = await harness.one(facts.STEP_ATTEMPT_FAILED)
        assert (failed.entry, failed.round, failed.attempt) == (request.entry, 0, 1)
        refund.error = None
        await harness.publish(harness.retry_due(failed, outcome=OUTCOME))
        assert (await harness.one("Refunded")).causation == request.id
    assert [(given is not None, context.attempt) for given, context in refund.calls] == [(True, 1), (True, 2)]


async def test_a_compensation_that_cannot_take_none_is_never_asked_with_none() -> None:
    """The tracker does not request it; if somebody does, it is a failed undo."""
    service = Service("payment")

    @service.step(on=Placed, emits=Charged)
    async def charge(event: Placed, ctx: StepContext) -> Charged:
        return Charged(order_id=event.order_id)

    @charge.compensate(emits=Refunded)
    async def back(event: Charged, ctx: StepContext) -> Refunded:
        return Refunded(order_id=event.order_id)

    async with running_harness(service) as harness:
        placed = await compensating(harness)
        await harness.publish(harness.undo_request(placed))
        assert "the compensation cannot take None" in (await harness.one(facts.COMPENSATION_FAILED)).reason


async def test_an_undo_past_its_deadline_does_not_start() -> None:
    """The tracker publishes that its time is over; the host publishes nothing."""
    refund = Refund()
    async with running_harness(payment(charged, refund)) as harness:
        placed = await compensating(harness)
        await harness.caught_up()
        await harness.stop()
        await harness.publish(harness.undo_request(placed, outcome=OUTCOME))
        deadline_ms = harness.definition.steps[0].compensation.deadline_ms  # type: ignore[union-attr]
        await harness.clock.advance(deadline_ms / 1_000 + 1)
        harness.host("two")
        await harness.caught_up()
    assert refund.calls == []


@both_backends
async def test_an_undo_of_a_paused_run_is_held_with_its_entry_and_round(backend: str) -> None:
    """The tracker's call when the run goes on has all the data of the request."""
    refund = Refund()
    async with running_harness(payment(charged, refund), backend=backend) as harness:
        placed = await compensating(harness)
        request = harness.undo_request(placed, outcome=OUTCOME, round_=3)
        await harness.publish(harness.fact(placed, facts.FLOW_PAUSED, n=1), request)
        held = await harness.one(facts.STEP_HELD)
        assert (held.entry, held.round, held.trigger) == (request.entry, 3, placed.id)
        wake = harness.retry_due(held, outcome=OUTCOME, n=2, nothings=2)
        await harness.publish(harness.fact(placed, facts.FLOW_RESUMED, n=2), wake)
        event = await harness.one("Refunded")
        assert (event.id, event.round, event.causation) == (ids.undo(request.entry), 3, request.id)
        ((given, context),) = refund.calls
        assert given == Charged(order_id="o-1", number=7)
        assert context.idempotency_key == ids.idempotency("undo", request.entry, 2)


async def test_an_undo_does_not_start_while_an_attempt_of_its_step_and_key_runs() -> None:
    """They share a lane: key and step."""
    began, gate, order = threading.Event(), threading.Event(), []

    def charge(event: Placed, ctx: StepContext) -> Any:
        began.set()
        gate.wait()
        order.append("charged")
        return Charged(order_id=event.order_id)

    async def refund(event: Charged | None, ctx: StepContext) -> Any:
        order.append("refunded")
        return Refunded(order_id=ctx.key)

    async with running_harness(plain_payment(charge, refund)) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed)
        await harness.until(began.is_set)
        await harness.publish(harness.fact(placed, facts.COMPENSATION_STARTED), harness.undo_request(placed))
        await harness.publish(Placed(order_id="o-2"))
        await harness.counted("attempts_in_flight", 2)
        assert order == []
        gate.set()
        await harness.one("Refunded")
        assert order.count("refunded") == 1
        assert order.index("charged") < order.index("refunded")


async def test_an_undo_whose_outcome_has_gone_is_a_dead_letter_and_a_failed_undo() -> None:
    """A program cannot undo an outcome that it cannot read."""
    async with running_harness(payment()) as harness:
        placed = await compensating(harness)
        await harness.publish(harness.undo_request(placed, outcome=0))
        failed = await harness.one(facts.COMPENSATION_FAILED)
        assert failed.reason.startswith("set aside: undo of payment.charge: the outcome to undo, at offset 0")
        (dead_letter,) = await harness.dead_letters()
        assert dead_letter.step == "payment.charge"
