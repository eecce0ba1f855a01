"""Waits and timers as a flow declares them: the definition that follows, and each mistake with its remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from choreo import DeclarationError, Event, Flow, Service, StepContext, any_of
from choreo.core.definition import export, load


class Filed(Event):
    """A claim came in."""

    claim_id: str


class Approved(Event):
    """It will be paid."""

    claim_id: str


class Waved(Event):
    """It will be paid without a look."""

    claim_id: str


class Rejected(Event):
    """It will not be paid."""

    claim_id: str


class Expired(Event):
    """Nobody answered."""

    claim_id: str


class Paid(Event):
    """The money is there."""

    claim_id: str


class Closed(Event):
    """The file is closed."""

    claim_id: str


def claim(**options: Any) -> Flow:
    """Return the flow of a claim, without its wait."""
    desk = Service("desk")

    @desk.step(on=any_of(Approved, Waved), emits=Paid, effect=False)
    async def pay(event: Approved | Waved, ctx: StepContext) -> Paid:
        return Paid(claim_id=ctx.key)

    @desk.step(on=Expired, emits=Closed, effect=False)
    async def close(event: Expired, ctx: StepContext) -> Closed:
        return Closed(claim_id=ctx.key)

    ends = {Paid: "paid", Closed: "expired"}
    return Flow("claim", **{"key": "claim_id", "starts": Filed, "completes": ends, "services": [desk]} | options)


def wait(**changes: Any) -> Callable[[], object]:
    """Return a function that declares the wait with something changed."""
    options: dict[str, Any] = {"on": Filed, "until": (Approved, Waved), "refused": Rejected, "timeout": "7d"}
    options |= {"then": Expired} | changes
    name = options.pop("name", "approval")
    return lambda: claim().wait(name, **options)


def test_a_wait_and_a_timer_stand_in_the_flow_and_in_its_json() -> None:
    """Exported and loaded again it is the same flow."""
    flow = claim()
    flow.wait("approval", on=Filed, until=(Approved, Waved), refused=Rejected, timeout="7d", then=Expired)
    (found,) = flow.definition.waits
    assert (found.name, found.answers, found.late) == ("wait.approval", ("Approved", "Waved", "Rejected"), "Expired")
    assert flow.definition.outcomes == {"Paid": "paid", "Closed": "expired"}
    assert load(export(flow.definition)) == flow.definition
    timed = claim()
    timed.timer("patience", on=Filed, after="7d", emits=Expired, cancelled_by=Approved)
    (timer,) = timed.draft().waits
    assert (timer.name, timer.answers, timer.late, timer.timeout_ms) == (
        "timer.patience",
        ("Approved",),
        "Expired",
        7 * 86_400_000,
    )


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "no answer": (wait(until=()), "flow claim, wait: until= names no event."),
    "no time-out": (wait(then=None), "flow claim, wait for Approved: it has no event of its time-out. Give fails="),
    "two time-outs": (wait(fails=Closed), "flow claim, wait for Approved: its time-out has two events. Give fails="),
    "name": (wait(name="a b"), "flow claim, wait for Approved, its name: 'a b' is no name"),
    "two refusals": (wait(refused=(Rejected, Closed)), "flow claim, wait for Approved: refused= takes one event class"),
    "no duration": (wait(timeout="soon"), "flow claim, wait for Approved: "),
    "no time": (lambda: claim().timer("t", on=Filed, after=0, emits=Expired), "flow claim, timer t: after=0 leaves"),
    "timer's name": (lambda: claim().timer("", on=Filed, after=1, emits=Expired), "flow claim, timer , its name: ''"),
    "no outcome": (lambda: claim(completes={Paid: ""}), "flow claim: completes="),
    "no end": (lambda: claim(completes={}), "flow claim: completes={}. Give each event the name of its outcome"),
    "one outcome twice": (
        lambda: claim(completes={Paid: "done", Closed: "done"}),
        "flow claim: outcome done is named twice. Give each event an outcome of its own.",
    ),
}


@pytest.mark.parametrize(("declare", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_refused_where_it_is_declared(declare: Callable[[], object], sentence: str) -> None:
    """The error names fault, place and remedy."""
    with pytest.raises(DeclarationError) as raised:
        declare()
    assert raised.value.sentence.startswith(sentence)
