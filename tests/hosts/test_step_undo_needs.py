"""A compensation that needs events of its run: those from before compensation began, the same in every attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace

from choreo import Event, Retry, Service, StepContext
from choreo.core import facts, retired
from choreo.core.events import Envelope
from tests.hosts.harness import Charged, Declined, Harness, Placed, Refunded, both_backends, running_harness


class Noted(Event):
    """Somebody wrote a note."""

    order_id: str
    text: str = ""


def notes() -> Service:
    """Return the service that notes; the tests publish its events."""
    service = Service("notes")

    @service.step(on=Placed, emits=Noted, effect=False)
    async def note(event: Placed, ctx: StepContext) -> Noted:
        raise AssertionError("the tests publish its events")

    return service


def payment(calls: list[Any], fails: Callable[[], bool] = lambda: False) -> Service:
    """Return a service whose compensation needs the start, a note that may be missing, and all notes."""
    service = Service("payment")

    @service.step(on=Placed, emits=Charged, fails=Declined)
    async def charge(event: Placed, ctx: StepContext) -> Charged | Declined:
        return Charged(order_id=ctx.key, number=event.number + 1)

    @charge.compensate(emits=Refunded, retry=Retry(max_attempts=3, initial="1h", max_interval="1h"))
    async def refund(charged: Charged | None, placed: Placed, all_: list[Noted], ctx: StepContext) -> Refunded | None:
        calls.append((charged.number if charged else None, placed.number, [note.text for note in all_]))
        if fails():
            raise ConnectionError("not now")
        return Refunded(order_id=ctx.key)

    return service


@asynccontextmanager
async def needing(service: Service, backend: str = "memory", **options: Any) -> AsyncIterator[Harness]:
    """Yield a harness, with no host yet."""
    async with running_harness(service, notes(), started=False, backend=backend, **options) as harness:
        yield harness


def noted(harness: Harness, placed: Envelope, text: str) -> Envelope:
    """Return a note of this run."""
    about = {"run": placed.run, "step": "notes.note", "causation": placed.id}
    return harness.event(Noted(order_id="o-1", text=text), id=f"note-{text}", **about)


async def compensating(harness: Harness, *texts: str) -> Envelope:
    """Play a run that was charged and has these notes, and whose compensation has started."""
    placed = harness.event(Placed(order_id="o-1", number=7))
    await harness.publish(placed, *(noted(harness, placed, text) for text in texts))
    await harness.one("Charged")
    await harness.publish(harness.fact(placed, facts.COMPENSATION_STARTED))
    return placed


@both_backends
async def test_a_compensation_gets_the_events_from_before_it_began(backend: str) -> None:
    """A later note is none of them."""
    calls: list[Any] = []
    async with needing(payment(calls), backend) as harness:
        harness.host()
        placed = await compensating(harness, "one", "two")
        await harness.publish(noted(harness, placed, "late"), harness.undo_request(placed, outcome=3))
        await harness.one("Refunded")
    assert calls == [(8, 7, ["one", "two"])]


@both_backends
async def test_every_attempt_and_every_round_gets_the_same_events(backend: str) -> None:
    """An hour later, in another process, and when an operator asks for it once more."""
    calls: list[Any] = []
    async with needing(payment(calls, fails=lambda: len(calls) < 2), backend) as harness:
        harness.host("one")
        placed = await compensating(harness, "one")
        request = harness.undo_request(placed, outcome=2)
        await harness.publish(request)
        failed = await harness.one(facts.STEP_ATTEMPT_FAILED)
        await harness.caught_up()
        await harness.stop()
        harness.host("two")
        await harness.publish(noted(harness, placed, "late"), harness.retry_due(failed, outcome=2, step=request.step))
        await harness.one("Refunded")
        await harness.publish(harness.undo_request(placed, outcome=2, round_=2, n=1))
        await harness.published("Refunded", 2)
    assert calls == [(8, 7, ["one"])] * 3


async def test_a_lost_inbox_finds_the_needed_events_in_the_log() -> None:
    """The gates are folded again, up to the same fact."""
    calls: list[Any] = []
    async with needing(payment(calls)) as harness:
        harness.host("one")
        placed = await compensating(harness, "one")
        await harness.caught_up()
        await harness.stop()
        harness.lose_inbox()
        harness.host("two")
        await harness.publish(noted(harness, placed, "late"), harness.undo_request(placed, outcome=2))
        await harness.one("Refunded")
    assert calls == [(8, 7, ["one"])]


async def test_an_outcome_in_doubt_comes_with_the_needed_events_too() -> None:
    """The first argument is None."""
    calls: list[Any] = []
    async with needing(payment(calls)) as harness:
        harness.host()
        placed = await compensating(harness)
        await harness.publish(harness.undo_request(placed))
        await harness.one("Refunded")
    assert calls == [(None, 7, [])]


async def test_a_needed_event_that_is_not_there_fails_the_compensation_with_its_name() -> None:
    """The dead letter names the event and the remedy; where it may be missing the handler gets None."""
    service = Service("payment")
    calls: list[Any] = []

    @service.step(on=Placed, emits=Charged)
    async def charge(event: Placed, ctx: StepContext) -> Charged:
        return Charged(order_id=ctx.key)

    @charge.compensate(emits=Refunded)
    async def refund(charged: Charged, note: Noted, ctx: StepContext) -> Refunded:
        return Refunded(order_id=ctx.key)

    @service.step(on=Placed, emits=Declined)
    async def other(event: Placed, ctx: StepContext) -> Declined:
        return Declined(order_id=ctx.key)

    @other.compensate(emits=Refunded)
    async def forget(declined: Declined, note: Noted | None, ctx: StepContext) -> Refunded:
        calls.append(note)
        return Refunded(order_id=ctx.key)

    async with needing(service) as harness:
        harness.host()
        placed = await compensating(harness)
        await harness.one("Declined")
        offsets = {record.event.type: record.offset for record in await harness.log()}
        await harness.publish(harness.undo_request(placed, outcome=offsets["Charged"]))
        failed = await harness.one(facts.COMPENSATION_FAILED)
        (letter,) = await harness.dead_letters()
        request = harness.undo_request(placed, outcome=offsets["Declined"], round_=2)
        other_entry = {"id": "request-other", "entry": "entry-other"}
        await harness.publish(replace(request, step="payment.other", **other_entry))
        await harness.one("Refunded")
    assert failed.step == "payment.charge"
    for part in (
        "undo of payment.charge, event Noted",
        "the run had none before its compensation began",
        "Noted | None",
    ):
        assert part in letter.cause
    assert calls == [None]


async def ended_runs(harness: Harness, count: int) -> list[Envelope]:
    """Play runs of one key, one after the other, which complete; the first is a child."""
    starts = [harness.event(Placed(order_id="o-1", number=number)) for number in range(count)]
    starts[0] = replace(starts[0], parent="a-parent")
    for start in starts:
        await harness.publish(start, harness.fact(start, facts.FLOW_COMPLETED))
    return starts


async def test_a_completed_child_is_undone_with_its_events_after_many_later_runs_of_its_key() -> None:
    """Its parent may be undone later than that."""
    calls: list[Any] = []
    async with needing(payment(calls)) as harness:
        harness.host()
        placed, *_ = await ended_runs(harness, 3 * retired.KEPT_MAX)
        await harness.publish(harness.fact(placed, facts.COMPENSATION_STARTED), harness.undo_request(placed))
        await harness.one("Refunded")
    assert calls == [(None, 0, [])]


async def test_a_completed_child_that_is_stuck_for_long_is_undone_with_its_events() -> None:
    """It is open again from the moment at which its parent undoes it, until it has ended once more."""
    calls: list[Any] = []
    async with needing(payment(calls), linger="10s") as harness:
        harness.host()
        (placed,) = await ended_runs(harness, 1)
        await harness.publish(harness.fact(placed, facts.COMPENSATION_STARTED))
        await harness.caught_up()
        await harness.clock.advance(20)
        await harness.publish(harness.event(Placed(order_id="o-1", number=50)))
        await harness.publish(harness.undo_request(placed, round_=2))
        await harness.one("Refunded")
    assert calls == [(None, 0, [])]


async def test_a_late_success_is_undone_with_its_events_after_many_later_runs_of_its_key() -> None:
    """The run had ended with an effect in doubt."""
    calls: list[Any] = []
    async with needing(payment(calls)) as harness:
        harness.host()
        placed = harness.event(Placed(order_id="o-1", number=100))
        await harness.publish(placed, harness.fact(placed, facts.COMPENSATION_STARTED), harness.undo_request(placed))
        await harness.published("Refunded")
        await harness.publish(harness.fact(placed, facts.FLOW_COMPENSATED))
        await ended_runs(harness, 3 * retired.KEPT_MAX)
        await harness.publish(harness.undo_request(placed, round_=2))
        await harness.published("Refunded", 2)
    assert calls == [(None, 100, [])] * 2
