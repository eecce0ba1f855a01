"""The baggage of a run in its handlers: read, set, and carried by the outcome of the recorded attempt."""

from __future__ import annotations

import os
from typing import Any

from msgspec.structs import replace

from choreo import Retry, StepContext
from choreo.core import facts
from choreo.core.baggage import BaggageHeader
from tests.hosts.harness import Charged, Declined, Placed, both_backends, payment, running_harness
from tests.hosts.test_step_gates import charged, gated, picked
from tests.support.long_sums import payment as in_a_process

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


@both_backends
async def test_an_outcome_carries_its_triggers_baggage_on(backend: str) -> None:
    """As it is written, with properties; the handler reads it decoded."""
    seen: list[dict[str, str]] = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        seen.append(dict(ctx.baggage))
        assert ctx.baggage_header.text == "user=Jo%C3%A3o;ttl=5"
        return Charged(order_id=event.order_id)

    async with running_harness(payment(charge), backend=backend) as harness:
        header = "user=Jo%C3%A3o;ttl=5"
        await harness.publish(
            harness.event(Placed(order_id="o-1"), baggage=header, traceparent=TRACE, tracestate="x=1")
        )
        event = await harness.one("Charged")
    assert (event.baggage, event.traceparent, event.tracestate) == (header, TRACE, "x=1")
    assert seen == [{"user": "João"}]


@both_backends
async def test_only_the_recorded_attempt_counts(backend: str) -> None:
    """A retry starts with the trigger's baggage; the failure of the first attempt carries that too."""
    seen: list[dict[str, str]] = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        seen.append(dict(ctx.baggage))
        ctx.set_baggage(f"attempt{ctx.attempt}", "yes, it was")
        if ctx.attempt == 1:
            raise TimeoutError
        return Charged(order_id=event.order_id)

    later = Retry(initial="1h", max_interval="1h", max_attempts=2)
    async with running_harness(payment(charge, retry=later), backend=backend) as harness:
        await harness.publish(harness.event(Placed(order_id="o-1"), baggage="tenant=a"))
        failed = await harness.one(facts.STEP_ATTEMPT_FAILED)
        assert failed.baggage == "tenant=a"
        await harness.publish(harness.retry_due(failed, outcome=0))
        event = await harness.one("Charged")
    assert seen == [{"tenant": "a"}, {"tenant": "a"}]
    assert dict(BaggageHeader(event.baggage).values) == {"tenant": "a", "attempt2": "yes, it was"}


async def test_a_declared_failure_and_a_compensation_carry_what_they_set() -> None:
    """A compensation begins with the baggage of its request."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        ctx.set_baggage("why", "poor")
        return Declined(order_id=event.order_id)

    async def refund(outcome: Charged | None, ctx: StepContext) -> Any:
        ctx.set_baggage("seen", ctx.baggage["tenant"])

    async with running_harness(payment(charge, refund)) as harness:
        placed = harness.event(Placed(order_id="o-1"), baggage="tenant=a")
        await harness.publish(placed)
        assert (await harness.one("Declined")).baggage == "tenant=a,why=poor"
        request = harness.undo_request(placed)
        await harness.publish(harness.fact(placed, facts.COMPENSATION_STARTED), replace(request, baggage="tenant=b"))
        assert (await harness.one(facts.NOTHING_TO_COMPENSATE)).baggage == "tenant=b,seen=b"


async def test_baggage_that_cannot_be_carried_fails_the_attempt() -> None:
    """With the remedy in the reason; nothing stops."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        ctx.set_baggage("large", "x" * 9_000)
        return Charged(order_id=event.order_id)

    async with running_harness(payment(charge, retry=Retry(max_attempts=1))) as harness:
        await harness.publish(harness.event(Placed(order_id="o-1"), baggage="tenant=a"))
        failed = await harness.one(facts.STEP_FAILED)
    assert failed.baggage == "tenant=a"
    assert "baggage large: it would have 2 members and 9,015 bytes" in failed.reason
    assert "Carry an id, and keep the content elsewhere." in failed.reason


async def test_malformed_baggage_of_a_foreign_event_stops_nothing() -> None:
    """Its well-formed members are read; it is passed on as it came until somebody adds to it."""
    seen: list[dict[str, str]] = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        seen.append(dict(ctx.baggage))
        if event.order_id == "o-2":
            ctx.set_baggage("tenant", "a")
        return Charged(order_id=event.order_id)

    async with running_harness(payment(charge)) as harness:
        for key in ("o-1", "o-2"):
            await harness.publish(harness.event(Placed(order_id=key), baggage="\x00,=,user=jo,;"))
        events = await harness.published("Charged", 2)
    assert [event.baggage for event in events] == ["\x00,=,user=jo,;", "user=jo,tenant=a"]
    assert seen == [{"user": "jo"}] * 2


async def test_a_handler_in_a_process_of_its_own_sets_baggage_too() -> None:
    """Its context travels there, and the change back."""
    async with running_harness(in_a_process) as harness:
        await harness.publish(harness.event(Placed(order_id="carries"), baggage="tenant=a"))
        event = await harness.one("Charged")
    values = BaggageHeader(event.baggage).values
    assert (values["tenant"], values["seen"]) == ("a", "a")
    assert values["worker"] != str(os.getpid())


@both_backends
async def test_a_step_behind_a_wait_continues_what_opened_it(backend: str) -> None:
    """Early or late, and also when its host is another one that has lost the inbox."""
    async with gated(backend) as (harness, calls):
        placed = harness.event(Placed(order_id="o-1"), baggage="tenant=a")
        opener = charged(harness, placed)
        harness.host()
        await harness.publish(placed, replace(opener, baggage="tenant=a,n=1", traceparent=TRACE))
        await harness.caught_up()
        await harness.stop()
        if backend == "memory":
            harness.lose_inbox()
        harness.host("two")
        await harness.publish(replace(picked(harness), baggage="n=2"))
        confirmed = await harness.one("Confirmed")
    assert (confirmed.baggage, confirmed.traceparent) == ("tenant=a,n=2", TRACE)
    assert [dict(call.baggage) for call in calls] == [{"tenant": "a", "n": "2"}]


async def test_an_early_event_gets_the_baggage_of_the_opener() -> None:
    """In log order: of one name the opener's counts here."""
    async with gated() as (harness, calls):
        placed = harness.event(Placed(order_id="o-1"))
        harness.host()
        await harness.publish(placed, replace(picked(harness), baggage="n=2,m=2"))
        await harness.publish(replace(charged(harness, placed), baggage="n=1"))
        await harness.one("Confirmed")
    assert [dict(call.baggage) for call in calls] == [{"m": "2", "n": "1"}]


@both_backends
async def test_a_redrive_gets_the_headers_of_the_first_attempt(backend: str) -> None:
    """Those of the opener too: the dead letter keeps them."""
    async with gated(backend) as (harness, calls):
        placed = harness.event(Placed(order_id="o-1"))
        harness.host()
        opener = replace(charged(harness, placed), baggage="tenant=a", traceparent=TRACE)
        await harness.publish(placed, opener, replace(picked(harness), baggage="n=2", data=b"no Avro"))
        await harness.one(facts.STEP_FAILED)
        (dead_letter,) = await harness.dead_letters()
        kept = dead_letter.record.event
        assert (kept.baggage, kept.traceparent) == ("tenant=a,n=2", TRACE)
        call = {"step": dead_letter.step, "trigger": kept.id, "baggage": kept.baggage, "traceparent": kept.traceparent}
        await harness.publish(replace(picked(harness, "picked-2"), run=placed.id))
        (good,) = [record.offset for record in await harness.log() if record.event.id == "picked-2"]
        await harness.publish(harness.fact(placed, facts.REDRIVEN, **{**call, "trigger": "picked-2"}, outcome=good))
        assert (await harness.one("Confirmed")).baggage == "tenant=a,n=2"
    assert [dict(context.baggage) for context in calls] == [{"tenant": "a", "n": "2"}]
