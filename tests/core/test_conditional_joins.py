"""Conditions of steps on several events: of a join on all of them together, of any of several on the one that came."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any, Literal

import pytest
from msgspec.structs import replace

from choreo import DeclarationError, Event, Flow, Service, StepContext, all_of, any_of, field, otherwise
from choreo.core import facts
from choreo.core.checks.checks import check
from choreo.core.definition import FlowDefinition, export, load
from choreo.core.diagram import mermaid
from choreo.core.events import Record
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import KeyState
from choreo.testing import event, given


class Placed(Event):
    """An order came in."""

    order_id: str


class Charged(Event):
    """The card was charged."""

    order_id: str
    amount: int = 0
    fee: int | None = None


class Reserved(Event):
    """The goods lie apart."""

    order_id: str
    amount: int = 0
    shelf: Literal["near", "far"] = "near"


class Done(Event):
    """The order is at its end."""

    order_id: str


class Signed(Event):
    """The customer has signed, says the driver."""

    order_id: str
    alone: bool = False


class NotSigned(Event):
    """Nobody has signed."""

    order_id: str


WRAP = (field(Charged, "amount") > 100) & (field("shelf") == "near")


def shop(when: Any = WRAP, other: Any = None, *, wait: bool = False) -> Flow:
    """Return a flow with a join that has a condition, and one on the same events for all other orders."""
    pay, stock, ship = Service("pay"), Service("stock"), Service("ship")

    @pay.step(on=Placed, emits=Charged, effect=False)
    def charge(event: Placed, ctx: StepContext) -> Charged: ...

    @stock.step(on=Placed, emits=Reserved, effect=False)
    def reserve(event: Placed, ctx: StepContext) -> Reserved: ...

    if wait:

        @ship.step(on=all_of(Reserved, Signed), emits=Done, effect=False, when=field("alone") & (field("amount") > 5))
        def hand(reserved: Reserved, signed: Signed, ctx: StepContext) -> Done: ...

        @ship.step(on=all_of(Signed, Reserved), emits=Done, effect=False, when=otherwise())
        def call(reserved: Reserved, signed: Signed, ctx: StepContext) -> Done: ...

    else:

        @ship.step(on=all_of(Charged, Reserved), emits=Done, effect=False, when=when)
        def wrap(charged: Charged, reserved: Reserved, ctx: StepContext) -> Done: ...

        @ship.step(on=all_of(Reserved, Charged), emits=Done, effect=False, when=otherwise() if other is None else other)
        def plain(charged: Charged, reserved: Reserved, ctx: StepContext) -> Done: ...

    flow = Flow("shop", key="order_id", starts=Placed, completes=Done, services=[pay, stock, ship])
    if wait:
        flow.wait(on=Charged, until=Signed, timeout="1h", fails=NotSigned)
    return flow


CHARGED, CHEAP = Charged(order_id="o-1", amount=101), Charged(order_id="o-1", amount=100)
NEAR, FAR = Reserved(order_id="o-1"), Reserved(order_id="o-1", shelf="far")
WAYS = [
    *((order, ["ship.wrap"]) for order in permutations((CHARGED, NEAR))),
    *((order, ["ship.plain"]) for order in permutations((CHEAP, NEAR))),
    *((order, ["ship.plain"]) for order in permutations((CHARGED, FAR))),
]


@pytest.mark.parametrize(("events", "expected"), WAYS)
def test_a_join_is_judged_on_all_its_events_in_any_order(events: tuple[Any, ...], expected: list[str]) -> None:
    """Exactly one of the ways is taken; the run waits for that one alone."""
    story = given(shop(), Placed(order_id="o-1"), events[0])
    assert not any(pending.step.startswith("ship.") for pending in story.runs[0].expected)
    story.when(events[1]).then(expected=expected)
    story.when(event("Done", step=expected[0])).then(facts.FLOW_COMPLETED, status="completed")


def test_the_flow_loaded_from_its_json_judges_joins_alike() -> None:
    """A field of a join is exported with its event."""
    loaded = load(export(shop().definition))
    assert loaded == shop().definition
    charged = event("Charged", values={"amount": 101})
    given(loaded, "Placed", charged, event("Reserved", values={"shelf": "near"}), key="o-1").then(
        expected=["ship.wrap"]
    )


@pytest.mark.parametrize(("alone", "amount", "step"), [(True, 6, "hand"), (True, 5, "call"), (False, 6, "call")])
def test_a_member_from_outside_is_judged_however_early_it_comes(alone: bool, amount: int, step: str) -> None:
    """Its payload is not at hand any more when its wait opens: the tracker has kept the comparisons that hold."""
    signed, reserved = Signed(order_id="o-1", alone=alone), Reserved(order_id="o-1", amount=amount)
    story = given(shop(wait=True), Placed(order_id="o-1"), signed, reserved).then(expected=["pay.charge"])
    story.when("Charged").then(expected=[f"ship.{step}"])


@pytest.mark.parametrize("first", ["Charged", "Reserved"])
def test_a_member_that_cannot_be_read_compensates_the_run_when_the_join_is_complete(first: str) -> None:
    """Neither branch is guessed; before that the event decides nothing."""
    table, state = FlowTable(shop().definition), KeyState()
    story = given(shop(), Placed(order_id="o-1"), CHARGED, NEAR)
    records = [record for record in story.log if record.event.type in ("Placed", "Charged", "Reserved")]
    start, *members = sorted(records, key=lambda record: (record.event.type != "Placed", record.event.type != first))
    state, _ = react(table, state, replace(start, offset=0))
    broken = replace(members[0], offset=1, fields={}, unreadable="the payload is cut off")
    state, _ = react(table, state, broken)
    assert not state.runs[0].compensating
    state, decisions = react(table, state, replace(members[1], offset=2))
    (run,) = state.runs
    assert next(fact.type for fact in decisions) == facts.COMPENSATION_STARTED
    assert run.cause.endswith("Reserved can be chosen: the payload is cut off") or run.cause.endswith(
        "Charged can be chosen: the payload is cut off"
    )
    assert not [pending for pending in run.expected if pending.step.startswith("ship.")]


def test_a_value_of_another_kind_is_unreadable_too() -> None:
    """The cause names the event and the field."""
    wrong = event("Charged", values={"amount": "much"})
    story = given(shop(), Placed(order_id="o-1"), wrong).when(NEAR)
    story.then(facts.COMPENSATION_STARTED, facts.FLOW_COMPENSATED)
    assert "Charged.amount: 'much' is not a number" in story.runs[0].cause


def any_shop(when: Any) -> Flow:
    """Return a flow with a step on any of two events that has a condition, and one for all others."""
    pay, ship = Service("pay"), Service("ship")

    @pay.step(on=Placed, emits=(Charged, Reserved), effect=False)
    def choose(event: Placed, ctx: StepContext) -> Charged | Reserved: ...

    @ship.step(on=any_of(Charged, Reserved), emits=Done, effect=False, when=when)
    def wrap(event: Charged | Reserved, ctx: StepContext) -> Done: ...

    @ship.step(on=any_of(Charged, Reserved), emits=Done, effect=False, when=otherwise())
    def plain(event: Charged | Reserved, ctx: StepContext) -> Done: ...

    return Flow("shop", key="order_id", starts=Placed, completes=Done, services=[pay, ship])


@pytest.mark.parametrize(
    ("came", "step"),
    [
        (Charged(order_id="o-1", amount=7), "wrap"),
        (Charged(order_id="o-1"), "plain"),
        (Reserved(order_id="o-1", amount=7), "wrap"),
        (Reserved(order_id="o-1"), "plain"),
    ],
)
def test_a_step_on_any_of_several_is_judged_on_the_one_that_came(came: Event, step: str) -> None:
    """A field that all of them have needs no class."""
    given(any_shop(field("amount") > 5), Placed(order_id="o-1"), came).then(expected=[f"ship.{step}"])


def test_a_field_of_one_of_several_is_none_in_the_others() -> None:
    """As a field without a value it equals nothing; is_none() tells it."""
    flow = any_shop(field(Charged, "amount").is_none() | (field(Charged, "amount") > 5))
    given(flow, Placed(order_id="o-1"), Reserved(order_id="o-1")).then(expected=["ship.wrap"])
    given(flow, Placed(order_id="o-1"), Charged(order_id="o-1", amount=5)).then(expected=["ship.plain"])


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "in both": (
        lambda: shop(field("amount") > 5),
        (
            "step ship.wrap, when=: Charged and Reserved have a field amount. "
            'Say which one is meant: field(Charged, "amount").'
        ),
    ),
    "in none": (
        lambda: shop(field("shelv") == "near"),
        "step ship.wrap, when=: none of Charged, Reserved has a field shelv. Did you mean shelf? Their fields: ",
    ),
    "not in the one that is named": (
        lambda: shop(field(Charged, "shelf") == "near"),
        "step ship.wrap, when=: Charged has no field shelf. Its fields: order_id, amount, fee.",
    ),
    "of another event": (
        lambda: shop(field(Signed, "alone")),
        (
            "step ship.wrap, when=: compares Signed.alone, and the step is on all of Charged, Reserved. "
            "Compare a field of all of Charged, Reserved."
        ),
    ),
    "a value that never is": (
        lambda: shop(field("shelf") == "top"),
        "step ship.wrap, when=: Reserved.shelf is never 'top'. Its values: near, far.",
    ),
    "not in any": (
        lambda: any_shop(field("shelf") == "near"),
        (
            "step ship.wrap, when=: Charged has no field shelf, and the step is on Charged or Reserved. "
            'Write field(Reserved, "shelf"): it is None in the others.'
        ),
    ),
    "never on one of them": (
        lambda: any_shop(field(Charged, "amount") > 5),
        "it never runs on Reserved: Charged.amount > 5 holds for no value. Leave Reserved out of on=, or correct the ",
    ),
    "never": (
        lambda: shop((field(Charged, "amount") > 5) & (field(Charged, "amount") < 5)),
        "it never runs: Charged.amount > 5 & Charged.amount < 5 holds for no value. Correct the comparison",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_condition_that_cannot_work_is_refused(name: str) -> None:
    """Each with the place and the remedy."""
    make, sentence = MISTAKES[name]
    with pytest.raises(DeclarationError) as refused:
        given(make())  # type: ignore[arg-type]
    assert sentence in str(refused.value)


def _findings(flow: Flow | FlowDefinition) -> list[str]:
    definition = flow if isinstance(flow, FlowDefinition) else flow.definition
    return [finding.sentence for finding in check(definition)]


def test_the_check_finds_gaps_and_overlaps_of_joins() -> None:
    """It names the events and a value of each field by its event."""
    assert _findings(shop()) == []
    (gap,) = _findings(shop(other=field("shelf") == "far"))
    assert "events Charged and Reserved: none of its steps (ship.wrap, ship.plain) runs where" in gap
    assert 'Charged.amount is 99 and Reserved.shelf is "near", and the run goes no further' in gap
    (overlap,) = _findings(shop(other=field(Charged, "amount") <= 101, when=field(Charged, "amount") > 100))
    assert "both run on Charged and Reserved where Charged.amount is 101. Narrow one of the two conditions" in overlap


def test_a_loaded_condition_of_a_join_names_its_event() -> None:
    """One without an event, or of another event, is an error of the check."""
    definition = shop(field("shelf") == "near").definition
    *others, wrap, plain = definition.steps
    for of, shown in (("", "shelf"), ("Signed", "Signed.shelf")):
        wrong = replace(wrap, when=replace(wrap.when, of=of))  # type: ignore[type-var]
        found = _findings(replace(definition, steps=(*others, wrong, plain)))
        assert (
            f"flow shop, step ship.wrap, when=: it compares {shown}, and the step is on Charged and Reserved. "
            "Name one of its events: Charged.shelf."
        ) in found


def test_the_diagram_has_the_condition_behind_the_join() -> None:
    """With the event of each field."""
    text = mermaid(shop().definition)
    assert 'if Charged.amount #gt; 100 #amp; Reserved.shelf == #quot;near#quot;"| step2' in text


def test_a_join_without_a_condition_costs_no_decoding() -> None:
    """Only events whose fields are compared are decoded."""
    assert FlowTable(shop().definition).decoded == {"Charged", "Reserved"}
    bare = replace(shop().definition, steps=tuple(replace(s, when=None) for s in shop().definition.steps))
    assert FlowTable(bare).decoded == frozenset()
    state, _ = react(FlowTable(bare), KeyState(), Record("shop", 0, 0, 1, given(bare, "Placed").log[0].event))
    assert [pending.step for pending in state.runs[0].expected] == ["pay.charge", "stock.reserve"]
