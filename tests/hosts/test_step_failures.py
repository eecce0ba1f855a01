"""A step host after a handler's failure: it retries soon, later, or never, and reports if the failure is certain."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from msgspec.structs import replace

from choreo import NonRetryableError, Retry, Service, StepContext
from choreo.core import facts, ids
from tests.hosts.harness import (
    Cancelled,
    Charged,
    Confirmed,
    Declined,
    Placed,
    both_backends,
    payment,
    plain_payment,
    running_harness,
)

NOW = Retry(initial=0, max_attempts=3)
LATER = Retry(initial="1h", max_interval="1d", max_attempts=3)


class GatewayError(Exception):
    """Something outside is down."""


class CardRejected(Exception):  # noqa: N818 - as a user names it
    """No use to try again."""


class Flaky:
    """A handler that raises so often, and then calls `then`."""

    def __init__(self, times: int, error: type[Exception] = GatewayError, then: type[Any] = Charged) -> None:
        self.times = times
        self.error = error
        self.then = then
        self.calls: list[StepContext] = []

    async def __call__(self, event: Placed, ctx: StepContext) -> Any:
        """Handle an attempt."""
        self.calls.append(ctx)
        if len(self.calls) <= self.times:
            raise self.error("no answer")
        return self.then(order_id=event.order_id)


@both_backends
async def test_a_short_wait_for_the_next_attempt_is_kept_in_memory(backend: str) -> None:
    """No fact reports it; every attempt gets the same idempotency key."""
    charge = Flaky(2)
    async with running_harness(payment(charge, retry=Retry(initial="1s")), backend=backend) as harness:
        await harness.publish(Placed(order_id="o-1"))
        await harness.counted("attempts_retried", 1)
        await harness.clock.advance(0.9)
        assert len(charge.calls) == 1
        await harness.clock.advance(0.2)
        await harness.counted("attempts_retried", 2)
        await harness.clock.advance(2)
        assert (await harness.one("Charged")).attempt == 3
        assert [record.event.type for record in await harness.log()] == ["Placed", "Charged"]
    assert [context.attempt for context in charge.calls] == [1, 2, 3]
    assert len({context.idempotency_key for context in charge.calls}) == 1


@both_backends
async def test_a_long_wait_is_said_and_the_tracker_calls_again(backend: str) -> None:
    """Past `inline_up_to` the host holds nothing: StepAttemptFailed, then StepRetryDue, then the next attempt."""
    charge = Flaky(1)
    async with running_harness(payment(charge, retry=LATER), backend=backend) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed)
        failed = await harness.one(facts.STEP_ATTEMPT_FAILED)
        assert (failed.id, failed.trigger) == (ids.attempt_failed(placed.id, "payment.charge", 1), placed.id)
        assert (failed.attempt, failed.reason) == (1, "attempt 1 failed with GatewayError: no answer")
        await harness.caught_up()
        await harness.publish(harness.retry_due(failed, outcome=0))
        outcome = await harness.one("Charged")
        assert (outcome.id, outcome.causation) == (ids.outcome(placed.id, "payment.charge"), placed.id)
    assert [context.attempt for context in charge.calls] == [1, 2]


async def test_a_retry_survives_the_host_and_the_loss_of_the_inbox() -> None:
    """The tracker's call has the trigger's position, and the number of attempts."""
    charge = Flaky(1)
    async with running_harness(payment(charge, retry=LATER)) as harness:
        await harness.publish(Placed(order_id="o-0"), Placed(order_id="o-1"))
        (failed,) = await harness.published(facts.STEP_ATTEMPT_FAILED)
        await harness.published("Charged")
        await harness.caught_up()
        await harness.stop()
        harness.lose_inbox()
        harness.host("two")
        await harness.publish(harness.retry_due(failed, outcome=0))
        assert {event.key for event in await harness.published("Charged", 2)} == {"o-0", "o-1"}
    assert charge.calls[-1].attempt == 2


async def test_a_twin_of_what_calls_for_a_step_does_not_run_it_early() -> None:
    """A StepRetryDue has the number of failed attempts; one with a smaller number is a duplicate, as is a trigger."""
    charge = Flaky(3)
    async with running_harness(payment(charge, retry=LATER)) as harness:
        await harness.publish(Placed(order_id="o-1"), Placed(order_id="o-1"))
        first = await harness.one(facts.STEP_ATTEMPT_FAILED)
        call = harness.retry_due(first, outcome=0)
        await harness.publish(call)
        await harness.published(facts.STEP_ATTEMPT_FAILED, 2)
        await harness.publish(call, Placed(order_id="o-1"), Placed(order_id="o-2"))
        await harness.published(facts.STEP_ATTEMPT_FAILED, 3)
        await harness.caught_up()
    assert [context.key for context in charge.calls] == ["o-1", "o-1", "o-2"]


async def test_a_step_called_for_again_has_the_time_that_its_call_gives_it() -> None:
    """The tracker computes it, with pauses; the handler gets it, and past it the step is skipped."""
    charge = Flaky(2)
    async with running_harness(payment(charge, retry=LATER, deadline="2d")) as harness:
        await harness.publish(Placed(order_id="o-1"), Placed(order_id="o-2"))
        first, second = await harness.published(facts.STEP_ATTEMPT_FAILED, 2)
        now_ms = harness.clock.now_ms()
        await harness.publish(harness.retry_due(first, outcome=0, deadline_ms=now_ms + 7))
        await harness.publish(harness.retry_due(second, outcome=1, deadline_ms=now_ms - 1))
        assert (await harness.one("Charged")).key == "o-1"
        assert (await harness.one(facts.STEP_SKIPPED)).causation == second.trigger
    assert charge.calls[-1].deadline_ms == now_ms + 7


@pytest.mark.parametrize("lacking", [{"outcome": -1}, {"deadline_ms": 0}])
async def test_a_call_that_lacks_what_the_tracker_says_is_not_the_trackers(lacking: Any) -> None:
    """Whichever program published it, nobody waits for its outcome."""
    charge = Flaky(1)
    async with running_harness(payment(charge, retry=LATER)) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_ATTEMPT_FAILED)
        await harness.publish(harness.retry_due(failed, **{"outcome": 0} | lacking))
        await harness.caught_up()
        assert len(await harness.log()) == 3
        assert await harness.dead_letters() == []
    assert len(charge.calls) == 1


async def test_a_step_called_for_again_whose_trigger_has_gone_has_failed() -> None:
    """Nobody can do it any more; an attempt was made, so it is in doubt."""
    async with running_harness(payment(Flaky(1), retry=LATER)) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_ATTEMPT_FAILED)
        await harness.publish(harness.retry_due(failed, outcome=1))
        gone = await harness.one(facts.STEP_FAILED)
        assert gone.reason.startswith(f"set aside: order/0/2: event {failed.trigger}, the trigger of the step to run")
        assert (gone.causation, gone.certain) == (failed.trigger, False)
        assert len(await harness.dead_letters()) == 1


@both_backends
async def test_a_step_whose_attempts_are_used_up_has_failed_in_doubt(backend: str) -> None:
    """Any exception may have left its effect."""
    async with running_harness(payment(Flaky(3), retry=NOW), backend=backend) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed)
        failed = await harness.one(facts.STEP_FAILED)
        assert failed.reason == "3 attempts failed, the last one: attempt 3 failed with GatewayError: no answer"
        assert (failed.id, failed.causation) == (ids.outcome(placed.id, "payment.charge"), placed.id)
        assert not failed.certain


@pytest.mark.parametrize(("error", "never"), [(CardRejected, (CardRejected,)), (NonRetryableError, ())])
async def test_an_error_that_no_retry_mends_fails_at_once_in_doubt(error: Any, never: Any) -> None:
    """`never=` and NonRetryableError: one attempt, StepFailed, and nobody knows whether it left something."""
    charge = Flaky(9, error)
    async with running_harness(payment(charge, retry=Retry(never=never))) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
        assert failed.reason == f"attempt 1 failed with {error.__name__}: no answer (is not tried again)"
        assert not failed.certain
    assert len(charge.calls) == 1


async def test_a_declared_failure_after_a_failed_attempt_is_not_certain() -> None:
    """The first attempt may have left its effect before it failed."""
    async with running_harness(payment(Flaky(1, then=Declined), retry=NOW)) as harness:
        await harness.publish(Placed(order_id="o-1"))
        assert not (await harness.one("Declined")).certain


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
    """The sentence names the step, the actual and the expected type."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        return returned

    async with running_harness(payment(charge, retry=NOW)) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
        assert failed.reason == f"payment.charge returned {got}, expected Charged | Declined"
        assert not failed.certain


async def test_an_event_that_cannot_be_written_is_a_failure_in_doubt() -> None:
    """Made around its class's checks, it does not fit its contract; the sentence names the field."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        return Charged.model_construct(order_id=7)

    async with running_harness(payment(charge)) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
        assert failed.reason.startswith("payment.charge returned an unwritable event: Charged.order_id")


async def test_an_attempt_is_bounded_by_its_timeout() -> None:
    """A handler that waits too long is cancelled, and the attempt has failed."""
    cancelled = threading.Event()

    async def charge(event: Placed, ctx: StepContext) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with running_harness(payment(charge, timeout="20ms", retry=Retry(max_attempts=1))) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
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
    async with running_harness(service, started=False) as harness:
        harness.host(concurrency=1)
        await harness.publish(Placed(order_id="stuck"), *(Placed(order_id=f"o-{n}") for n in range(3)))
        assert (await harness.one(facts.STEP_FAILED)).key == "stuck"
        assert {event.key for event in await harness.published("Charged", 3)} == {"o-0", "o-1", "o-2"}
        never.set()


async def test_an_async_handler_that_blocks_harms_its_own_key_only(caplog: pytest.LogCaptureFixture) -> None:
    """A fresh loop takes over, a warning names the step, and the step has threads of its own from then on."""
    never = threading.Event()

    async def charge(event: Placed, ctx: StepContext) -> Any:
        if event.order_id == "stuck":
            never.wait()
        return Charged(order_id=event.order_id)

    async with running_harness(payment(charge, timeout="400ms", retry=Retry(max_attempts=1))) as harness:
        await harness.publish(Placed(order_id="stuck"), *(Placed(order_id=f"o-{n}") for n in range(20)))
        assert len(await harness.published("Charged", 20)) == 20
        assert "step payment.charge blocks the loop" in caplog.text
        assert (await harness.one(facts.STEP_FAILED)).key == "stuck"
        never.set()
        await harness.publish(Placed(order_id="o-21"))
        assert len(await harness.published("Charged", 21)) == 21


@both_backends
async def test_an_undecodable_trigger_is_a_dead_letter_and_a_certain_failure(backend: str) -> None:
    """No attempt had begun; other keys are not delayed."""
    async with running_harness(payment(), backend=backend) as harness:
        broken = replace(harness.event(Placed(order_id="o-1")), data=b"")
        await harness.publish(broken, Placed(order_id="o-2"))
        failed = await harness.one(facts.STEP_FAILED)
        assert failed.certain
        assert failed.reason.startswith("set aside: Placed: is not Avro single-object encoding")
        assert (await harness.one("Charged")).key == "o-2"
        (dead_letter,) = await harness.dead_letters()
        assert (dead_letter.position, dead_letter.step, dead_letter.service) == (
            ("order", 0, 0),
            "payment.charge",
            "payment",
        )
        assert dead_letter.cause in failed.reason


async def test_a_reaction_that_fails_for_good_is_a_dead_letter() -> None:
    """Nobody expects its outcome, so no fact reports it; its retries all wait in memory."""
    mail = Service("mail")

    @mail.step(on=Cancelled, retry=Retry(initial="1m", max_attempts=2))
    async def tell(event: Cancelled, ctx: StepContext) -> None:
        raise GatewayError("mailbox full")

    async with running_harness(mail) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed, harness.event(Cancelled(order_id="o-1"), id="c-1", run=placed.run))
        await harness.counted("attempts_retried", 1)
        await harness.clock.advance(61)
        await harness.counted("dead_letters_written", 1)
        (dead_letter,) = await harness.dead_letters()
        assert dead_letter.cause == "2 attempts failed, the last one: attempt 2 failed with GatewayError: mailbox full"
        assert [record.event.type for record in await harness.log()] == ["Placed", "Cancelled"]


async def test_whatever_a_handler_raises_is_the_end_of_its_attempt_only() -> None:
    """Also what is no Exception: the loop and the process go on."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        if event.order_id == "o-1":
            raise SystemExit(3)
        if event.order_id == "o-2":
            raise KeyboardInterrupt
        return Charged(order_id=event.order_id)

    async with running_harness(payment(charge, retry=Retry(max_attempts=1))) as harness:
        await harness.publish(*(Placed(order_id=f"o-{n}") for n in (1, 2, 3)))
        failed = await harness.published(facts.STEP_FAILED, 2)
        assert [event.reason for event in failed] == [
            "attempt 1 failed with SystemExit: 3",
            "attempt 1 failed with KeyboardInterrupt",
        ]
        assert (await harness.one("Charged")).key == "o-3"


async def test_an_outcome_that_the_log_does_not_take_is_a_failure_in_doubt() -> None:
    """It is found before anything is recorded: what is behind it goes on, and the step's effect is undone."""

    async def wordy(event: Placed, _: StepContext) -> Charged:
        return Charged(order_id=event.order_id, number=event.number)

    async with running_harness(payment(wordy), started=False) as harness:
        harness.backend.backend.log.bound = 60
        harness.host()
        await harness.publish(Placed(order_id="o" * 30), Placed(order_id="o-2"))
        await harness.caught_up()
        assert [(record.event.key, record.event.type) for record in await harness.log() if record.event.step] == [
            ("o" * 30, facts.STEP_FAILED),
            ("o-2", "Charged"),
        ]
        failed = await harness.one(facts.STEP_FAILED)
        assert not failed.certain
        assert "does not fit into the log, which takes 60" in failed.reason
