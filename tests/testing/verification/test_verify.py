"""`verify`: the verdict, the counts, the timeline, the flow's own invariants."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo import DeclarationError, RunView
from choreo.core.definition import ChildrenDefinition
from choreo.core.errors import SettingsError
from choreo.testing import verify
from choreo.testing.verification.moves import MOVES, budget_of
from choreo.testing.verification.verify import explored
from services.order_flow import order
from tests.core.families import parent
from tests.core.plain import CHARGE, CONFIRM, RESERVE, flow
from tests.core.shop import order as order_of
from tests.core.shop import shop
from tests.testing.verification.flows import CHILDREN, FLOWS

DAY_MS = 24 * 3_600_000
SMALL = flow(RESERVE, replace(CONFIRM, on="StockReserved"), deadline_ms=2 * DAY_MS)
ONCE = replace(RESERVE.retry, attempts_max=1)
ONE = flow(replace(RESERVE, emits=("OrderConfirmed",), fails=(), retry=ONCE), deadline_ms=2 * DAY_MS)
"""One step, for moves with which even two steps have millions of states."""


def test_every_promise_holds_in_the_order_flow() -> None:
    """With a wait, compensations and a crash of any host at any point; every state is seen."""
    report = verify(order)
    assert (report.verdict, report.broken, report.timeline) == ("holds", "", [])
    assert report.states > 40_000
    assert report.transitions > 4 * report.states


def test_an_exploration_that_is_cut_off_is_unknown() -> None:
    """It is never a pass, however many states it has seen."""
    report = verify(order, limit=100)
    assert report.verdict == "unknown"
    assert report.states >= 100


@pytest.mark.parametrize("move", sorted(MOVES))
def test_every_promise_holds_under_each_move(move: str) -> None:
    """One move at a time, on a flow of two steps; a move adds transitions."""
    small = ONE if move == "second-start" else SMALL
    report = explored(small, (), budget_of(f"crash=0,{move}"))
    assert (report.verdict, report.broken) == ("holds", "")
    without = explored(small, (), budget_of("crash=0")).transitions
    assert report.transitions > without or (move, report.transitions) == ("early", without)


def test_a_broken_invariant_has_the_shortest_timeline() -> None:
    """The last line shows the state that breaks it."""

    def nothing_is_reserved(run: RunView) -> bool:
        return not run.stands("stock.reserve")

    report = explored(SMALL, (nothing_is_reserved,), budget_of(""))
    assert (report.verdict, report.broken) == ("broken", "invariant nothing_is_reserved: it is False")
    assert [each.move for each in report.timeline] == ["starts OrderPlaced", "stock.reserve: succeeds → StockReserved"]
    assert report.timeline[-1].effects == "stock.reserve open"


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (lambda _: "too early", "too early"),
        (lambda _: 7, "it returned 7; return True, False or a message"),
        (lambda run: run.sattus == "running", "it raised AttributeError"),
    ],
)
def test_a_wrong_invariant_is_named(rule: object, why: str) -> None:
    """A message, a value that is no verdict, an exception."""
    assert why in explored(SMALL, (rule,), budget_of("")).broken  # type: ignore[arg-type]


def test_an_invariant_is_refused_where_it_is_declared() -> None:
    """One that is async, one that takes no argument, and a second one of the same name."""

    async def asynchronous(run: RunView) -> bool:
        return bool(run)

    def twice(run: RunView) -> bool:
        return bool(run)

    declared = order_of(shop())
    declared.invariant(twice)
    for wrong in (asynchronous, lambda: True, twice, 7):
        with pytest.raises(DeclarationError):
            declared.invariant(wrong)  # type: ignore[arg-type]
    assert declared.invariants == (twice,)


def test_an_unknown_move_is_refused() -> None:
    """With the moves that there are."""
    with pytest.raises(SettingsError) as refused:
        budget_of("cancel,meteor")
    assert "late-success" in refused.value.remedy


def test_a_run_that_cannot_end_is_found() -> None:
    """Without a deadline of the flow nothing ends a run after a step that nothing follows."""
    report = explored(flow(RESERVE, CHARGE, replace(CONFIRM, on="OrderCancelled"), fails="OrderCancelled"), (), {})
    assert report.broken.startswith("promise 3: nothing is awaited, and the run has not come to its end")


def test_children_of_an_unknown_flow_leave_the_verdict_unknown() -> None:
    """They are not explored, and the report names the step that starts them."""
    report = explored(parent(ChildrenDefinition("parcel")), (), {}, limit=2_000)
    assert (report.verdict, report.broken, report.unexplored) == ("unknown", "", ["fulfilment.split"])


def test_every_promise_holds_between_a_parent_and_its_children() -> None:
    """The bridge carries starts, orders and ends in every order; a child that cannot be undone stops its parent."""
    report = explored(FLOWS["WINDOW"], (), budget_of("crash=0,cancel"), children=CHILDREN)
    assert (report.verdict, report.broken, report.unexplored) == ("holds", "", [])
    assert {end.text.partition(",")[0] for end in report.ends} >= {"completed", "compensated", "stuck"}


def test_a_fault_of_a_child_flow_is_told_of_that_flow() -> None:
    """With the way of the child alone."""
    endless = replace(CHILDREN["parcel"], deadline_ms=0, completes=("Nothing",))
    report = explored(FLOWS["WINDOW"], (), budget_of("crash=0"), children={"parcel": endless})
    assert report.broken.startswith("child flow parcel: promise 3")
    assert report.timeline[0].move == "starts ParcelRequested"
