"""Checks of the events that flows carry to each other, with the sentence their author reads."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from choreo import DeclarationError, Event, Flow, Service, StepContext
from choreo.core.checks.carries import between
from choreo.core.checks.checks import check
from choreo.core.definition import CarryDefinition, FlowDefinition, export, load
from choreo.core.diagram import mermaid
from tests.core.plain import CHARGE, CONFIRM_PICKED, PICK, RESERVE, STEPS, flow

CARRY = CarryDefinition("OrderConfirmed", "invoice", ("OrderConfirmed",))
ORDER = flow(*STEPS, carries=(CARRY,))
INVOICE = flow(*STEPS, name="invoice", starts="OrderConfirmed")
BACK = replace(INVOICE, carries=(CarryDefinition("OrderConfirmed", "order", ("OrderPlaced",), made=True),))


def sentences(*flows: FlowDefinition) -> list[str]:
    """Return the findings between these flows."""
    return [finding.sentence for finding in between({one.name: one for one in flows})]


def test_a_carried_event_that_starts_a_run_is_no_mistake() -> None:
    """Nor is one that the other flow awaits."""
    assert sentences(ORDER, INVOICE) == []
    waiting = flow(RESERVE, CHARGE, CONFIRM_PICKED, name="invoice", waits=(PICK,))
    assert sentences(replace(ORDER, carries=(replace(CARRY, says=("Picked",), made=True),)), waiting) == []


def test_it_has_to_arrive() -> None:
    """In a flow of the project, as an event that this flow takes, with its key."""
    assert sentences(ORDER) == [
        (
            "flow order, carries OrderConfirmed to invoice: there is no flow invoice in this project. "
            "Name it in the project's flows, beside order."
        )
    ]
    assert sentences(ORDER, replace(INVOICE, starts="OrderPlaced", waits=(PICK,))) == [
        (
            "flow order, carries OrderConfirmed to invoice: "
            "OrderConfirmed is no event that flow invoice takes from outside. "
            "It takes OrderPlaced or Picked; "
            "let makes= return one of them, or declare a wait until=OrderConfirmed there."
        )
    ]
    assert sentences(ORDER, replace(INVOICE, key="invoice_id")) == [
        (
            "flow order, carries OrderConfirmed to invoice: "
            "OrderConfirmed has no field invoice_id, the key of flow invoice. "
            "Add the field, or pass makes=, a function that returns an event with invoice_id."
        )
    ]


def test_a_circle_of_flows_needs_a_bound() -> None:
    """It is named once, with its way; a bound of one flow on it is enough, and no warning."""
    assert sentences(ORDER, BACK) == [
        (
            "flow order: it starts itself again and again: order → invoice → order is a circle that has no bound. "
            "Give Flow(max_hops=...) to one of them: hops are counted from flow to flow."
        )
    ]
    assert sentences(ORDER, replace(BACK, hops_max=20)) == []
    assert not any("max_hops" in finding.sentence for finding in check(replace(BACK, hops_max=20)))


def test_it_is_an_event_of_the_flow_and_no_timers() -> None:
    """A timer's event may come twice: early ones are dropped by the flow's own readers."""
    waiting = flow(RESERVE, CHARGE, CONFIRM_PICKED, waits=(PICK,), fails="OrderCancelled")
    found = check(replace(waiting, carries=(replace(CARRY, on="Lost"), replace(CARRY, on="PickTimedOut"))))
    assert [finding.sentence for finding in found if "carries" in finding.where] == [
        "flow order, carries Lost: Lost is no event of the flow. Carry an event that the flow has.",
        (
            "flow order, carries PickTimedOut: "
            "the tracker publishes it when a wait is over, and once more after each pause. "
            "Carry an event of a step on PickTimedOut, or OrderCancelled."
        ),
    ]


def test_json_and_the_picture_have_it() -> None:
    """A tracker without the code, and a reader of the diagram, know where the event goes."""
    assert load(export(ORDER)) == ORDER
    picture = mermaid(ORDER)
    assert 'carry0[["flow invoice: OrderConfirmed"]]' in picture
    assert 'step2 -->|"OrderConfirmed"| carry0' in picture


class Asked(Event):
    """A question."""

    key: str


class Answered(Event):
    """An answer."""

    key: str


def twin() -> type[Any]:
    """Return another class of the same name."""
    return type(Event)("Answered", (Event,), {"__annotations__": {"key": str}, "__module__": __name__})


def asking(name: str, starts: type[Any] = Asked, completes: type[Any] = Answered) -> Flow:
    """Return a flow of one step."""
    service = Service(f"{name}-desk")

    def answer(event: Any, ctx: StepContext) -> Any:
        raise AssertionError

    answer.__annotations__ = {"event": starts, "ctx": StepContext, "return": completes}
    service.step(on=starts, emits=completes, effect=False)(answer)
    return Flow(name, key="key", starts=starts, completes=completes, services=[service])


def no_hint(event: Answered):  # type: ignore[no-untyped-def]  # noqa: ANN201 - the mistake
    """Return anything."""


def no_event(event: Asked) -> Asked:
    """Take another event."""
    return event


async def later(event: Answered) -> Asked:
    """Wait."""
    raise AssertionError


@pytest.mark.parametrize(
    ("to", "makes", "sentence"),
    [
        ("second", None, r"flow first, carries Answered: to='second' is not a Flow. Pass the Flow itself."),
        (None, no_hint, "no_hint is hinted to return nothing. Hint the event of the other flow"),
        (None, no_event, "no_event does not take one Answered. Write def no_event\\(event: Answered\\)"),
        (None, later, "makes=.* is no plain function. Write def make\\(event: Answered\\)"),
    ],
)
def test_a_wrong_declaration_is_refused(to: object, makes: Any, sentence: str) -> None:
    """With the place and the correct form."""
    with pytest.raises(DeclarationError, match=sentence):
        asking("first").carries(Answered, to=to or asking("second"), makes=makes)  # type: ignore[arg-type]


def test_an_event_is_carried_once_to_a_flow_and_is_of_one_class() -> None:
    """Two events of one name in two flows are two classes: bytes of one are not the other's."""
    first, second = asking("first"), asking("second", starts=twin(), completes=Asked)
    first.carries(Answered, to=second)
    with pytest.raises(DeclarationError, match="it is carried to flow second already"):
        first.carries(Answered, to=second)
    with pytest.raises(DeclarationError, match=r"flow second has another event class called Answered. Import the one"):
        first.carried[0].require_same_classes("first")
