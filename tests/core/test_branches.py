"""Branches on data: the tracker expects the steps whose condition holds, and no others."""

from __future__ import annotations

from typing import Literal

import pytest
from msgspec.structs import replace

from choreo import DeclarationError, Event, Flow, Service, StepContext, field, otherwise
from choreo.core import facts
from choreo.core.definition import export, load
from choreo.core.events import Record
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import KeyState
from choreo.testing import event, given


class Placed(Event):
    """An order came in."""

    order_id: str
    shipping: Literal["express", "standard", "pickup"] = "standard"
    gift: bool = False


class Sent(Event):
    """The order is under way."""

    order_id: str


class Picked(Event):
    """The goods are taken, says the warehouse."""

    order_id: str
    damaged: bool = False


class PickTimedOut(Event):
    """Nobody took the goods."""

    order_id: str


class Repaired(Event):
    """Damaged goods are whole again."""

    order_id: str


class Done(Event):
    """The customer has the goods."""

    order_id: str


def shop(*, wait: bool = False) -> Flow:
    """Return a flow with three ways to send an order, and two steps behind a wait."""
    service = Service("shipping")

    @service.step(on=Placed, emits=Sent, effect=False, when=field("shipping") == "express")
    def fly(event: Placed, ctx: StepContext) -> Sent: ...

    @service.step(on=Placed, emits=Sent, effect=False, when=otherwise())
    def drive(event: Placed, ctx: StepContext) -> Sent: ...

    @service.step(on=Placed, effect=False, when=field("gift"))
    def wrap(event: Placed, ctx: StepContext) -> None: ...

    if wait:

        @service.step(on=Picked, emits=Done, effect=False)
        def tell(event: Picked, ctx: StepContext) -> Done: ...

        @service.step(on=Picked, emits=Repaired, effect=False, when=field("damaged"))
        def repair(event: Picked, ctx: StepContext) -> Repaired: ...

    else:

        @service.step(on=Sent, emits=Done, effect=False)
        def tell_sent(event: Sent, ctx: StepContext) -> Done: ...

    flow = Flow("shop", key="order_id", starts=Placed, completes=Done, services=[service])
    if wait:
        flow.wait(on=Sent, until=Picked, timeout="1d", fails=PickTimedOut)
    return flow


@pytest.mark.parametrize(
    ("placed", "expected"),
    [
        (Placed(order_id="o-1", shipping="express"), ["shipping.fly"]),
        (Placed(order_id="o-1", shipping="express", gift=True), ["shipping.fly", "shipping.wrap"]),
        (Placed(order_id="o-1", shipping="standard", gift=True), ["shipping.wrap"]),
        (Placed(order_id="o-1", shipping="standard"), ["shipping.drive"]),
    ],
)
def test_only_steps_whose_condition_holds_are_expected(placed: Placed, expected: list[str]) -> None:
    """Several may hold at once; otherwise() holds when none of the others does."""
    given(shop(), placed).then(expected=expected, status="running")


def test_the_flow_loaded_from_its_json_takes_the_same_branches() -> None:
    """A tracker may run without the services' code."""
    loaded = load(export(shop().definition))
    assert loaded == shop().definition
    given(loaded, event("Placed", values={"shipping": "express"}), key="o-1").then(expected=["shipping.fly"])


def test_a_run_completes_by_the_branch_that_it_took() -> None:
    """Nobody waits for the others."""
    story = given(shop(), Placed(order_id="o-1", shipping="express")).when(event("Sent", step="shipping.fly"), "Done")
    story.then(facts.FLOW_COMPLETED, status="completed", expected=[])


def test_a_scenario_that_leaves_the_deciding_fields_out_is_refused() -> None:
    """Neither branch is guessed."""
    with pytest.raises(DeclarationError, match=r'Placed decides which step runs.*event\("Placed", values='):
        given(shop(), "Placed")


@pytest.mark.parametrize("damaged", [True, False])
@pytest.mark.parametrize("early", [True, False])
def test_an_event_from_outside_keeps_its_verdict_until_its_wait_opens(damaged: bool, early: bool) -> None:
    """Its payload is not at hand when an earlier event of its is taken by a wait."""
    picked, sent = Picked(order_id="o-1", damaged=damaged), event("Sent", step="shipping.drive")
    story = given(shop(wait=True), Placed(order_id="o-1"))
    story.when(*((picked, sent) if early else (sent, picked)))
    story.then(expected=["shipping.tell", "shipping.repair"] if damaged else ["shipping.tell"])


def test_a_run_whose_branch_cannot_be_told_is_compensated_with_the_cause() -> None:
    """An undecodable payload stops no tracker: no branch is expected, and the run says why."""
    story = given(shop(), Placed(order_id="o-1"))
    for unreadable in ({"fields": {}, "unreadable": "Placed: is no JSON"}, {"fields": {"shipping": 3}}, {}):
        record = replace(story.log[0], fields=None, unreadable="")
        state, decisions = react(FlowTable(shop().definition), KeyState(), replace(record, **unreadable))
        assert [run.status for run in state.runs] == ["compensating"]
        assert state.runs[0].expected == []
        assert state.runs[0].cause.startswith("no branch on Placed can be chosen: ")
        assert decisions[0].type == facts.COMPENSATION_STARTED


def test_a_flow_without_conditions_decodes_nothing() -> None:
    """Its tracker works from the headers alone."""
    table = FlowTable(shop().definition)
    assert table.decoded == {"Placed"}
    plain = replace(table.flow, steps=tuple(replace(step, when=None) for step in table.flow.steps))
    assert FlowTable(plain).decoded == frozenset()
    assert Record("shop", 0, 0, 0, given(plain, "Placed").log[0].event).fields is None
