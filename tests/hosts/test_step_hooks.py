"""Hooks of a service wrap every attempt of its handlers and compensations, and their errors bear their names."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import msgspec
import pytest

from choreo import Call, DeclarationError, NonRetryableError, Retry, Service, StepContext
from choreo.app.failures import Failure
from choreo.core import facts
from tests.hosts.harness import (
    Charged,
    Confirmed,
    Placed,
    both_backends,
    charged,
    payment,
    plain_payment,
    running_harness,
)

ONCE = Retry(max_attempts=1)
TENANT: ContextVar[str] = ContextVar("tenant", default="")


def recorder(told: list[str], name: str) -> Any:
    """Return a hook that tells when it begins and ends."""

    async def hook(ctx: StepContext, call: Call) -> Any:
        told.append(f"{name} before {ctx.step} {ctx.attempt}")
        try:
            return await call()
        finally:
            told.append(f"{name} after")

    hook.__name__ = name
    return hook


@pytest.mark.parametrize("form", [payment, plain_payment])
@both_backends
async def test_hooks_wrap_every_attempt_in_declared_order(form: Any, backend: str) -> None:
    """Also one that fails; the first declared is the outermost; a context variable that a hook sets is seen."""
    told: list[str] = []

    def plain(event: Placed, ctx: StepContext) -> Any:
        told.append(f"charge {TENANT.get()}")
        if ctx.attempt == 1:
            raise ConnectionError
        return Charged(order_id=event.order_id)

    async def charge(event: Placed, ctx: StepContext) -> Any:
        return plain(event, ctx)

    service = form(plain if form is plain_payment else charge, retry=Retry(initial=0, max_attempts=2))
    service.around(recorder(told, "outer"))

    @service.around
    async def tenant(ctx: StepContext, call: Call) -> Any:
        TENANT.set(ctx.key)
        return await call()

    service.around(recorder(told, "inner"))
    async with running_harness(service, backend=backend) as harness:
        await harness.publish(Placed(order_id="o-1"))
        await harness.one("Charged")
    around = ["charge o-1", "inner after", "outer after"]
    first, second = ([f"outer before payment.charge {n}", f"inner before payment.charge {n}", *around] for n in (1, 2))
    assert told == first + second


async def test_hooks_wrap_a_handler_of_several_events() -> None:
    """The needed events reach the handler through the hooks."""
    told: list[str] = []
    service = payment()

    @service.step(on=Charged, emits=Confirmed, effect=False)
    async def confirm(charged: Charged, placed: Placed, ctx: StepContext) -> Confirmed:
        told.append(f"confirm {charged.number} {placed.number}")
        return Confirmed(order_id=placed.order_id)

    service.around(recorder(told, "outer"))
    async with running_harness(service) as harness:
        await harness.publish(Placed(order_id="o-1", number=7))
        await harness.one("Confirmed")
    assert told[2:] == ["outer before payment.confirm 1", "confirm 7 7", "outer after"]


async def test_hooks_wrap_compensations() -> None:
    """Of a doubt too; `ctx.undoes` tells them from the forward attempt."""
    told: list[str] = []
    service = payment()

    @service.around
    async def tell(ctx: StepContext, call: Call) -> Any:
        told.append("undo" if ctx.undoes else "forward")
        return await call()

    async with running_harness(service) as harness:
        await harness.publish(Placed(order_id="o-1"))
        charged = await harness.one("Charged")
        placed = (await harness.log())[0].event
        await harness.publish(harness.undo_request(placed, outcome=1))
        await harness.one("Refunded")
    assert charged.key == "o-1"
    assert told == ["forward", "undo"]


@pytest.mark.parametrize("form", [payment, plain_payment])
async def test_an_error_of_a_hook_is_a_failure_with_its_name(form: Any) -> None:
    """Of a service with plain handlers too. Its frames show the hook; the handler was not called."""
    service = form(charged, retry=ONCE)
    service.around(recorder([], "outer"))

    @service.around
    async def fetch_secret(ctx: StepContext, call: Call) -> Any:
        raise ConnectionError("the vault is away")

    async with running_harness(service) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
    assert failed.reason == "attempt 1 failed in hook fetch_secret with ConnectionError: the vault is away"
    failure = msgspec.json.decode(failed.data, type=Failure)
    assert failure.type == "ConnectionError"
    assert "in fetch_secret: raise ConnectionError" in failure.frames[-1]


async def test_an_error_of_the_handler_passes_through_the_hooks_as_it_is() -> None:
    """Its rule decides on the retry: an error in `never=` is not tried again."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        raise LookupError("no such card")

    service = payment(charge, retry=Retry(initial=0, max_attempts=5, never=(LookupError,)))
    service.around(recorder([], "outer"))
    async with running_harness(service) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
    assert failed.reason == "attempt 1 failed with LookupError: no such card (is not tried again)"


async def test_a_hook_may_say_that_no_retry_helps() -> None:
    """By the error that a handler raises for it."""
    service = payment(retry=Retry(initial=0, max_attempts=5))

    @service.around
    async def allowed(ctx: StepContext, call: Call) -> Any:
        raise NonRetryableError("this key is blocked")

    async with running_harness(service) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
    assert failed.reason.startswith("attempt 1 failed in hook allowed with NonRetryableError: this key is blocked (is")


@pytest.mark.parametrize(
    ("mistake", "told"),
    [("forget", "the hook returned nothing"), ("skip", "did not call"), ("twice", "twice"), ("swallow", "raise it")],
)
async def test_a_hook_that_breaks_the_rule_fails_the_attempt(mistake: str, told: str) -> None:
    """It does not return the outcome, does not call, calls twice, or hides the handler's error."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        if mistake == "swallow":
            raise ConnectionError
        return Charged(order_id=event.order_id)

    service = payment(charge, retry=ONCE)

    @service.around
    async def odd(ctx: StepContext, call: Call) -> Any:
        if mistake == "skip":
            return None
        try:
            outcome = await call()
        except ConnectionError:
            return None
        return await call() if mistake == "twice" else None if mistake == "forget" else outcome

    async with running_harness(service) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
    assert "failed in hook odd with HookMistakeError" in failed.reason
    assert told in failed.reason


async def test_a_step_that_hangs_in_a_hook_times_out() -> None:
    """The timeout is of the attempt, hooks included."""
    service = payment(retry=ONCE, timeout=0.01)

    @service.around
    async def hang(ctx: StepContext, call: Call) -> Any:
        await asyncio.Event().wait()
        return await call()

    async with running_harness(service) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
    assert failed.reason == "attempt 1 gave no answer within 10ms"


def test_a_hook_is_an_async_function_of_two_arguments() -> None:
    """Declared on the whole service, once."""
    service = payment()

    async def one(ctx: StepContext) -> None:
        raise AssertionError

    def plain(ctx: StepContext, call: Call) -> Any:
        raise AssertionError

    good = service.around(recorder([], "good"))
    mistakes = [
        (service, 7, "7 is not callable"),
        (service, one, "around one: the hook cannot take (ctx, call)"),
        (service, plain, "around plain: the hook is not an async function. Write: async def hook"),
        (service, good, "around good: the hook is declared twice"),
        (service.only("charge"), recorder([], "late"), "a hook is declared on a part that only() returned"),
    ]
    for where, hook, sentence in mistakes:
        with pytest.raises(DeclarationError) as raised:
            where.around(hook)
        assert sentence in str(raised.value)
    assert service.only("charge").hooks == (good,)
    assert Service("other").hooks == ()
