"""Fold of a batch of records: the rows, the events to publish, the early timers."""

from __future__ import annotations

from choreo.app.tracking.fold import PartitionFold
from choreo.core.flow_table import FlowTable
from choreo.core.state import decode
from choreo.ports.state import StateRow
from choreo.testing import elapsed, foreign, given
from tests.core.order import PICKED

STORY = given(PICKED, "OrderPlaced", "StockReserved", foreign("Picked"), key="o-1")


def tracker(rows: dict[str, StateRow]) -> PartitionFold:
    """Return the states of one partition, of which these were stored before."""
    made = PartitionFold(FlowTable(PICKED), 0, 1, lambda _: {})
    made.put(rows, made.missing(STORY.log))
    return made


def test_a_state_is_written_again_when_its_records_are_read_again() -> None:
    """After kill -9 the local copy may be ahead of its changelog: a record that changes nothing writes it once more."""
    (row,) = tracker({}).fold(STORY.log, 0).states
    for again in (STORY.log, STORY.log[:1], STORY.log[-1:]):
        batch = tracker({"o-1": row}).fold(again, 0)
        assert batch.states == [row]
        assert batch.outputs == []
        assert decode(batch.states[0].state).position == len(STORY.log) - 1


def test_a_timer_that_came_too_early_is_told_with_the_time_that_is_missing() -> None:
    """Its host publishes it again then."""
    story = given(PICKED, "OrderPlaced", elapsed("1h"), key="o-1")
    timer = next(record for record in story.log if record.event.due_ms)
    early = type(timer)(timer.topic, timer.partition, 1, timer.event.due_ms - 700, timer.event)
    made = tracker({})
    made.fold(story.log[:1], 0)
    assert made.fold([early], 0).early == [(timer.event.id, 700)]
