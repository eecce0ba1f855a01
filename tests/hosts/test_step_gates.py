"""A step on an event from outside runs only once its wait is open, in any order of events and after any crash."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from choreo import Event, Service, StepContext, any_of
from choreo.core import facts
from choreo.core.events import Envelope
from tests.hosts.harness import Charged, Confirmed, Harness, Placed, both_backends, payment, running_harness

HOUR_MS = 3_600_000


class Picked(Event):
    """The parcel has left the warehouse."""

    order_id: str
    number: int = 0


class NotPicked(Event):
    """Nobody came for the parcel."""

    order_id: str


def mail(calls: list[StepContext]) -> Service:
    """Return the service of `mail.confirm`, a step on an event from outside; its calls are noted."""
    service = Service("mail")

    @service.step(on=Picked, emits=Confirmed, effect=False)
    async def confirm(event: Picked, ctx: StepContext) -> Confirmed:
        calls.append(ctx)
        return Confirmed(order_id=event.order_id)

    return service


@asynccontextmanager
async def gated(backend: str = "memory") -> AsyncIterator[tuple[Harness, list[StepContext]]]:
    """Yield a harness for `mail`, with no host yet, and its calls; a paid and picked order is confirmed."""
    calls: list[StepContext] = []
    wait = {"on": Charged, "until": Picked, "timeout": "1h", "fails": NotPicked}
    async with running_harness(mail(calls), payment(), started=False, backend=backend, wait=wait) as harness:
        yield harness, calls


def charged(harness: Harness, placed: Envelope, id_: str = "charged") -> Envelope:
    """Return the outcome of `payment.charge` for this start."""
    about = {"id": id_, "run": placed.run, "step": "payment.charge", "causation": placed.id, "hops": 1}
    return harness.event(Charged(order_id=placed.key), **about)


def picked(harness: Harness, id_: str = "picked", run: str = "") -> Envelope:
    """Return the warehouse's event."""
    return harness.event(Picked(order_id="o-1"), id=id_, run=run)


@both_backends
async def test_an_event_that_comes_before_its_wait_runs_nothing_until_the_wait_opens(backend: str) -> None:
    """The order is not confirmed before it is paid; the early event is its trigger all the same."""
    async with gated(backend) as (harness, calls):
        placed = harness.event(Placed(order_id="o-1"))
        harness.host()
        await harness.publish(placed, picked(harness))
        await harness.caught_up()
        assert calls == []
        await harness.publish(charged(harness, placed))
        confirmed = await harness.one("Confirmed")
        assert (confirmed.causation, confirmed.run, confirmed.hops) == ("picked", placed.id, 3)
    assert [call.event_id for call in calls] == ["picked"]


@both_backends
async def test_an_order_that_is_declined_is_never_confirmed(backend: str) -> None:
    """Its wait never opens. An event for it that comes after compensation started is answered with the reason."""
    async with gated(backend) as (harness, calls):
        placed = harness.event(Placed(order_id="o-1"))
        harness.host()
        await harness.publish(
            placed, picked(harness), harness.fact(placed, facts.COMPENSATION_STARTED), picked(harness, "late")
        )
        ignored = await harness.one(facts.TRIGGER_IGNORED)
        assert (ignored.causation, ignored.step, ignored.run) == ("late", "mail.confirm", placed.id)
        assert ignored.reason == "its run is compensating"
        await harness.caught_up()
    assert calls == []


@both_backends
async def test_a_host_that_dies_in_between_loses_no_early_event(backend: str) -> None:
    """The next one finds it in the inbox, and does not read the log from its beginning."""
    async with gated(backend) as (harness, calls):
        placed = harness.event(Placed(order_id="o-1"))
        harness.host("first")
        await harness.publish(placed, picked(harness))
        await harness.caught_up()
        await harness.stop()
        harness.host("second")
        await harness.publish(charged(harness, placed))
        await harness.one("Confirmed")
    assert len(calls) == 1


async def test_gates_that_are_lost_with_the_inbox_are_folded_again_from_the_log() -> None:
    """Neither is an early event forgotten, nor does one that was taken run its step a second time."""
    async with gated() as (harness, calls):
        placed, second = harness.event(Placed(order_id="o-1")), harness.event(Placed(order_id="o-2"))
        taken = harness.event(Picked(order_id="o-2"), id="taken")
        harness.host("first")
        await harness.publish(placed, picked(harness), second, charged(harness, second, "second charged"), taken)
        await harness.one("Confirmed")
        await harness.caught_up()
        await harness.stop()
        harness.lose_inbox()
        harness.host("second")
        await harness.publish(charged(harness, placed))
        await harness.published("Confirmed", 2)
        await harness.caught_up()
    assert [call.key for call in calls] == ["o-2", "o-1"]


@both_backends
async def test_a_wait_that_timed_out_makes_nothing_ready(backend: str) -> None:
    """Also before CompensationStarted is read; a timer fact of before a pause closes nothing."""
    async with gated(backend) as (harness, calls):
        placed = harness.event(Placed(order_id="o-1"))
        harness.host()
        await harness.publish(placed)
        (opened,) = await harness.publish(charged(harness, placed))
        stamp_ms = (await harness.log())[opened.offset].stamp_ms
        timeout = harness.event(
            NotPicked(order_id="o-1"), id="timeout", run=placed.run, step="wait.Picked", trigger="charged"
        )
        await harness.clock.advance(HOUR_MS / 1_000)
        await harness.publish(replace(timeout, due_ms=stamp_ms + HOUR_MS), picked(harness))
        ignored = await harness.one(facts.TRIGGER_IGNORED)
        assert ignored.reason == "the wait for Picked is over"
    assert calls == []


async def test_a_paused_run_keeps_its_wait_open_for_longer() -> None:
    """The timer fact of before the pause is not this opening's."""
    async with gated() as (harness, calls):
        placed = harness.event(Placed(order_id="o-1"))
        harness.host()
        await harness.publish(placed)
        (opened,) = await harness.publish(charged(harness, placed))
        stamp_ms = (await harness.log())[opened.offset].stamp_ms
        await harness.publish(harness.fact(placed, facts.FLOW_PAUSED, n=1))
        await harness.clock.advance(HOUR_MS / 1_000)
        timeout = harness.event(
            NotPicked(order_id="o-1"), id="timeout", run=placed.run, step="wait.Picked", trigger="charged"
        )
        await harness.publish(
            harness.fact(placed, facts.FLOW_RESUMED, n=2), replace(timeout, due_ms=stamp_ms + HOUR_MS)
        )
        await harness.publish(picked(harness))
        await harness.one("Confirmed")
    assert len(calls) == 1


async def test_a_record_that_is_read_again_makes_its_job_again() -> None:
    """The gates were kept beyond the committed position: what became ready there is still to be answered."""
    async with gated() as (harness, calls):
        placed = harness.event(Placed(order_id="o-1"))
        await harness.publish(placed, charged(harness, placed), picked(harness))
        harness.host("first")
        await harness.one("Confirmed")
        await harness.caught_up()
        await harness.stop()
        harness.rewind()
        harness.host("second")
        await harness.caught_up()
        types = [record.event.type for record in await harness.log()]
        assert types.count("Confirmed") == 1
    assert len(calls) == 1


def desk(calls: list[StepContext]) -> Service:
    """Return the service of `desk.tell`, a reaction to the time-out of the wait."""
    service = Service("desk")

    @service.step(on=NotPicked, effect=False)
    async def tell(event: NotPicked, ctx: StepContext) -> None:
        calls.append(ctx)

    return service


@both_backends
async def test_a_time_out_that_changes_nothing_runs_no_reaction(backend: str) -> None:
    """In a pause, or read twice, it ends no wait; the one that does runs the reaction once."""
    calls: list[StepContext] = []
    wait = {"on": Charged, "until": Picked, "timeout": "1h", "fails": NotPicked}
    async with running_harness(desk(calls), payment(), started=False, backend=backend, wait=wait) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        harness.host()
        await harness.publish(placed, charged(harness, placed))
        opened_ms = (await harness.log())[-1].stamp_ms
        due_ms = opened_ms + HOUR_MS
        about = {"run": placed.run, "step": "wait.Picked", "trigger": "charged"}
        late = harness.event(NotPicked(order_id="o-1"), id="late-1", due_ms=due_ms, **about)
        pause = Envelope(id="p1", type=facts.FLOW_PAUSED, key="o-1", flow="order", run=placed.run, n=1)
        await harness.publish(pause)
        await harness.clock.advance(HOUR_MS / 1_000 + 1)
        await harness.publish(late, replace(pause, id="p2", type=facts.FLOW_RESUMED, n=2))
        await harness.caught_up()
        assert calls == []
        paused_ms = (await harness.log())[-1].stamp_ms - (await harness.log())[-3].stamp_ms
        await harness.clock.advance(2 * HOUR_MS / 1_000)
        moved = replace(late, id="late-2", due_ms=due_ms + paused_ms)
        await harness.publish(moved, replace(moved, id="late-3"))
        await harness.caught_up()
    assert [call.event_id for call in calls] == ["late-2"]


class Returned(Event):
    """The parcel came back."""

    order_id: str


class Mislaid(Event):
    """Nobody has seen the parcel: the time-out of a wait that goes on."""

    order_id: str


@both_backends
async def test_the_first_of_several_answers_runs_its_step_and_a_time_out_with_then_its_own(
    backend: str,
) -> None:
    """An answer after the time-out is ignored with the reason."""
    calls: list[str] = []
    service = Service("mail")

    @service.step(on=any_of(Picked, Returned), emits=Confirmed, effect=False)
    async def confirm(event: Picked | Returned, ctx: StepContext) -> Confirmed:
        calls.append(type(event).__name__)
        return Confirmed(order_id=event.order_id)

    @service.step(on=Mislaid, emits=Confirmed, effect=False)
    async def search(event: Mislaid, ctx: StepContext) -> Confirmed:
        calls.append(type(event).__name__)
        return Confirmed(order_id=event.order_id)

    wait = {"on": Charged, "until": (Picked, Returned), "timeout": "1h", "then": Mislaid}
    async with running_harness(service, payment(), started=False, backend=backend, wait=wait) as harness:
        placed, late = harness.event(Placed(order_id="o-1")), harness.event(Placed(order_id="o-2"))
        harness.host()
        await harness.publish(placed, charged(harness, placed), harness.event(Returned(order_id="o-1"), id="returned"))
        confirmed = await harness.one("Confirmed")
        assert (confirmed.causation, confirmed.hops) == ("returned", 3)
        opened = charged(harness, late, id_="late-charge")
        await harness.publish(late, opened)
        due_ms = harness.clock.now_ms() + HOUR_MS
        await harness.clock.advance(HOUR_MS / 1_000)
        about = {"id": "mislaid", "run": late.run, "step": "wait.Picked", "trigger": opened.id, "due_ms": due_ms}
        await harness.publish(harness.event(Mislaid(order_id="o-2"), hops=2, **about))
        await harness.published("Confirmed", 2)
        await harness.publish(harness.event(Picked(order_id="o-2"), id="too-late"))
        ignored = await harness.one(facts.TRIGGER_IGNORED)
    assert calls == ["Returned", "Mislaid"]
    assert (ignored.causation, ignored.reason) == ("too-late", "the wait for Picked is over")


class Extended(Event):
    """The parcel may be picked later."""

    order_id: str
    pick_at: datetime


class Charging(Event):
    """The payment names the day of the pick."""

    order_id: str
    pick_at: datetime


@both_backends
@pytest.mark.parametrize("at", [False, True], ids=["after", "at"])
async def test_a_timer_that_was_moved_runs_its_step_once_for_its_new_time(backend: str, at: bool) -> None:
    """The fact of its old time is void, also for a host that cannot know the moment, and after it was started anew."""
    calls: list[StepContext] = []
    moment = datetime(2026, 3, 1, tzinfo=UTC)
    time = {"at": "pick_at"} if at else {"after": "2s"}
    timer = {"on": Charging, "emits": NotPicked, "moved_by": Extended, **time}
    service = Service("mail")

    @service.step(on=NotPicked, emits=Confirmed, effect=False)
    async def ask(event: NotPicked, ctx: StepContext) -> Confirmed:
        calls.append(ctx)
        return Confirmed(order_id=event.order_id)

    till = Service("payment")

    @till.step(on=Placed, emits=Charging, effect=False)
    async def charge(event: Placed, ctx: StepContext) -> Charging:
        return Charging(order_id=event.order_id, pick_at=moment)

    async with running_harness(service, till, started=False, backend=backend, timer=timer) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        harness.host()
        about = {"run": placed.run, "step": "payment.charge", "causation": placed.id}
        await harness.publish(placed, harness.event(Charging(order_id="o-1", pick_at=moment), id="c", **about))
        old_ms = (await harness.log())[-1].stamp_ms + 2_000
        await harness.clock.advance(2)
        extended = harness.event(Extended(order_id="o-1", pick_at=moment), id="moved")
        late = harness.event(NotPicked(order_id="o-1"), run=placed.run, step="timer.pick", trigger="c", due_ms=old_ms)
        await harness.publish(extended, replace(late, id="void"))
        new_ms = (await harness.log())[-2].stamp_ms + 2_000
        await harness.caught_up()
        assert calls == []
        await harness.stop()
        harness.host("second")
        await harness.clock.advance(2)
        await harness.publish(replace(late, id="due", trigger="moved", due_ms=new_ms))
        await harness.one("Confirmed")
    assert [call.event_id for call in calls] == ["due"]
