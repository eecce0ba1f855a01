"""A step on an event from outside runs only once its wait is open, whatever comes first or dies in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace

from choreo import Event, Service, StepContext
from choreo.core import facts
from choreo.core.events import Envelope
from tests.hosts.stage import Charged, Confirmed, Placed, Stage, both_homes, payment, staged

HOUR_MS = 3_600_000


class Picked(Event):
    """The parcel has left the warehouse."""

    order_id: str
    number: int = 0


class NotPicked(Event):
    """Nobody came for the parcel."""

    order_id: str


def mail(calls: list[StepContext]) -> Service:
    """`mail.confirm`, a step on an event from outside; its calls are noted."""
    service = Service("mail")

    @service.step(on=Picked, emits=Confirmed, effect=False)
    async def confirm(event: Picked, ctx: StepContext) -> Confirmed:
        calls.append(ctx)
        return Confirmed(order_id=event.order_id)

    return service


@asynccontextmanager
async def gated(home: str = "memory") -> AsyncIterator[tuple[Stage, list[StepContext]]]:
    """A stage for `mail`, with no host yet, and its calls; an order is confirmed when it is paid and picked."""
    calls: list[StepContext] = []
    wait = {"on": Charged, "until": Picked, "timeout": "1h", "fails": NotPicked}
    async with staged(mail(calls), payment(), started=False, home=home, wait=wait) as stage:
        yield stage, calls


def charged(stage: Stage, placed: Envelope, id_: str = "charged") -> Envelope:
    """What `payment.charge` says of this start."""
    about = {"id": id_, "run": placed.run, "step": "payment.charge", "causation": placed.id, "hops": 1}
    return stage.event(Charged(order_id=placed.key), **about)


def picked(stage: Stage, id_: str = "picked", run: str = "") -> Envelope:
    """What the warehouse says."""
    return stage.event(Picked(order_id="o-1"), id=id_, run=run)


@both_homes
async def test_an_event_that_comes_before_its_wait_runs_nothing_until_the_wait_opens(home: str) -> None:
    """The order is not confirmed before it is paid; the early event is its trigger all the same."""
    async with gated(home) as (stage, calls):
        placed = stage.event(Placed(order_id="o-1"))
        stage.host()
        await stage.publish(placed, picked(stage))
        await stage.caught_up()
        assert calls == []
        await stage.publish(charged(stage, placed))
        confirmed = await stage.one("Confirmed")
        assert (confirmed.causation, confirmed.run, confirmed.hops) == ("picked", placed.id, 3)
    assert [call.event_id for call in calls] == ["picked"]


@both_homes
async def test_an_order_that_is_declined_is_never_confirmed(home: str) -> None:
    """Its wait never opens. An event for it that comes after the turn is answered with the reason."""
    async with gated(home) as (stage, calls):
        placed = stage.event(Placed(order_id="o-1"))
        stage.host()
        await stage.publish(placed, picked(stage), stage.fact(placed, facts.FLOW_TURNED), picked(stage, "late"))
        ignored = await stage.one(facts.TRIGGER_IGNORED)
        assert (ignored.causation, ignored.step, ignored.run) == ("late", "mail.confirm", placed.id)
        assert ignored.reason == "its run is turned back"
        await stage.caught_up()
    assert calls == []


@both_homes
async def test_a_host_that_dies_in_between_loses_no_early_event(home: str) -> None:
    """The next one finds it in the inbox, and does not read the log from its beginning."""
    async with gated(home) as (stage, calls):
        placed = stage.event(Placed(order_id="o-1"))
        stage.host("first")
        await stage.publish(placed, picked(stage))
        await stage.caught_up()
        await stage.stop()
        stage.host("second")
        await stage.publish(charged(stage, placed))
        await stage.one("Confirmed")
    assert len(calls) == 1


async def test_gates_that_are_lost_with_the_inbox_are_folded_again_from_the_log() -> None:
    """Neither is an early event forgotten, nor does one that was taken run its step a second time."""
    async with gated() as (stage, calls):
        placed, second = stage.event(Placed(order_id="o-1")), stage.event(Placed(order_id="o-2"))
        taken = stage.event(Picked(order_id="o-2"), id="taken")
        stage.host("first")
        await stage.publish(placed, picked(stage), second, charged(stage, second, "second charged"), taken)
        await stage.one("Confirmed")
        await stage.caught_up()
        await stage.stop()
        stage.lose_inbox()
        stage.host("second")
        await stage.publish(charged(stage, placed))
        await stage.said("Confirmed", 2)
        await stage.caught_up()
    assert [call.key for call in calls] == ["o-2", "o-1"]


@both_homes
async def test_a_wait_that_timed_out_makes_nothing_ready(home: str) -> None:
    """Also before the turn is announced; a timer fact of before a pause closes nothing."""
    async with gated(home) as (stage, calls):
        placed = stage.event(Placed(order_id="o-1"))
        stage.host()
        await stage.publish(placed)
        (opened,) = await stage.publish(charged(stage, placed))
        stamp_ms = (await stage.log())[opened.offset].stamp_ms
        timeout = stage.event(
            NotPicked(order_id="o-1"), id="timeout", run=placed.run, step="wait.Picked", trigger="charged"
        )
        await stage.clock.advance(HOUR_MS / 1_000)
        await stage.publish(replace(timeout, due_ms=stamp_ms + HOUR_MS), picked(stage))
        ignored = await stage.one(facts.TRIGGER_IGNORED)
        assert ignored.reason == "the wait for Picked is over"
    assert calls == []


async def test_a_paused_run_keeps_its_wait_open_for_longer() -> None:
    """The timer fact of before the pause is not this opening's."""
    async with gated() as (stage, calls):
        placed = stage.event(Placed(order_id="o-1"))
        stage.host()
        await stage.publish(placed)
        (opened,) = await stage.publish(charged(stage, placed))
        stamp_ms = (await stage.log())[opened.offset].stamp_ms
        await stage.publish(stage.fact(placed, facts.FLOW_PAUSED, n=1))
        await stage.clock.advance(HOUR_MS / 1_000)
        timeout = stage.event(
            NotPicked(order_id="o-1"), id="timeout", run=placed.run, step="wait.Picked", trigger="charged"
        )
        await stage.publish(stage.fact(placed, facts.FLOW_RESUMED, n=2), replace(timeout, due_ms=stamp_ms + HOUR_MS))
        await stage.publish(picked(stage))
        await stage.one("Confirmed")
    assert len(calls) == 1


async def test_a_record_that_is_read_again_makes_its_job_again() -> None:
    """The gates were kept beyond the committed position: what became ready there is still to be answered."""
    async with gated() as (stage, calls):
        placed = stage.event(Placed(order_id="o-1"))
        await stage.publish(placed, charged(stage, placed), picked(stage))
        stage.host("first")
        await stage.one("Confirmed")
        await stage.caught_up()
        await stage.stop()
        stage.rewind()
        stage.host("second")
        await stage.caught_up()
        types = [record.event.type for record in await stage.log()]
        assert types.count("Confirmed") == 1
    assert len(calls) == 1
