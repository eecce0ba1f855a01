"""Long attempts report: silence fails them, their last report reaches the next attempt, and a turned run tells them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from choreo import DeclarationError, Retry, Service, StepContext
from choreo.core import facts
from choreo.core.errors import ProgressError
from tests.hosts.harness import (
    Charged,
    Harness,
    Placed,
    both_backends,
    charged,
    payment,
    plain_payment,
    running_harness,
)

LONG: dict[str, Any] = {"timeout": "1h", "heartbeat": "30s"}


async def test_a_silent_attempt_fails_and_is_retried() -> None:
    """Its handler is cancelled; the failure names the silence."""
    ended: list[str] = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(f"attempt {ctx.attempt}")
            raise

    service = payment(charge, retry=Retry(initial=0, max_attempts=2), **LONG)
    async with running_harness(service) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await _passing(harness, facts.STEP_FAILED, 10)
        await harness.until(lambda: len(ended) == 2)
    assert failed.reason == "2 attempts failed, the last one: attempt 2 reported nothing for 30s"
    assert ended == ["attempt 1", "attempt 2"]


async def test_a_silent_thread_is_written_off() -> None:
    """A plain handler cannot be cancelled; its late outcome is dropped."""
    gate = threading.Event()

    def charge(event: Placed, ctx: StepContext) -> Any:
        if ctx.attempt == 1:
            gate.wait()
        return Charged(order_id=event.order_id, number=ctx.attempt)

    service = plain_payment(charge, retry=Retry(initial=0, max_attempts=2), **LONG)
    async with running_harness(service) as harness:
        await harness.publish(Placed(order_id="o-1"))
        outcome = await _passing(harness, "Charged", 10)
        gate.set()
    assert outcome.attempt == 2


async def test_an_attempt_that_reports_goes_on() -> None:
    """Longer than its heartbeat; a report without progress counts too."""
    turns = 0
    beats: list[int] = []

    async def charge(event: Placed, ctx: StepContext) -> Any:
        for n in range(5):
            await ctx.heartbeat()
            beats.append(n)
            await Harness.until(lambda n=n: turns > n)  # type: ignore[misc]
        return await charged(event, ctx)

    async with running_harness(payment(charge, **LONG)) as harness:
        await harness.publish(Placed(order_id="o-1"))
        for n in range(5):
            await harness.until(lambda n=n: len(beats) > n)  # type: ignore[misc]
            await harness.clock.advance(20)
            turns += 1
        outcome = await harness.one("Charged")
    assert outcome.attempt == 1


@pytest.mark.parametrize("form", ["async", "plain"])
@both_backends
async def test_the_next_attempt_gets_the_last_report(form: str, backend: str) -> None:
    """Also of an attempt that failed at once after it; the first attempt gets None."""
    seen: list[Any] = []

    def plain(event: Placed, ctx: StepContext) -> Any:
        seen.append(ctx.progress)
        if ctx.attempt < 3:
            ctx.heartbeat({"page": ctx.attempt * 10})
            ctx.heartbeat({"page": ctx.attempt * 10 + 1}).wait()
            raise ConnectionError
        return Charged(order_id=event.order_id)

    async def charge(event: Placed, ctx: StepContext) -> Any:
        seen.append(ctx.progress)
        if ctx.attempt < 3:
            await ctx.heartbeat({"page": ctx.attempt * 10 + 1})
            raise ConnectionError
        return Charged(order_id=event.order_id)

    options: dict[str, Any] = {"retry": Retry(initial=0, max_attempts=3), **LONG}
    service = plain_payment(plain, **options) if form == "plain" else payment(charge, **options)
    async with running_harness(service, backend=backend) as harness:
        await harness.publish(Placed(order_id="o-1"))
        await harness.one("Charged")
    assert seen == [None, {"page": 11}, {"page": 21}]


@both_backends
async def test_a_report_outlives_its_host(backend: str) -> None:
    """A host that ends without the attempt's outcome leaves the report to the next host."""
    seen: list[Any] = []
    gate = threading.Event()

    def charge(event: Placed, ctx: StepContext) -> Any:
        seen.append(ctx.progress)
        if ctx.attempt == 1:
            ctx.heartbeat([1, "two"]).wait()
            seen.append("stored")
            gate.wait()
        return Charged(order_id=event.order_id)

    async with running_harness(plain_payment(charge, **LONG), backend=backend, started=False) as harness:
        harness.host("one", stop_s=0)
        await harness.publish(Placed(order_id="o-1"))
        await harness.until(lambda: "stored" in seen)
        await harness.stop()
        harness.host("two")
        await _passing(harness, "Charged", 1)
        gate.set()
    assert seen == [None, "stored", [1, "two"]]


@pytest.mark.parametrize("fact", [facts.COMPENSATION_STARTED, facts.FLOW_TERMINATED])
async def test_an_attempt_learns_that_its_run_was_stopped(fact: str) -> None:
    """A pause alone changes nothing; other runs are not told."""
    told: dict[str, bool] = {}
    running: list[str] = []
    may_end = False

    async def charge(event: Placed, ctx: StepContext) -> Any:
        running.append(ctx.key)
        await Harness.until(lambda: ctx.cancelled or may_end)
        told[ctx.key] = ctx.cancelled
        return await charged(event, ctx)

    async with running_harness(payment(charge, **LONG)) as harness:
        stopped, other = harness.event(Placed(order_id="o-1")), harness.event(Placed(order_id="o-2"))
        await harness.publish(stopped, other)
        await harness.until(lambda: len(running) == 2)
        await harness.publish(harness.fact(other, facts.FLOW_PAUSED, n=1))
        await harness.publish(harness.fact(stopped, fact))
        await harness.until(lambda: "o-1" in told)
        may_end = True
        await harness.published("Charged", 2)
    assert told == {"o-1": True, "o-2": False}


@pytest.mark.parametrize(
    ("progress", "sentence"),
    [
        ({1, 2}, "the progress is not JSON: Object of type set is not JSON serializable. Report texts"),
        (float("nan"), "the progress is not JSON"),
        ("x" * 20_000, "the progress has 20,002 bytes, 16,384 are allowed. Report a place to go on from"),
    ],
)
async def test_progress_that_cannot_be_stored_is_refused(progress: Any, sentence: str) -> None:
    """Where it is reported, with the step and the remedy."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        await ctx.heartbeat(progress)

    async with running_harness(payment(charge, retry=Retry(max_attempts=1), **LONG)) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
    assert f"attempt 1 failed with step payment.charge, heartbeat: {sentence}" in failed.reason


async def test_a_handler_waits_for_a_store_that_is_away() -> None:
    """Its report is stored once the store is back; the attempt goes on."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        await ctx.heartbeat("half")
        return await charged(event, ctx)

    async with running_harness(payment(charge, **LONG)) as harness:
        harness.faults.fail("inbox.keep_gates", times=2)
        await harness.publish(Placed(order_id="o-1"))
        outcome = await _passing(harness, "Charged", 1)
    assert outcome.attempt == 1


async def test_only_a_step_with_a_heartbeat_reports() -> None:
    """Elsewhere the report has no effect that anybody could rely on, so it is refused; a unit test may call it."""

    async def charge(event: Placed, ctx: StepContext) -> Any:
        await ctx.heartbeat("half")

    async with running_harness(payment(charge, retry=Retry(max_attempts=1))) as harness:
        await harness.publish(Placed(order_id="o-1"))
        failed = await harness.one(facts.STEP_FAILED)
    assert "the step has no heartbeat=. Declare it: @service.step(…, heartbeat=" in failed.reason
    ctx = StepContext("order", "o-1", "r-1", "payment.charge", 1, "key")
    with pytest.raises(ProgressError):
        ctx.heartbeat()
    assert not ctx.cancelled
    assert ctx.progress is None


def test_a_heartbeat_is_shorter_than_the_timeout() -> None:
    """A timeout that is as short ends a silent attempt first."""

    async def charge(event: Placed, ctx: StepContext) -> Charged:
        raise AssertionError

    service = Service("payment")
    for heartbeat, sentence in (("30s", "is not shorter than the timeout"), (0, "heartbeat=0 leaves no time")):
        with pytest.raises(DeclarationError, match=sentence):
            service.step(on=Placed, emits=Charged, heartbeat=heartbeat)(charge)


async def _passing(harness: Harness, type_: str, each_s: float) -> Any:
    """Return the first event of this type; time passes until it is there."""
    while True:
        found = [record.event for record in await harness.log() if record.event.type == type_]
        if found:
            return found[0]
        await harness.clock.advance(each_s)
