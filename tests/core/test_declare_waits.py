"""Waits and timers as a flow declares them: the definition that follows, and each mistake with its remedy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest

from choreo import After, DeclarationError, Event, Every, Flow, Service, StepContext, any_of
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


class Postponed(Event):
    """The claimant needs more time."""

    claim_id: str
    answer_at: datetime
    maybe_at: datetime | None = None
    day: date


class Reminded(Event):
    """Nobody has answered yet."""

    claim_id: str
    n: int


class Numbered(Event):
    """An event whose number is a text."""

    claim_id: str
    n: str


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


def test_a_timer_is_moved_and_has_its_moment_in_a_field() -> None:
    """Both stand in the definition, with every class."""
    flow = claim(starts=Postponed)
    flow.timer("answer", on=Postponed, at="answer_at", emits=Expired)
    flow.timer("patience", on=Postponed, after="7d", emits=Closed, moved_by=Waved, cancelled_by=Rejected)
    at, after = flow.draft().waits
    assert (at.at, at.timeout_ms, at.moved_by) == ("answer_at", 0, "")
    assert (after.at, after.timeout_ms, after.moved_by, after.until) == ("", 7 * 86_400_000, "Waved", "Rejected")
    assert {"Waved", "Rejected", "Postponed"} <= flow.event_classes.keys()


def test_reminders_escalation_and_an_optional_wait_stand_in_the_definition() -> None:
    """Without at_most the reminders go on until the time-out, and none is due at it."""
    flow = claim()
    flow.wait(
        "approval",
        on=Filed,
        until=Approved,
        timeout="7d",
        then=Expired,
        remind=Every("1d", emits=Reminded),
        escalate=After("3d", emits=Closed),
    )
    flow.wait(on=Filed, until=Waved, optional=True)
    found, optional = flow.draft().waits
    assert (found.remind, found.remind_ms, found.reminds_max) == ("Reminded", 86_400_000, 6)
    assert (found.escalate, found.escalate_ms, found.optional) == ("Closed", 3 * 86_400_000, False)
    assert (optional.optional, optional.timeout_ms, optional.late, optional.answers) == (True, 0, "", ("Waved",))
    assert {"Reminded", "Closed", "Waved"} <= flow.event_classes.keys()


def timer(**changes: Any) -> Callable[[], object]:
    """Return a function that declares a timer with something changed."""
    options: dict[str, Any] = {"on": Postponed, "at": "answer_at", "emits": Expired} | changes
    return lambda: claim(starts=Postponed).timer("answer", **options)


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "no answer": (wait(until=()), "flow claim, wait: until= names no event."),
    "no time-out": (wait(then=None), "flow claim, wait for Approved: it has no event of its time-out. Give fails="),
    "two time-outs": (wait(fails=Closed), "flow claim, wait for Approved: its time-out has two events. Give fails="),
    "name": (wait(name="a b"), "flow claim, wait for Approved, its name: 'a b' is no name"),
    "two refusals": (wait(refused=(Rejected, Closed)), "flow claim, wait for Approved: refused= takes one event class"),
    "no duration": (wait(timeout="soon"), "flow claim, wait for Approved: "),
    "no time": (lambda: claim().timer("t", on=Filed, after=0, emits=Expired), "flow claim, timer t: after=0 leaves"),
    "timer's name": (lambda: claim().timer("", on=Filed, after=1, emits=Expired), "flow claim, timer , its name: ''"),
    "no moment": (timer(at=""), 'flow claim, timer answer: it has no time. Give after="30d", or at= with the name'),
    "two times": (timer(after="7d"), "flow claim, timer answer: it has both after= and at=. Give"),
    "no field": (
        timer(at="answers_at"),
        "flow claim, timer answer, at=: Postponed has no field answers_at. Did you mean answer_at?",
    ),
    "a day": (
        timer(at="day"),
        "flow claim, timer answer, at=: Postponed.day is a date, and a timer needs a moment. Declare the field as",
    ),
    "perhaps": (timer(at="maybe_at"), "flow claim, timer answer, at=: Postponed.maybe_at may be None, and a timer"),
    "moved to no moment": (timer(moved_by=Waved), "flow claim, timer answer, at=: Waved has no field answer_at."),
    "no name": (timer(at=7), "flow claim, timer answer, at=: 7 is no name of a field. Name it as a text"),
    "no timeout": (
        wait(timeout=None),
        "flow claim, wait for Approved: it has no timeout=. Give a duration, or optional=",
    ),
    "optional with an event": (wait(timeout=None, optional=True), "flow claim, wait for Approved: it has no timeout="),
    "no Every": (wait(remind="1d"), "flow claim, wait for Approved: remind='1d'. Write remind=Every("),
    "no After": (wait(escalate=3), "flow claim, wait for Approved: escalate=3. Write escalate=After("),
    "reminded of nothing": (
        wait(remind=Every("1d", emits=None)),  # type: ignore[arg-type]
        "flow claim, wait for Approved, remind=: emits= takes one event class, got none",
    ),
    "never": (
        wait(remind=Every("1d", emits=Reminded, at_most=0)),
        "flow claim, wait for Approved, remind=: at_most=0.",
    ),
    "reminders without end": (
        wait(remind=Every("1d", emits=Reminded), timeout=None, then=None, optional=True),
        "flow claim, wait for Approved, remind=: it has no end: the wait has no timeout=. Give at_most=",
    ),
    "too often": (
        wait(remind=Every("1s", emits=Reminded)),
        "flow claim, wait for Approved, remind=: that makes 604,799 reminders. Remind less often",
    ),
    "n is a text": (
        wait(escalate=After("1d", emits=Numbered)),
        "flow claim, wait for Approved, escalate=: Numbered.n is no whole number",
    ),
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
