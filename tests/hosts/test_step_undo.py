"""How a step host undoes: what the compensation is given, and what its answer means."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from choreo import NonRetryableError, Retry, Service, StepContext
from choreo.core import facts, ids
from choreo.core.events import Envelope
from tests.hosts.stage import (
    Charged,
    Confirmed,
    Placed,
    Refunded,
    Stage,
    both_homes,
    charged,
    payment,
    plain_payment,
    staged,
)

OUTCOME = 1
"""Offset of the outcome where the log begins with a trigger."""


REFUNDED = Refunded(order_id="o-1")


class Refund:
    """A compensation that remembers what it was given and answers as it is told."""

    def __init__(self, answer: Any = REFUNDED, error: Exception | None = None) -> None:
        self.answer = answer
        self.error = error
        self.calls: list[tuple[Charged | None, StepContext]] = []

    async def __call__(self, event: Charged | None, ctx: StepContext) -> Any:
        """An attempt."""
        self.calls.append((event, ctx))
        if self.error:
            raise self.error
        return self.answer


async def turned(stage: Stage) -> Envelope:
    """A run that was charged and then turned."""
    placed = stage.event(Placed(order_id="o-1", number=7))
    await stage.publish(placed)
    await stage.one("Charged")
    await stage.publish(stage.fact(placed, facts.FLOW_TURNED))
    return placed


@both_homes
async def test_an_undo_is_given_the_outcome_it_undoes(home: str) -> None:
    """With the forward attempt's key; its event's id derives from the ledger entry alone."""
    refund = Refund()
    async with staged(payment(charged, refund), home=home) as stage:
        placed = await turned(stage)
        request = stage.undo_request(placed, outcome=OUTCOME, round_=2, n=1)
        await stage.publish(request)
        event = await stage.one("Refunded")
        assert (event.id, event.entry, event.round) == (ids.undo(request.entry), request.entry, 2)
        assert (event.causation, event.step, event.run) == (request.id, "payment.charge", placed.run)
        ((given, context),) = refund.calls
        assert given == Charged(order_id="o-1", number=7)
        assert context.undoes == ids.idempotency("step", placed.run, "payment.charge")
        assert context.idempotency_key == ids.idempotency("undo", request.entry, 1)


async def test_an_undo_in_doubt_is_given_none() -> None:
    """Whether there was an effect the gateway knows; an event says there was."""
    refund = Refund()
    async with staged(payment(charged, refund)) as stage:
        placed = await turned(stage)
        await stage.publish(stage.undo_request(placed))
        await stage.one("Refunded")
        assert refund.calls[0][0] is None


@both_homes
async def test_none_for_an_undo_in_doubt_means_nothing_to_undo(home: str) -> None:
    """Said once a round."""
    async with staged(payment(charged, Refund(None)), home=home) as stage:
        placed = await turned(stage)
        request = stage.undo_request(placed, round_=1)
        await stage.publish(request)
        answer = await stage.one(facts.NOTHING_TO_UNDO)
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

    async with staged(mail) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed)
        await stage.one(facts.STEP_COMPLETED)
        entry = ids.entry(placed.run, "mail.greet", placed.id)
        about = {"step": "mail.greet", "trigger": placed.id, "entry": entry}
        await stage.publish(stage.fact(placed, facts.FLOW_TURNED))
        await stage.publish(stage.fact(placed, facts.COMPENSATION_REQUESTED, outcome=1, **about))
        assert (await stage.one("Refunded")).entry == entry


async def test_none_although_the_outcome_was_given_is_a_failed_undo() -> None:
    """It was there, so there is something to undo."""
    async with staged(payment(charged, Refund(None))) as stage:
        placed = await turned(stage)
        request = stage.undo_request(placed, outcome=OUTCOME)
        await stage.publish(request)
        failed = await stage.one(facts.UNDO_FAILED)
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
    async with staged(payment(charged, refund)) as stage:
        placed = await turned(stage)
        await stage.publish(stage.undo_request(placed, outcome=OUTCOME))
        assert (await stage.one(facts.UNDO_FAILED)).reason == reason
        refund.answer, refund.error = Refunded(order_id="o-1"), None
        await stage.publish(stage.undo_request(placed, outcome=OUTCOME, round_=1))
        assert (await stage.one("Refunded")).round == 1


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

    async with staged(service) as stage:
        placed = await turned(stage)
        request = stage.undo_request(placed, outcome=OUTCOME)
        await stage.publish(request)
        failed = await stage.one(facts.STEP_ATTEMPT_FAILED)
        assert (failed.entry, failed.round, failed.attempt) == (request.entry, 0, 1)
        refund.error = None
        await stage.publish(stage.retry_due(failed, outcome=OUTCOME))
        assert (await stage.one("Refunded")).causation == request.id
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

    async with staged(service) as stage:
        placed = await turned(stage)
        await stage.publish(stage.undo_request(placed))
        assert "the compensation cannot take None" in (await stage.one(facts.UNDO_FAILED)).reason


async def test_an_undo_past_its_deadline_does_not_start() -> None:
    """The tracker says that its time is over; the host says nothing."""
    refund = Refund()
    async with staged(payment(charged, refund)) as stage:
        placed = await turned(stage)
        await stage.caught_up()
        await stage.stop()
        await stage.publish(stage.undo_request(placed, outcome=OUTCOME))
        deadline_ms = stage.definition.steps[0].compensation.deadline_ms  # type: ignore[union-attr]
        await stage.clock.advance(deadline_ms / 1_000 + 1)
        stage.host("two")
        await stage.caught_up()
    assert refund.calls == []


@both_homes
async def test_an_undo_of_a_paused_run_is_held_with_its_entry_and_round(home: str) -> None:
    """The tracker's call when the run goes on tells the host all that the request did."""
    refund = Refund()
    async with staged(payment(charged, refund), home=home) as stage:
        placed = await turned(stage)
        request = stage.undo_request(placed, outcome=OUTCOME, round_=3)
        await stage.publish(stage.fact(placed, facts.FLOW_PAUSED, n=1), request)
        held = await stage.one(facts.STEP_HELD)
        assert (held.entry, held.round, held.trigger) == (request.entry, 3, placed.id)
        wake = stage.retry_due(held, outcome=OUTCOME, n=2, nothings=2)
        await stage.publish(stage.fact(placed, facts.FLOW_RESUMED, n=2), wake)
        event = await stage.one("Refunded")
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

    async with staged(plain_payment(charge, refund)) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed)
        await stage.until(began.is_set)
        await stage.publish(stage.fact(placed, facts.FLOW_TURNED), stage.undo_request(placed))
        await stage.publish(Placed(order_id="o-2"))
        await stage.counted("in_flight", 2)
        assert order == []
        gate.set()
        await stage.one("Refunded")
        assert order.count("refunded") == 1
        assert order.index("charged") < order.index("refunded")


async def test_an_undo_whose_outcome_has_gone_is_a_dead_letter_and_a_failed_undo() -> None:
    """What cannot be read cannot be undone by a program."""
    async with staged(payment()) as stage:
        placed = await turned(stage)
        await stage.publish(stage.undo_request(placed, outcome=0))
        failed = await stage.one(facts.UNDO_FAILED)
        assert failed.reason.startswith("set aside: undo of payment.charge: the outcome to undo, at offset 0")
        (letter,) = await stage.letters()
        assert letter.step == "payment.charge"
