"""Keys with many runs: a run that is over for good takes eight bytes, and is still recognised."""

from __future__ import annotations

import pytest

from choreo.core import retired
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import KeyState, encode
from choreo.testing import Scenario, elapsed, event, given, undo
from tests.core.order import ORDER, PICKED

COMPLETED = ("StockReserved", "PaymentCharged", "OrderConfirmed")
COMPENSATED = ("StockReserved", "PaymentDeclined", "StockReleased")
MANY = 3 * retired.KEPT_MAX


def ran(story: Scenario, run: str, types: tuple[str, ...]) -> None:
    """Let the key have one more run with these events."""
    story.when(event("OrderPlaced", id=run), *(event(type_, run=run) for type_ in types))


def many(types: tuple[str, ...] = COMPLETED, number: int = MANY) -> Scenario:
    """Return a key of so many runs, `r0` and so on, that have ended so."""
    story = given(ORDER, event("OrderPlaced", id="r0"), *(event(type_, run="r0") for type_ in types))
    for count in range(1, number):
        ran(story, f"r{count}", types)
    return story


@pytest.mark.parametrize("types", [COMPLETED, COMPENSATED])
def test_of_many_runs_only_the_newest_are_kept_whole(types: tuple[str, ...]) -> None:
    """However many there were; each more costs eight bytes."""
    story, more = many(types), many(types, MANY + 100)
    assert len(story.runs) == len(more.runs) == retired.KEPT_MAX
    grown = len(encode(more.state)) - len(encode(story.state))
    assert grown < 100 * 10


@pytest.mark.parametrize("types", [COMPLETED, COMPENSATED])
def test_a_start_of_a_retired_run_is_a_duplicate(types: tuple[str, ...]) -> None:
    """Its id is known for as long as runs linger."""
    story = many(types)
    story.when(event("OrderPlaced", id="r0")).then_nothing()
    assert "r0" not in {run.id for run in story.runs}
    story.when(elapsed("8d"), event("OrderPlaced", id="other")).when(event("OrderPlaced", id="r0"))
    assert "r0" in {run.id for run in story.runs}


@pytest.mark.parametrize("late", ["StockReserved", "choreo.StepFailed", "choreo.CancelRequested", "PaymentDeclined"])
@pytest.mark.parametrize("types", [COMPLETED, COMPENSATED])
def test_a_late_event_of_a_retired_run_changes_nothing(types: tuple[str, ...], late: str) -> None:
    """Nothing of it is open, and the key's open run is not taken for it."""
    story = many(types)
    story.when(event("OrderPlaced", id="open"))
    before = story.state.run("open")
    story.when(event(late, run="r0", step="stock.reserve")).then_nothing()
    assert story.state.run("open") == before
    assert not story.state.orphans
    assert all(run.status != "truncated" for run in story.runs)


def test_a_run_with_an_effect_in_doubt_stays_whole() -> None:
    """A late success opens it again, however many runs came after it."""
    story = given(ORDER, event("OrderPlaced", id="doubt"), elapsed("61m"))
    story.when(event("choreo.NothingToCompensate", run="doubt"))
    assert story.state.runs[0].status == "compensated"
    for number in range(MANY):
        ran(story, f"r{number}", COMPLETED)
    story.when(event("StockReserved", run="doubt")).then(undo("stock.reserve", run="doubt"))


def test_a_duplicate_of_an_event_without_a_run_is_known_after_its_run_is_retired() -> None:
    """It does not satisfy the wait of the run that is open now."""
    story = given(PICKED, event("OrderPlaced", id="r0"))
    for number in range(MANY):
        if number:
            story.when(event("OrderPlaced", id=f"r{number}"))
        about = {"run": f"r{number}"}
        story.when(event("StockReserved", **about), event("PaymentCharged", **about))
        story.when(event("Picked", id=f"picked-{number}", run=""), event("OrderConfirmed", **about))
    story.when(event("OrderPlaced", id="open"), event("StockReserved", run="open"), event("PaymentCharged", run="open"))
    story.when(event("Picked", id="picked-0", run="")).then_nothing()
    assert [wait.name for wait in story.state.run("open").waits] == ["wait.Picked"]  # type: ignore[union-attr]
    story.when(event("Picked", id="picked-new", run=""))
    assert not story.state.run("open").waits  # type: ignore[union-attr]


def test_the_state_is_the_same_however_the_log_is_cut() -> None:
    """A retired run is a pure fold of the log like everything else."""
    table, state = FlowTable(ORDER), KeyState()
    story = many()
    for record in story.log:
        state, _ = react(table, state, record)
        again, _ = react(table, state, record)
        assert again is state
    assert encode(state) == encode(story.state)
