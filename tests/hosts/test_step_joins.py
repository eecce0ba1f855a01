"""A step that takes several events: it starts once all are there, each attempt gets the same ones, after any crash."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from choreo import Event, Retry, Service, StepContext, all_of, any_of, field, otherwise
from choreo.core import facts
from choreo.core.events import Envelope
from tests.hosts.harness import Charged, Confirmed, Harness, Placed, both_backends, payment, running_harness


class Reserved(Event):
    """It lies apart."""

    order_id: str
    shelf: int = 0


class Noted(Event):
    """Somebody wrote a note."""

    order_id: str
    text: str = ""


def stock() -> Service:
    """Return the service that reserves; the tests publish its events."""
    service = Service("stock")

    @service.step(on=Placed, emits=(Reserved, Noted), effect=False)
    async def reserve(event: Placed, ctx: StepContext) -> Reserved | Noted:
        raise AssertionError("the tests publish its events")

    return service


def mail(calls: list[Any], fails: Callable[[], bool] = lambda: False) -> Service:
    """Return the service of `mail.confirm`, which joins two events and needs more; its arguments are noted."""
    service = Service("mail")

    @service.step(
        on=all_of(Charged, Reserved),
        emits=Confirmed,
        effect=False,
        retry=Retry(max_attempts=3, initial="1h", max_interval="1h"),
    )
    async def confirm(
        reserved: Reserved, charged: Charged, placed: Placed, notes: list[Noted], ctx: StepContext
    ) -> Confirmed:
        calls.append((placed.number, charged.number, reserved.shelf, [note.text for note in notes], ctx.event_id))
        if fails():
            raise ConnectionError("not now")
        return Confirmed(order_id=ctx.key)

    return service


@asynccontextmanager
async def joined(service: Service, backend: str = "memory") -> AsyncIterator[Harness]:
    """Yield a harness for `mail`, with no host yet."""
    async with running_harness(service, payment(), stock(), started=False, backend=backend) as harness:
        yield harness


def outcome(harness: Harness, placed: Envelope, event: Event, id_: str, step: str) -> Envelope:
    """Return the outcome of a step on this start."""
    return harness.event(event, id=id_, run=placed.run, step=step, causation=placed.id, hops=1)


def events(harness: Harness) -> dict[str, Envelope]:
    """Return a start, and what follows from it until the join."""
    placed = harness.event(Placed(order_id="o-1", number=7))
    return {
        "placed": placed,
        "note": outcome(harness, placed, Noted(order_id="o-1", text="ring twice"), "note", "stock.reserve"),
        "charged": outcome(harness, placed, Charged(order_id="o-1", number=8), "charged", "payment.charge"),
        "reserved": outcome(harness, placed, Reserved(order_id="o-1", shelf=9), "reserved", "stock.reserve"),
    }


@both_backends
@pytest.mark.parametrize("last", ["charged", "reserved"])
async def test_a_join_gets_its_events_and_the_needed_ones_in_any_order(backend: str, last: str) -> None:
    """The event that completes it is the trigger; the next attempt count and hops follow from it."""
    calls: list[Any] = []
    async with joined(mail(calls), backend) as harness:
        made = events(harness)
        harness.host()
        first = "reserved" if last == "charged" else "charged"
        await harness.publish(made["placed"], made["note"], made[first])
        await harness.caught_up()
        assert calls == []
        await harness.publish(made[last])
        confirmed = await harness.one("Confirmed")
        assert (confirmed.causation, confirmed.run, confirmed.hops) == (last, made["placed"].id, 2)
    assert calls == [(7, 8, 9, ["ring twice"], last)]


@both_backends
async def test_a_join_is_completed_by_another_process_than_the_one_that_began_it(backend: str) -> None:
    """The gates are kept with the commits: nothing is read again from the beginning."""
    calls: list[Any] = []
    async with joined(mail(calls), backend) as harness:
        made = events(harness)
        harness.host("one")
        await harness.publish(made["placed"], made["charged"])
        await harness.caught_up()
        await harness.stop()
        harness.host("two")
        await harness.publish(made["reserved"])
        await harness.one("Confirmed")
    assert calls == [(7, 8, 9, [], "reserved")]


async def test_a_lost_inbox_finds_the_events_of_a_join_in_the_log() -> None:
    """The gates are folded again from the first record."""
    calls: list[Any] = []
    async with joined(mail(calls)) as harness:
        made = events(harness)
        harness.host("one")
        await harness.publish(made["placed"], made["note"], made["charged"])
        await harness.caught_up()
        await harness.stop()
        harness.lose_inbox()
        harness.host("two")
        await harness.publish(made["reserved"])
        await harness.one("Confirmed")
    assert calls == [(7, 8, 9, ["ring twice"], "reserved")]


@both_backends
async def test_a_later_attempt_gets_the_same_events(backend: str) -> None:
    """Also when the tracker asks for it an hour later, from another process, and a newer note has come meanwhile."""
    calls: list[Any] = []
    async with joined(mail(calls, fails=lambda: len(calls) < 2), backend) as harness:
        made = events(harness)
        harness.host("one")
        await harness.publish(made["placed"], made["charged"], made["note"], made["reserved"])
        failed = await harness.one(facts.STEP_ATTEMPT_FAILED)
        await harness.caught_up()
        await harness.stop()
        harness.host("two")
        newer = outcome(harness, made["placed"], Noted(order_id="o-1", text="newer"), "newer", "stock.reserve")
        await harness.publish(newer, harness.retry_due(failed, outcome=3))
        await harness.one("Confirmed")
    assert calls == [(7, 8, 9, ["ring twice"], "reserved")] * 2


async def test_a_needed_event_that_is_not_there_fails_the_step_with_its_name() -> None:
    """The record becomes a dead letter, with the remedy; where it may be missing the handler gets None."""
    calls: list[Any] = []
    service = Service("mail")

    @service.step(on=Charged, emits=Confirmed, effect=False)
    async def confirm(charged: Charged, note: Noted | None, reserved: Reserved, ctx: StepContext) -> Confirmed:
        calls.append((note, reserved.shelf))
        return Confirmed(order_id=ctx.key)

    async with joined(service) as harness:
        made = events(harness)
        harness.host()
        await harness.publish(made["placed"], made["charged"])
        failed = await harness.one(facts.STEP_FAILED)
        (letter,) = await harness.dead_letters()
        again = harness.event(Placed(order_id="o-2"))
        reserved = harness.event(Reserved(order_id="o-2", shelf=4), id="r-2", run=again.run, step="stock.reserve")
        charged = harness.event(Charged(order_id="o-2"), id="c-2", run=again.run, step="payment.charge")
        await harness.publish(again, reserved, charged)
        await harness.one("Confirmed")
    assert (failed.step, failed.certain) == ("mail.confirm", True)
    for part in ("event Reserved", "the handler needs it, and the run had none", "Hint it as Reserved | None"):
        assert part in letter.cause
    assert calls == [(None, 4)]


async def test_a_step_on_any_of_several_runs_once_with_the_first() -> None:
    """The second one is answered with TriggerIgnored."""
    calls: list[Any] = []
    service = Service("mail")

    @service.step(on=any_of(Charged, Reserved), emits=Confirmed, effect=False)
    async def confirm(event: Charged | Reserved, ctx: StepContext) -> Confirmed:
        calls.append(type(event))
        return Confirmed(order_id=ctx.key)

    async with joined(service) as harness:
        made = events(harness)
        harness.host()
        await harness.publish(made["placed"], made["reserved"], made["charged"])
        ignored = await harness.one(facts.TRIGGER_IGNORED)
        await harness.one("Confirmed")
    assert (calls, ignored.causation) == ([Reserved], "charged")


async def test_a_condition_decides_about_a_step_that_takes_earlier_events_too() -> None:
    """Exactly one of the branches runs; no other step of the service is on the event."""
    calls: list[str] = []
    service = Service("mail")

    @service.step(on=Charged, when=field("number") > 5, emits=Confirmed, effect=False)
    async def thank(charged: Charged, placed: Placed, ctx: StepContext) -> Confirmed:
        calls.append(f"thank {placed.number}")
        return Confirmed(order_id=ctx.key)

    @service.step(on=Charged, when=otherwise(), emits=Confirmed, effect=False)
    async def greet(charged: Charged, placed: Placed, ctx: StepContext) -> Confirmed:
        calls.append(f"greet {placed.number}")
        return Confirmed(order_id=ctx.key)

    async with joined(service) as harness:
        made = events(harness)
        harness.host()
        await harness.publish(made["placed"], made["charged"])
        await harness.one("Confirmed")
        await harness.caught_up()
        await harness.one("Confirmed")
    assert calls == ["thank 7"]


async def test_gates_cost_one_write_of_the_inbox_in_each_commit_and_nothing_where_none_are() -> None:
    """They travel in the batch of the commit; a service without a join or a wait has none to write."""
    for service, has_gates in ((mail([]), True), (payment(), False)):
        others = (payment(), stock()) if has_gates else (mail([]), stock())
        async with running_harness(service, *others, started=False) as harness:
            commits = harness.faults.observe("consumer.commit")
            writes = harness.faults.observe("inbox.keep_gates")
            harness.host()
            made = events(harness)
            await harness.publish(made["placed"], *([made["charged"], made["reserved"]] if has_gates else []))
            await harness.one("Confirmed" if has_gates else "Charged")
            await harness.caught_up()
        assert {batch.gates is not None for batch, *_ in commits.calls} == {has_gates}
        assert writes.calls == []
