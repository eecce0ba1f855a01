"""What a step host does when a handler fails: tries again soon, later, or never, and says what is certain."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from msgspec.structs import replace

from choreo import NonRetryableError, Retry, Service, StepContext
from choreo.core import facts, ids
from tests.hosts.stage import (
    Cancelled,
    Charged,
    Confirmed,
    Declined,
    Placed,
    both_homes,
    payment,
    plain_payment,
    staged,
)

NOW = Retry(initial=0, max_attempts=3)
LATER = Retry(initial="1h", max_interval="1d", max_attempts=3)


class GatewayError(Exception):
    """Something outside is down."""


class CardRejected(Exception):  # noqa: N818 - as a user names it
    """No use to try again."""


class Flaky:
    """A handler that raises so often, and then does what `then` says."""

    def __init__(self, times: int, error: type[Exception] = GatewayError, then: type[Any] = Charged) -> None:
        self.times = times
        self.error = error
        self.then = then
        self.calls: list[StepContext] = []

    async def __call__(self, event: Placed, ctx: StepContext) -> Any:
        """An attempt."""
        self.calls.append(ctx)
        if len(self.calls) <= self.times:
            raise self.error("no answer")
        return self.then(order_id=event.order_id)


@both_homes
async def test_a_short_wait_for_the_next_attempt_is_kept_in_memory(home: str) -> None:
    """Nothing is said of it; every attempt is given the same idempotency key."""
    charge = Flaky(2)
    async with staged(payment(charge, retry=Retry(initial="1s")), home=home) as stage:
        await stage.publish(Placed(order_id="o-1"))
        await stage.counted("retried", 1)
        await stage.clock.advance(0.9)
        assert len(charge.calls) == 1
        await stage.clock.advance(0.2)
        await stage.counted("retried", 2)
        await stage.clock.advance(2)
        assert (await stage.one("Charged")).attempt == 3
        assert [record.event.type for record in await stage.log()] == ["Placed", "Charged"]
    assert [context.attempt for context in charge.calls] == [1, 2, 3]
    assert len({context.idempotency_key for context in charge.calls}) == 1


@both_homes
async def test_a_long_wait_is_said_and_the_tracker_calls_again(home: str) -> None:
    """Past `inline_up_to` the host holds nothing: StepAttemptFailed, then StepRetryDue, then the next attempt."""
    charge = Flaky(1)
    async with staged(payment(charge, retry=LATER), home=home) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed)
        failed = await stage.one(facts.STEP_ATTEMPT_FAILED)
        assert (failed.id, failed.trigger) == (ids.attempt_failed(placed.id, "payment.charge", 1), placed.id)
        assert (failed.attempt, failed.reason) == (1, "attempt 1 failed with GatewayError: no answer")
        await stage.caught_up()
        await stage.publish(stage.retry_due(failed, outcome=0))
        outcome = await stage.one("Charged")
        assert (outcome.id, outcome.causation) == (ids.outcome(placed.id, "payment.charge"), placed.id)
    assert [context.attempt for context in charge.calls] == [1, 2]


async def test_a_retry_survives_the_host_and_the_loss_of_the_inbox() -> None:
    """The tracker's call says where the trigger stands, and how often the step was tried."""
    charge = Flaky(1)
    async with staged(payment(charge, retry=LATER)) as stage:
        await stage.publish(Placed(order_id="o-0"), Placed(order_id="o-1"))
        (failed,) = await stage.said(facts.STEP_ATTEMPT_FAILED)
        await stage.said("Charged")
        await stage.caught_up()
        await stage.stop()
        stage.home._inboxes.clear()
        stage.host("two")
        await stage.publish(stage.retry_due(failed, outcome=0))
        assert {event.key for event in await stage.said("Charged", 2)} == {"o-0", "o-1"}
    assert charge.calls[-1].attempt == 2


async def test_a_twin_of_what_calls_for_a_step_does_not_run_it_early() -> None:
    """Each StepRetryDue knows how many attempts had failed; one that knows of fewer is an old twin, as is a trigger."""
    charge = Flaky(3)
    async with staged(payment(charge, retry=LATER)) as stage:
        await stage.publish(Placed(order_id="o-1"), Placed(order_id="o-1"))
        first = await stage.one(facts.STEP_ATTEMPT_FAILED)
        call = stage.retry_due(first, outcome=0)
        await stage.publish(call)
        await stage.said(facts.STEP_ATTEMPT_FAILED, 2)
        await stage.publish(call, Placed(order_id="o-1"), Placed(order_id="o-2"))
        await stage.said(facts.STEP_ATTEMPT_FAILED, 3)
        await stage.caught_up()
    assert [context.key for context in charge.calls] == ["o-1", "o-1", "o-2"]


async def test_a_step_called_for_again_has_the_time_that_its_call_gives_it() -> None:
    """The tracker reckons it, pauses and all; the handler is told, and past it the step is skipped."""
    charge = Flaky(2)
    async with staged(payment(charge, retry=LATER, deadline="2d")) as stage:
        await stage.publish(Placed(order_id="o-1"), Placed(order_id="o-2"))
        first, second = await stage.said(facts.STEP_ATTEMPT_FAILED, 2)
        now_ms = stage.clock.now_ms()
        await stage.publish(stage.retry_due(first, outcome=0, deadline_ms=now_ms + 7))
        await stage.publish(stage.retry_due(second, outcome=1, deadline_ms=now_ms - 1))
        assert (await stage.one("Charged")).key == "o-1"
        assert (await stage.one(facts.STEP_SKIPPED)).causation == second.trigger
    assert charge.calls[-1].deadline_ms == now_ms + 7


@pytest.mark.parametrize("lacking", [{"outcome": -1}, {"deadline_ms": 0}])
async def test_a_call_that_lacks_what_the_tracker_says_is_not_the_trackers(lacking: Any) -> None:
    """Whoever said it: nobody waits for a word about it."""
    charge = Flaky(1)
    async with staged(payment(charge, retry=LATER)) as stage:
        await stage.publish(Placed(order_id="o-1"))
        failed = await stage.one(facts.STEP_ATTEMPT_FAILED)
        await stage.publish(stage.retry_due(failed, **{"outcome": 0} | lacking))
        await stage.caught_up()
        assert len(await stage.log()) == 3
        assert await stage.letters() == []
    assert len(charge.calls) == 1


async def test_a_step_called_for_again_whose_trigger_has_gone_has_failed() -> None:
    """Nobody can do it any more; an attempt was made, so it is in doubt."""
    async with staged(payment(Flaky(1), retry=LATER)) as stage:
        await stage.publish(Placed(order_id="o-1"))
        failed = await stage.one(facts.STEP_ATTEMPT_FAILED)
        await stage.publish(stage.retry_due(failed, outcome=1))
        gone = await stage.one(facts.STEP_FAILED)
        assert gone.reason.startswith(f"set aside: order/0/2: event {failed.trigger}, which the step is to be run for")
        assert (gone.causation, gone.certain) == (failed.trigger, False)
        assert len(await stage.letters()) == 1


@both_homes
async def test_a_step_whose_attempts_are_used_up_has_failed_in_doubt(home: str) -> None:
    """Any exception may have left its effect."""
    async with staged(payment(Flaky(3), retry=NOW), home=home) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed)
        failed = await stage.one(facts.STEP_FAILED)
        assert failed.reason == "3 attempts failed, the last one: attempt 3 failed with GatewayError: no answer"
        assert (failed.id, failed.causation) == (ids.outcome(placed.id, "payment.charge"), placed.id)
        assert not failed.certain


@pytest.mark.parametrize(("error", "never"), [(CardRejected, (CardRejected,)), (NonRetryableError, ())])
async def test_an_error_that_no_retry_mends_fails_at_once_in_doubt(error: Any, never: Any) -> None:
    """`never=` and NonRetryableError: one attempt, StepFailed, and nobody knows whether it left something."""
    charge = Flaky(9, error)
    async with staged(payment(charge, retry=Retry(never=never))) as stage:
        await stage.publish(Placed(order_id="o-1"))
        failed = await stage.one(facts.STEP_FAILED)
        assert failed.reason == f"attempt 1 failed with {error.__name__}: no answer (is not tried again)"
        assert not failed.certain
    assert len(charge.calls) == 1


async def test_a_declared_failure_after_a_failed_attempt_is_not_certain() -> None:
    """The first attempt may have left its effect before it failed."""
    async with staged(payment(Flaky(1, then=Declined), retry=NOW)) as stage:
        await stage.publish(Placed(order_id="o-1"))
        assert not (await stage.one("Declined")).certain


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (Confirmed(order_id="o-1"), "Confirmed"),
        (None, "NoneType"),
        ("paid", "str"),
        ([], "an empty list"),
        ([Charged(order_id="o-1"), Declined(order_id="o-1")], "Charged and Declined"),
        ((Declined(order_id="o-1"), Declined(order_id="o-1")), "Declined"),
    ],
)
async def test_a_wrong_return_type_is_a_failure_in_doubt_that_names_it(returned: Any, got: str) -> None:
    """The sentence says the step, what came, and what was expected."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        return returned

    async with staged(payment(charge, retry=NOW)) as stage:
        await stage.publish(Placed(order_id="o-1"))
        failed = await stage.one(facts.STEP_FAILED)
        assert failed.reason == f"payment.charge returned {got}, expected Charged | Declined"
        assert not failed.certain


async def test_an_event_that_cannot_be_written_is_a_failure_in_doubt() -> None:
    """Made around its class's checks, it does not fit its contract; the sentence names the field."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        return Charged.model_construct(order_id=7)

    async with staged(payment(charge)) as stage:
        await stage.publish(Placed(order_id="o-1"))
        failed = await stage.one(facts.STEP_FAILED)
        assert failed.reason.startswith("payment.charge returned what cannot be written: Charged.order_id")


async def test_an_attempt_is_bounded_by_its_timeout() -> None:
    """A handler that waits too long is cancelled, and the attempt has failed."""
    cancelled = threading.Event()

    async def charge(event: Placed, ctx: StepContext) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with staged(payment(charge, timeout="20ms", retry=Retry(max_attempts=1))) as stage:
        await stage.publish(Placed(order_id="o-1"))
        failed = await stage.one(facts.STEP_FAILED)
        assert failed.reason == "attempt 1 gave no answer within 20ms"
        assert not failed.certain
    assert cancelled.is_set()


async def test_a_plain_handler_that_never_returns_harms_its_own_key_only() -> None:
    """Its attempt times out in doubt, its thread is written off, and the step goes on for other keys."""
    never = threading.Event()

    def charge(event: Placed, ctx: StepContext) -> Any:
        if event.order_id == "stuck":
            never.wait()
        return Charged(order_id=event.order_id)

    service = plain_payment(charge, timeout="20ms", retry=Retry(max_attempts=1))
    async with staged(service, started=False) as stage:
        stage.host(concurrency=1)
        await stage.publish(Placed(order_id="stuck"), *(Placed(order_id=f"o-{n}") for n in range(3)))
        assert (await stage.one(facts.STEP_FAILED)).key == "stuck"
        assert {event.key for event in await stage.said("Charged", 3)} == {"o-0", "o-1", "o-2"}
        never.set()


async def test_an_async_handler_that_blocks_harms_its_own_key_only(caplog: pytest.LogCaptureFixture) -> None:
    """A fresh loop takes over, a warning names the step, and the step has threads of its own from then on."""
    never = threading.Event()

    async def charge(event: Placed, ctx: StepContext) -> Any:
        if event.order_id == "stuck":
            never.wait()
        return Charged(order_id=event.order_id)

    async with staged(payment(charge, timeout="400ms", retry=Retry(max_attempts=1))) as stage:
        await stage.publish(Placed(order_id="stuck"), *(Placed(order_id=f"o-{n}") for n in range(20)))
        assert len(await stage.said("Charged", 20)) == 20
        assert "step payment.charge blocks the loop" in caplog.text
        assert (await stage.one(facts.STEP_FAILED)).key == "stuck"
        never.set()
        await stage.publish(Placed(order_id="o-21"))
        assert len(await stage.said("Charged", 21)) == 21


@both_homes
async def test_an_undecodable_trigger_is_a_dead_letter_and_a_certain_failure(home: str) -> None:
    """No attempt had begun; other keys are not delayed."""
    async with staged(payment(), home=home) as stage:
        broken = replace(stage.event(Placed(order_id="o-1")), data=b"")
        await stage.publish(broken, Placed(order_id="o-2"))
        failed = await stage.one(facts.STEP_FAILED)
        assert failed.certain
        assert failed.reason.startswith("set aside: Placed: is not Avro single-object encoding")
        assert (await stage.one("Charged")).key == "o-2"
        (letter,) = await stage.letters()
        assert (letter.position, letter.step, letter.service) == (("order", 0, 0), "payment.charge", "payment")
        assert letter.cause in failed.reason


async def test_a_reaction_that_fails_for_good_is_a_dead_letter() -> None:
    """Nobody expects its outcome, so nothing is said in the log; its retries are all waited out in memory."""
    mail = Service("mail")

    @mail.step(on=Cancelled, retry=Retry(initial="1m", max_attempts=2))
    async def tell(event: Cancelled, ctx: StepContext) -> None:
        raise GatewayError("mailbox full")

    async with staged(mail) as stage:
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed, stage.event(Cancelled(order_id="o-1"), id="c-1", run=placed.run))
        await stage.counted("retried", 1)
        await stage.clock.advance(61)
        await stage.counted("dead_letters", 1)
        (letter,) = await stage.letters()
        assert letter.cause == "2 attempts failed, the last one: attempt 2 failed with GatewayError: mailbox full"
        assert [record.event.type for record in await stage.log()] == ["Placed", "Cancelled"]


async def test_whatever_a_handler_raises_is_the_end_of_its_attempt_only() -> None:
    """Also what is no Exception: the loop and the process go on."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        if event.order_id == "o-1":
            raise SystemExit(3)
        if event.order_id == "o-2":
            raise KeyboardInterrupt
        return Charged(order_id=event.order_id)

    async with staged(payment(charge, retry=Retry(max_attempts=1))) as stage:
        await stage.publish(*(Placed(order_id=f"o-{n}") for n in (1, 2, 3)))
        failed = await stage.said(facts.STEP_FAILED, 2)
        assert [event.reason for event in failed] == [
            "attempt 1 failed with SystemExit: 3",
            "attempt 1 failed with KeyboardInterrupt",
        ]
        assert (await stage.one("Charged")).key == "o-3"


async def test_an_outcome_that_the_log_does_not_take_is_a_failure_in_doubt() -> None:
    """It is found before anything is recorded: what is behind it goes on, and the step's effect is undone."""

    async def wordy(event: Placed, _: StepContext) -> Charged:
        return Charged(order_id=event.order_id, number=event.number)

    async with staged(payment(wordy), started=False) as stage:
        stage.home.log.bound = 60
        stage.host()
        await stage.publish(Placed(order_id="o" * 30), Placed(order_id="o-2"))
        await stage.caught_up()
        assert [(record.event.key, record.event.type) for record in await stage.log() if record.event.step] == [
            ("o" * 30, facts.STEP_FAILED),
            ("o-2", "Charged"),
        ]
        failed = await stage.one(facts.STEP_FAILED)
        assert not failed.certain
        assert "does not fit into the log, which takes 60" in failed.reason
