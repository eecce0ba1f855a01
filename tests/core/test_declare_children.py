"""Declaring child flows: what becomes of a sound declaration, and the sentence about each mistake."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import pytest
from msgspec.structs import replace

from choreo import (
    DeclarationError,
    Event,
    Flow,
    Service,
    StepContext,
    all_of,
    field,
    first_children,
    first_success,
    tolerate,
)
from choreo.core.checks import children as checks_children
from choreo.core.checks.checks import check
from choreo.core.definition import ChildrenDefinition, FlowDefinition, export, load
from choreo.core.diagram import mermaid
from choreo.core.flow_changes import flow_changes
from choreo.testing import child_ended, children, given
from tests.core.families import PARCEL, parent
from tests.support.parcels import OrderConfirmed, OrderPlaced, ParcelRequested, Parcels, ParcelsFailed, ParcelsShipped


class Mistyped(Event):
    """A join's event whose results are texts."""

    order_id: str
    results: list[str]


class Miscounted(Event):
    """A join's event with a field that the tracker cannot know."""

    order_id: str
    weight: int


def test_a_step_with_children_is_plain_data_with_a_way_back() -> None:
    """It has a compensation without a handler, goes through JSON, and is drawn."""
    order = Parcels(window=50).order.definition
    split = order.steps[0]
    assert split.children == ChildrenDefinition("parcel", window=50)
    assert split.compensation is not None
    assert load(export(order)) == order
    assert 'children0[["children: flow parcel"]]' in mermaid(order)
    assert Parcels().order.findings() == []


@pytest.mark.parametrize(
    ("join", "rule"),
    [
        (tolerate(2), ChildrenDefinition("parcel", tolerated=2)),
        (first_children(3), ChildrenDefinition("parcel", first=3)),
        (first_success(), ChildrenDefinition("parcel", first=1)),
    ],
)
def test_each_join_is_data(join: object, rule: ChildrenDefinition) -> None:
    """So that a tracker without the services' code decides alike."""
    assert Parcels(join=join).order.definition.steps[0].children == rule


async def test_a_handler_may_be_a_generator_of_either_kind() -> None:
    """It is run to its end within the attempt."""
    parcel = Parcels().parcel
    service = Service("fulfilment")

    @service.children(on=OrderPlaced, flow=parcel, emits=ParcelsShipped)
    async def split(event: OrderPlaced, ctx: StepContext) -> AsyncIterator[ParcelRequested]:
        yield ParcelRequested(parcel_id="1")

    assert await split(OrderPlaced(order_id="o-1", boxes=1), None) == [ParcelRequested(parcel_id="1")]


def _split(event: OrderPlaced, ctx: StepContext) -> Iterable[ParcelRequested]:
    return []


def _of_one(event: OrderPlaced, ctx: StepContext) -> ParcelRequested:
    raise AssertionError


def _of_other(event: ParcelRequested, ctx: StepContext) -> Iterable[ParcelRequested]:
    raise AssertionError


@pytest.mark.parametrize(
    ("changed", "handler", "sentence"),
    [
        ({"flow": "parcel"}, _split, "flow='parcel' is not a Flow"),
        ({"join": 3}, _split, "join=3 is no join"),
        ({"window": -1}, _split, "window=-1"),
        ({"emits": ()}, _split, "emits= has no events. Name the event that says that the children are joined, and the"),
        ({"emits": (ParcelsShipped, ParcelsFailed, OrderPlaced)}, _split, "emits= has 3 events"),
        (
            {"emits": (ParcelsShipped, ParcelsFailed), "fails": OrderConfirmed},
            _split,
            "ParcelsFailed goes on where the children are not joined, and OrderConfirmed compensates. Leave fails= out",
        ),
        ({"on": all_of(OrderPlaced, OrderConfirmed)}, _split, "the handler takes 1 event, the step is on all of"),
        ({"fails": (ParcelsFailed, OrderConfirmed)}, _split, "fails= has several events"),
        ({"fails": ParcelsShipped}, _split, "in emits= and in fails="),
        (
            {"emits": Mistyped},
            _split,
            "its type cannot hold that. Declare it as results: list[Chi",
        ),
        ({"deadline": "0s"}, _split, "deadline='0s' leaves no time"),
        ({}, _of_one, "hinted to return ParcelRequested. It yields starts of the child flow"),
        ({}, _of_other, "the handler's event is hinted ParcelRequested"),
    ],
)
def test_a_wrong_declaration_is_refused(changed: dict[str, Any], handler: Callable[..., Any], sentence: str) -> None:
    """With the step and the remedy."""
    options = {"on": OrderPlaced, "flow": Parcels().parcel, "emits": ParcelsShipped, **changed}
    with pytest.raises(DeclarationError) as caught:
        Service("fulfilment").children(**options, name="split")(handler)
    assert sentence in str(caught.value)
    assert "fulfilment.split" in str(caught.value)


def test_children_start_at_a_join_and_take_needed_events() -> None:
    """The handler's parameters are as those of a step; its definition names them."""
    service = Service("fulfilment")

    @service.children(
        on=all_of(OrderPlaced, OrderConfirmed),
        flow=Parcels().parcel,
        emits=(ParcelsShipped, ParcelsFailed),
        when=field("boxes") > 1,
    )
    def split(
        confirmed: OrderConfirmed, placed: OrderPlaced, earlier: ParcelsFailed | None, ctx: StepContext
    ) -> Iterable[ParcelRequested]:
        return []

    made = split.definition
    assert (made.all_of, made.emits, made.fails) == (
        ("OrderPlaced", "OrderConfirmed"),
        ("ParcelsShipped", "ParcelsFailed"),
        (),
    )
    assert [(each.type, each.optional) for each in made.takes] == [
        ("OrderConfirmed", False),
        ("OrderPlaced", False),
        ("ParcelsFailed", True),
    ]
    assert split.takes == (OrderPlaced, OrderConfirmed, ParcelsFailed)


def test_wrong_joins_are_refused() -> None:
    """No children are no success, and fewer than no failures cannot be tolerated."""
    for mistake in (lambda: first_children(0), lambda: tolerate(-1)):
        with pytest.raises(DeclarationError, match="Give a whole number"):
            mistake()


def test_children_have_no_compensation_of_their_own_step() -> None:
    """Each child undoes itself."""
    split = Parcels().order.steps["fulfilment.split"]
    with pytest.raises(DeclarationError, match=r"fulfilment\.split.*its children undo themselves"):
        split.compensate(emits=OrderConfirmed)


ORDER = parent(ChildrenDefinition("parcel"))


def _with(**changes: Any) -> FlowDefinition:
    steps = tuple(replace(step, **changes) if step.children else step for step in ORDER.steps)
    return replace(ORDER, steps=steps)


@pytest.mark.parametrize(
    ("flow", "sentence"),
    [
        (_with(children=ChildrenDefinition("order")), "starts runs of its own flow, without an end"),
        (_with(on="StockRejected"), "starts children on StockRejected, a failure or an undo"),
        (_with(children=ChildrenDefinition("parcel", tolerated=1, first=1)), "joins 1 children and tolerates 1"),
        (_with(compensation=None), "its children undo themselves"),
        (
            _with(emits=("ParcelsShipped", "OrderConfirmed")),
            "OrderConfirmed goes on where the children are not joined, and ParcelsFailed compensates",
        ),
        (_with(emits=("ParcelsShipped", "OrderConfirmed", "OrderLost")), "a join has 3 events"),
        (
            replace(ORDER, events={**ORDER.events, "ParcelsShipped": ("order_id", "weight")}),
            "the tracker makes ParcelsShipped when its children are joined and cannot fill in weight",
        ),
    ],
)
def test_a_flow_with_a_mistake_about_children_is_refused(flow: FlowDefinition, sentence: str) -> None:
    """Also one that was loaded from JSON."""
    assert sentence in "\n".join(finding.sentence for finding in check(flow) if finding.level == "error")


def test_flows_are_checked_against_each_other() -> None:
    """The child's flow must be there, and may not lead back."""
    back = replace(PARCEL, steps=(replace(ORDER.steps[1], children=ChildrenDefinition("order")),))
    for flows, sentence in (
        ({"order": ORDER}, "starts runs of flow parcel, which this project does not have"),
        ({"order": ORDER, "parcel": back}, "starts runs of flow parcel, which start runs of order again"),
        ({"order": ORDER, "parcel": replace(PARCEL, deadline_ms=10**9)}, "shorter than that of one child"),
        ({"order": replace(ORDER, deadline_ms=10**9), "parcel": PARCEL}, "a child is forgotten"),
    ):
        assert sentence in "\n".join(finding.sentence for finding in checks_children.between(flows))
    assert not list(checks_children.between({"order": ORDER, "parcel": PARCEL}))


def test_a_join_s_event_has_only_what_the_tracker_knows() -> None:
    """The mistake names the field."""
    service = Service("fulfilment")
    service.children(on=OrderPlaced, flow=Parcels().parcel, emits=Miscounted, name="split")(_split)
    flow = Flow("order", key="order_id", starts=OrderPlaced, completes=Miscounted, services=[service])
    with pytest.raises(DeclarationError, match="cannot fill in weight"):
        _ = flow.definition


def test_a_story_tells_of_children() -> None:
    """Users test a flow with children as any other, without the child flow."""
    order = Parcels(join=tolerate(1)).order
    story = given(order, "OrderPlaced").when(children("fulfilment.split", 3))
    story.then("choreo.ChildrenDue", expected=["fulfilment.split"], ledger={"fulfilment.split": "open"})
    story.when(child_ended("fulfilment.split", 1, "compensated", reason="refused")).then_nothing()
    story.when(child_ended("fulfilment.split", 0), child_ended("fulfilment.split", 2))
    story.then("ParcelsShipped", expected=["mail.confirm"])
    failing = given(order, "OrderPlaced", children("fulfilment.split", 2))
    failing.when(*(child_ended("fulfilment.split", place, "stuck") for place in range(2)))
    failing.then(status="stuck", cause="fulfilment.split failed: ParcelsFailed")


def test_another_window_needs_no_new_version() -> None:
    """Another join does: runs in flight were promised the one they began with."""
    for changed, breaks in (({"window": 9}, False), ({"tolerated": 9}, True)):
        (change,) = flow_changes(ORDER, _with(children=replace(ChildrenDefinition("parcel"), **changed)))
        assert bool(change.breaks) is breaks
