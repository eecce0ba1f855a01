"""The run of an event, the test for a duplicate, and the kept part of a run that has ended."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from choreo.core import facts, ids
from choreo.core.events import Record
from choreo.core.flow_table import FlowTable
from choreo.core.gates import Gates
from choreo.core.react import react
from choreo.core.state import KeyState, encode
from choreo.testing import Scenario, duplicate, elapsed, event, foreign, given, undo
from tests.core.order import DAY_MS, ORDER, PICKED

COMPLETED = ("OrderPlaced", "StockReserved", "PaymentCharged", "OrderConfirmed")
COMPENSATED = ("OrderPlaced", "StockReserved", "PaymentDeclined", "StockReleased")


def test_the_run_of_a_start_is_its_own_id() -> None:
    """A start opens a run that is named by the start event."""
    story = given(ORDER, "OrderPlaced")
    assert [run.id for run in story.runs] == [story.log[0].event.id]
    story.then(status="running", expected=["stock.reserve"])


def test_a_start_read_twice_is_one_run() -> None:
    """A start whose id is a known run is a duplicate, while the run is open and after it has ended."""
    story = given(ORDER, "OrderPlaced").when(duplicate("OrderPlaced")).then_nothing()
    story.when("StockReserved", "PaymentCharged", "OrderConfirmed", duplicate("OrderPlaced"))
    story.then(status="completed")
    assert len(story.runs) == 1


def test_a_second_start_with_another_id_is_turned_at_once() -> None:
    """Two runs of one key may not both go forward; the second is compensated, and publishes no domain event."""
    story = given(ORDER, "OrderPlaced").when(event("OrderPlaced", id="second"))
    story.then(event("choreo.CompensationStarted", run="second"))
    story.then(run="second", status="compensating", cause="duplicate start: another run of this key is open")
    story.then(run="second", expected=["stock.reserve"])  # its host may have read the start before CompensationStarted
    story.when(event("StockReserved", run="second")).then(undo("stock.reserve", run="second"))
    story.when(event("StockReleased", run="second")).then(event("choreo.FlowCompensated", run="second"))
    story.then(run="second", status="compensated").then(status="running")


def test_a_start_after_the_end_is_a_run_like_the_first() -> None:
    """The key is free again once FlowCompleted was read."""
    story = given(ORDER, *COMPLETED).when(event("OrderPlaced", id="second"))
    story.then_nothing().then(run="second", status="running", expected=["stock.reserve"])


def test_a_start_before_the_end_fact_is_read_is_a_duplicate() -> None:
    """A run ends at its end fact, not at the domain event."""
    story = given(ORDER, *COMPLETED, read_back=False).when(event("OrderPlaced", id="second"))
    story.then(run="second", status="compensating")


def test_an_event_without_a_run_belongs_to_the_oldest_open_run() -> None:
    """A foreign producer sets only key, type and value and takes part fully."""
    story = given(ORDER, "OrderPlaced", event("OrderPlaced", id="second")).when(foreign("StockReserved"))
    story.then(expected=["payment.charge"], ledger={"stock.reserve": "open"}).then(run="second", ledger={})


def test_a_foreign_outcome_takes_the_expected_trigger_of_its_step() -> None:
    """Its entry is the one that the step's own outcome would have opened."""
    story = given(ORDER, "OrderPlaced").when(foreign("StockReserved"))
    run = story.runs[0]
    assert run.ledger[0].id == ids.entry(run.id, "stock.reserve", run.id)


def test_a_foreign_outcome_that_nothing_expects_is_an_orphan() -> None:
    """Without a causation id and without an expected step it is kept by its offset."""
    story = given(ORDER, "OrderPlaced").when(foreign("PaymentCharged"))
    story.then(ledger={})
    assert story.state.orphans == [1]
    assert given(ORDER, "OrderPlaced").when(foreign("PaymentDeclined")).then(status="running").state.orphans == [1]


def test_a_late_foreign_outcome_makes_its_entry_in_doubt_certain() -> None:
    """The deadline took the expectation away, not the money: the entry in doubt is what the outcome is about."""
    story = given(ORDER, "OrderPlaced", "StockReserved", elapsed("1h"))
    story.then(ledger={"stock.reserve": "open", "payment.charge": "requested in doubt"})
    story.when(foreign("PaymentCharged")).then(ledger={"stock.reserve": "open", "payment.charge": "requested"})


def test_an_event_of_no_run_is_an_orphan() -> None:
    """Before any start, and after every run has ended."""
    story = given(ORDER, foreign("StockReserved"))
    assert (story.state.orphans, story.runs) == ([0], [])
    story = given(ORDER, *COMPLETED).when(foreign("StockReserved")).then_nothing()
    assert len(story.state.orphans) == 1


def test_orphans_are_bounded() -> None:
    """The newest hundred are kept."""
    story = given(ORDER, *[foreign("StockReserved") for _ in range(120)])
    assert story.state.orphans == list(range(20, 120))


@pytest.mark.parametrize("type_", ["SomethingElse", "choreo.Unheard"])
def test_a_type_unknown_to_the_flow_is_an_orphan(type_: str) -> None:
    """It changes nothing of its run."""
    story = given(ORDER, "OrderPlaced").when(type_).then_nothing().then(status="running", expected=["stock.reserve"])
    assert story.state.orphans == [1]


def test_an_event_without_an_id_is_known_by_its_first_position() -> None:
    """Two records without ids are two events; the same record re-published with its id is one."""
    story = given(PICKED, "OrderPlaced", "StockReserved", "PaymentCharged").when(foreign("Picked"))
    again = replace(story.log[-1].event, id=ids.foreign("order", 0, 3), run=story.runs[0].id)
    story.when(again).then(expected=["mail.confirm"])


def test_a_twin_is_dropped_whatever_it_is() -> None:
    """Every event of a whole story, read twice in a row, leaves the state as reading it once does."""
    for tale in (COMPLETED, COMPENSATED, ("OrderPlaced", "StockReserved", elapsed("1h"), "choreo.NothingToCompensate")):
        log_text = given(ORDER, *tale)
        once, doubled = KeyState(), KeyState()
        table = FlowTable(ORDER)
        for record in log_text.log:
            once, _ = react(table, once, replace(record, offset=2 * record.offset))
            doubled, _ = react(table, doubled, replace(record, offset=2 * record.offset))
            doubled, published = react(table, doubled, replace(record, offset=2 * record.offset + 1))
            assert published == []
        assert [_without_change(run) for run in doubled.runs] == [_without_change(run) for run in once.runs]


def _without_change(run: object) -> object:
    return replace(run, changed=0, changed_ms=0)


def test_a_twin_has_the_same_id_and_type() -> None:
    """A success published after a failure bears the failure's id: it is an event of its own, and is undone."""
    story = given(ORDER, "OrderPlaced", "StockReserved", event("PaymentDeclined", certain=True))
    story.then(ledger={"stock.reserve": "requested"})
    assert story.log[2].event.id == ids.outcome(story.log[1].event.id, "payment.charge")
    story.when("PaymentCharged").then(ledger={"stock.reserve": "requested", "payment.charge": "open"})


def test_the_twin_of_an_event_without_a_run_stays_with_its_first_run() -> None:
    """A doubled outside event that lands after the next run's start does not answer for it."""
    story = given(PICKED, "OrderPlaced", "StockReserved", "PaymentCharged", foreign("Picked", id="p-1"))
    story.when("OrderConfirmed", event("OrderPlaced", id="second"), event("StockReserved", run="second"))
    story.when(event("PaymentCharged", run="second"), foreign("Picked", id="p-1"))
    story.then(run="second", waits=["Picked"], expected=[])


def test_a_run_opened_again_takes_no_events_without_a_run() -> None:
    """Hosts have read its end fact and give them to the next run; the tracker must too."""
    story = given(PICKED, "OrderPlaced", "StockReserved", elapsed("1h"), "choreo.NothingToCompensate", "StockReleased")
    story.then(status="compensated")
    story.when(event("OrderPlaced", id="second"), event("StockReserved", run="second"))
    story.when(event("PaymentCharged", run="second"), event("PaymentCharged", run=story.runs[0].id))
    story.then(status="compensating").when(foreign("Picked"))
    story.then(run="second", waits=[], expected=["mail.confirm"])


def test_a_run_without_its_start_is_truncated_and_decides_nothing() -> None:
    """A rebuild from a log that has lost its beginning lists it, and leaves it alone."""
    story = given(ORDER, event("PaymentCharged", run="old", causation="c"))
    story.then(run="old", status="truncated", cause="its start is not in the log", ledger={})
    story.when(event("PaymentDeclined", run="old", causation="c"), event("choreo.CancelRequested", run="old"))
    story.then_nothing().then(run="old", status="truncated", ledger={}, expected=[])
    assert not story.state.unacknowledged


@pytest.mark.parametrize("type_", ["Picked", "choreo.CancelRequested", "choreo.FlowPaused", "SomethingElse"])
def test_the_world_and_operators_naming_an_unknown_run_do_not_make_one(type_: str) -> None:
    """Only what follows from a start proves that there was one: a start that comes later is not lost."""
    run_id = ids.start("order", "order-1")
    story = given(PICKED, event(type_, run=run_id)).when("OrderPlaced")
    story.then(status="running", expected=["stock.reserve"])


def test_a_run_lingers_and_is_then_forgotten() -> None:
    """For `linger` a late success still finds its ledger; after it the run is gone from the state."""
    short = replace(ORDER, linger_ms=DAY_MS)
    story = (
        given(short, *COMPENSATED).when(elapsed("23h"), event("OrderPlaced", id="second")).then(status="compensated")
    )
    story.when(elapsed("2h"), event("StockReserved", run="second"))
    assert [run.id for run in story.runs] == ["second"]


def test_a_late_twin_of_a_forgotten_run_is_an_orphan_not_a_truncated_run() -> None:
    """A run that was shown as compensated is not shown as truncated a week later."""
    story = given(replace(ORDER, linger_ms=DAY_MS), *COMPENSATED).when(elapsed("2d"), duplicate("StockReserved"))
    assert story.runs == []
    assert story.state.orphans == [len(story.log) - 1]


def test_a_run_that_still_has_to_say_something_is_not_forgotten() -> None:
    """A decision leaves the state only when the tracker reads it from the log."""
    story = given(replace(ORDER, linger_ms=DAY_MS), *COMPLETED, read_back=False).read_back()
    story.when("choreo.CancelRequested").then("choreo.CancelRefused")
    story.when(elapsed("2d"), foreign("Nothing"))
    assert [run.status for run in story.runs] == ["completed"]
    story.read_back().when(foreign("Nothing"))
    assert story.runs == []


def test_a_closed_run_keeps_its_status_and_ledger_only() -> None:
    """State is bounded by the open runs, not by past ones."""
    for tale in (COMPLETED, COMPENSATED, ("OrderPlaced", "StockReserved", event(facts.FLOW_TERMINATED, reason="x"))):
        run = given(ORDER, *tale).runs[0]
        assert (run.expected, run.waits, run.outbox, run.taken, run.refused) == ([], [], [], [], [])
        assert run.gates == Gates(closed="its run has ended")
        assert (run.due_ms, run.paused_ms) == (0, 0)
        assert run.ledger


def test_every_event_moves_the_position() -> None:
    """Also one that changes nothing: position is stored with the state."""
    story = given(ORDER, "OrderPlaced", duplicate("OrderPlaced"), "choreo.Unheard", foreign("Nothing"))
    assert story.state.position == 3


def test_time_in_the_fold_never_goes_back() -> None:
    """The highest stamp read is now: one out of order does not shorten a deadline."""
    story: Scenario = given(ORDER, "OrderPlaced")
    before = story.state.now_ms
    late = Record("order", 0, 1, before - 5_000, replace(story.log[0].event, id="x", type="SomethingElse", run=""))
    state, _ = react(FlowTable(ORDER), story.state, late)
    assert (state.now_ms, state.position) == (before, 1)


def test_state_is_the_fold_of_the_log() -> None:
    """Folded again from offset 0 the log gives the same bytes."""
    story = given(ORDER, "OrderPlaced", "StockReserved", elapsed("1h"), "choreo.NothingToCompensate", "PaymentCharged")
    again = KeyState()
    for record in story.log:
        again, _ = react(FlowTable(ORDER), again, record)
    assert encode(again) == encode(story.state)
