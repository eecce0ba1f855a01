"""Reminders, optional waits and waits that a time-out opens: a step runs for what counts, in every order of the log."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from choreo import Event, Every, Service, StepContext
from choreo.core import facts
from choreo.core.events import Envelope
from tests.hosts.harness import Charged, Confirmed, Harness, Placed, both_backends, payment, running_harness
from tests.hosts.test_step_gates import Mislaid, NotPicked, Picked, charged, mail, picked


class Reminded(Event):
    """Nobody has come for the parcel yet."""

    order_id: str
    n: int = 0


class Searched(Event):
    """Somebody found it in the end."""

    order_id: str


async def reminders(backend: str, calls: list[StepContext], *, frozen: bool) -> AsyncIterator[tuple[Harness, Envelope]]:
    """Yield a harness of a service with a step on a reminder, and its started order whose wait is open."""
    service = Service("mail")

    @service.step(on=Reminded, effect=False)
    async def remind(event: Reminded, ctx: StepContext) -> None:
        calls.append(ctx)

    wait = {"on": Charged, "until": Picked, "timeout": "9s", "then": NotPicked}
    wait |= {"remind": Every("2s", emits=Reminded, at_most=3)}
    async with running_harness(service, payment(), started=False, backend=backend, wait=wait) as harness:
        if frozen:
            harness.definition = replace(harness.definition, frozen=(harness.definition,))
        placed = harness.event(Placed(order_id="o-1"))
        harness.host()
        await harness.publish(placed, charged(harness, placed))
        yield harness, placed


@both_backends
@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen"])
async def test_a_step_on_a_reminder_runs_once_for_each_and_never_after_the_answer(backend: str, frozen: bool) -> None:
    """One that was published twice, out of its turn, or that crosses the answer in the log, runs nothing."""
    calls: list[StepContext] = []
    async for harness, placed in reminders(backend, calls, frozen=frozen):
        opened_ms = (await harness.log())[-1].stamp_ms
        await harness.clock.advance(7)
        about = {"run": placed.run, "step": "wait.Picked", "trigger": "charged"}
        said = [
            harness.event(Reminded(order_id="o-1", n=n), id=f"r-{n}", n=n, due_ms=opened_ms + n * 2_000, **about)
            for n in (1, 2, 3)
        ]
        await harness.publish(said[1], said[0], said[0], replace(said[0], id="again"), replace(said[1], id="r-2b"))
        await harness.published(facts.STEP_COMPLETED, 2)
        await harness.publish(picked(harness), said[2])
        await harness.caught_up()
    assert [call.event_id for call in calls] == ["r-1", "r-2b"]


@both_backends
@pytest.mark.parametrize("first", ["answer", "close"])
async def test_the_log_decides_between_an_answer_and_the_close_of_an_optional_wait(backend: str, first: str) -> None:
    """The host knows nothing of the decision to complete: it reads choreo.WaitClosed."""
    calls: list[StepContext] = []
    wait = {"on": Charged, "until": Picked, "optional": True}
    async with running_harness(mail(calls), payment(), started=False, backend=backend, wait=wait) as harness:
        placed = harness.event(Placed(order_id="o-1"))
        harness.host()
        close = harness.fact(placed, facts.WAIT_CLOSED, step="wait.Picked", trigger="charged")
        both = [picked(harness), close]
        await harness.publish(placed, charged(harness, placed), *(both if first == "answer" else both[::-1]))
        if first == "close":
            ignored = await harness.one(facts.TRIGGER_IGNORED)
            assert ignored.reason == "the wait for Picked is over"
        await harness.caught_up()
    assert len(calls) == (first == "answer")


@both_backends
async def test_a_time_out_opens_the_next_wait_for_the_service_behind_it_too(backend: str) -> None:
    """The service is on none of the first wait's events, and reads them all the same."""
    calls: list[StepContext] = []
    service = Service("mail")

    @service.step(on=Searched, emits=Confirmed, effect=False)
    async def confirm(event: Searched, ctx: StepContext) -> Confirmed:
        calls.append(ctx)
        return Confirmed(order_id=event.order_id)

    wait = {"on": Charged, "until": Picked, "timeout": "2s", "then": NotPicked}
    second = {"on": NotPicked, "until": Searched, "timeout": "9s", "fails": Mislaid}
    harnessed = running_harness(service, payment(), started=False, backend=backend, wait=wait, second=second)
    async with harnessed as harness:
        placed = harness.event(Placed(order_id="o-1"))
        harness.host()
        await harness.publish(placed, charged(harness, placed))
        due_ms = (await harness.log())[-1].stamp_ms + 2_000
        await harness.clock.advance(2)
        about = {"run": placed.run, "step": "wait.Picked", "trigger": "charged", "due_ms": due_ms}
        await harness.publish(harness.event(NotPicked(order_id="o-1"), id="late", **about))
        await harness.publish(harness.event(Searched(order_id="o-1"), id="found"))
        await harness.one("Confirmed")
    assert [call.event_id for call in calls] == ["found"]
