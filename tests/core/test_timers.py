"""Timer facts: never early, never lost, and `due` changes nothing."""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core.events import Record
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import encode
from choreo.core.timers import due, next_due
from choreo.testing import elapsed, given
from tests.core.order import ORDER, PICKED
from tests.core.plain import HOUR_MS

TABLE = FlowTable(ORDER)
RESERVED = ("OrderPlaced", "StockReserved")


def test_due_changes_nothing() -> None:
    """A due timer stays due until the tracker reads its fact from the log."""
    story = given(ORDER, *RESERVED)
    before, late_ms = encode(story.state), story.now_ms + HOUR_MS
    assert due(TABLE, story.key, story.state, late_ms) == due(TABLE, story.key, story.state, late_ms) != []
    assert encode(story.state) == before


def test_nothing_is_due_before_its_time() -> None:
    """Neither a millisecond early, nor late."""
    story = given(ORDER, *RESERVED)
    moment_ms = next_due(story.state)
    assert moment_ms == story.log[1].stamp_ms + HOUR_MS
    assert due(TABLE, story.key, story.state, moment_ms - 1) == []
    assert [fact.due_ms for fact in due(TABLE, story.key, story.state, moment_ms)] == [moment_ms]


def test_a_timer_fact_has_the_same_id_whenever_it_is_said() -> None:
    """Two trackers, or one that publishes it again, mean one fact."""
    story = given(PICKED, *RESERVED, "PaymentCharged")
    table = FlowTable(PICKED)
    soon, later = (due(table, story.key, story.state, next_due(story.state) + after) for after in (0, HOUR_MS))
    assert soon == later


def test_facts_that_are_due_together_are_said_in_the_order_of_their_times() -> None:
    """A tracker that was away for days publishes facts in the order in which they were due."""
    story = given(ORDER, *RESERVED)
    moments = [fact.due_ms for fact in due(TABLE, story.key, story.state, story.now_ms + 9 * 24 * HOUR_MS)]
    assert moments == sorted(moments)
    assert len(moments) == 2  # the step's deadline, and the flow's


def test_a_timer_fact_stamped_before_its_time_is_dropped_and_its_id_not_remembered() -> None:
    """A clock ran ahead of the log: the fact counts when it is published again."""
    story = given(ORDER, *RESERVED)
    fact = due(TABLE, story.key, story.state, story.now_ms + HOUR_MS)[0]
    early = Record("order", 0, 2, fact.due_ms - 1, fact)
    state, published = react(TABLE, story.state, early)
    assert (published, state.runs, state.position) == ([], story.runs, 2)
    state, published = react(TABLE, state, replace(early, offset=3, stamp_ms=fact.due_ms))
    assert state.runs[0].compensating


def test_nothing_is_due_of_what_is_over() -> None:
    """Neither of a paused, a completed nor a compensated run."""
    for tale in (
        (*RESERVED, "choreo.FlowPaused"),
        (*RESERVED, "PaymentCharged", "OrderConfirmed"),
        (*RESERVED, "PaymentDeclined", "StockReleased"),
    ):
        story = given(ORDER, *tale)
        assert next_due(story.state) == 0
        assert due(TABLE, story.key, story.state, story.now_ms + 99 * 24 * HOUR_MS) == []


def test_once_read_back_a_timer_fact_is_no_longer_due() -> None:
    """Its effect is in the state already."""
    story = given(ORDER, *RESERVED, elapsed("1h"))
    facts_said = [record.event.type for record in story.log]
    assert facts_said.count("choreo.StepDeadlinePassed") == 1
