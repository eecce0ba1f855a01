"""One owned partition: when it publishes, what it publishes again, and that every transport has the same rules."""

from __future__ import annotations

from choreo.app.tracking.fold import Batch
from choreo.app.tracking.partition import TrackedPartition
from choreo.app.tracking.timer_index import TimerIndex
from choreo.core import facts
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.state import KeyState, decode
from choreo.ports.log import Assigned
from choreo.ports.state import StateRow
from choreo.testing import given
from tests.core.order import PICKED

STORY = given(PICKED, "OrderPlaced", key="o-1")


def owned(*, end: int = 0, unread_until: int = 0) -> TrackedPartition:
    """Return a partition that was assigned from its first record on."""
    assigned = Assigned(0, 0, end, unread_until=unread_until)
    return TrackedPartition(FlowTable(PICKED), assigned, 1, TimerIndex(), None)


def fold(
    partition: TrackedPartition, records: list[Record], now_ms: int, rows: dict[str, StateRow] | None = None
) -> Batch:
    """Fold records as a worker does, with the rows of a store, and commit."""
    missing = partition.fold.missing(records)
    partition.fold.put(rows or {}, missing)
    batch = partition.fold.fold(records, now_ms)
    partition.settle(batch, None, records[-1].offset + 1, now_ms)
    return batch


def due(partition: TrackedPartition, now_ms: int) -> list[Envelope]:
    """Return the timer facts to publish now."""
    return partition.due(partition.cached(partition.due_keys(now_ms)), now_ms)


def test_a_timer_that_was_read_back_too_early_is_published_again_when_its_time_has_come() -> None:
    """Another worker's clock was ahead of the log's; the record's stamp shows by how much."""
    partition = owned()
    fold(partition, STORY.log, STORY.now_ms)
    due_ms = partition.next_due_ms
    (timer,) = due(partition, due_ms)
    assert due(partition, due_ms) == []
    fold(partition, [Record("order", 0, 1, due_ms - 3_000, timer)], due_ms)
    for now_ms, published in ((due_ms, []), (due_ms + 2_999, []), (due_ms + 3_000, [timer]), (due_ms + 9_000, [])):
        assert due(partition, now_ms) == published
    assert partition.next_due_ms == 0


def test_a_state_is_written_again_when_its_records_are_read_again() -> None:
    """A local store may be ahead of its changelog after a kill: the changelog gets the state all the same."""
    log = given(PICKED, "OrderPlaced", "StockReserved", key="o-1").log
    (row,) = fold(owned(), log, 0).states
    assert fold(owned(), log, 0, {"o-1": row}).states == [row]


def test_no_decision_is_published_before_the_partition_was_read_to_its_end() -> None:
    """Then those are published first that the log does not have."""
    log = given(PICKED, "OrderPlaced", "StockReserved", "PaymentDeclined", key="o-1").log
    story = [record for record in log if not record.event.type.startswith(facts.PREFIX)]
    records = [Record("order", 0, at, record.stamp_ms, record.event) for at, record in enumerate(story)]
    partition = owned(end=len(records))
    batch = fold(partition, records, 0)
    assert batch.outputs
    assert partition.outputs_of(batch) == []
    assert partition.is_read
    keys = partition.unacknowledged_keys()
    assert partition.publish_again(partition.cached(keys)) == batch.outputs
    assert partition.is_live


def test_a_clock_decides_for_no_key_of_which_records_may_have_been_deleted_unread() -> None:
    """From the first record read since, it does again."""
    partition = owned(unread_until=5)
    fold(partition, STORY.log, STORY.now_ms)
    due_ms = partition.next_due_ms
    assert due(partition, due_ms) == []
    again = STORY.log[0].event
    fold(partition, [Record("order", 0, 5, STORY.now_ms, again)], STORY.now_ms)
    assert [fact.type for fact in due(partition, due_ms)] == [facts.STEP_DEADLINE_PASSED]


def test_a_key_that_is_written_otherwise_is_due_at_its_new_moment_only() -> None:
    """Stale entries are passed over, and never grow beyond the keys that are pending."""
    index = TimerIndex()
    for moment in range(5_000):
        index.put("o-1", 10_000 + moment, unacknowledged=False)
    assert index.take(14_998, 10) == []
    assert index.take(14_999, 10) == ["o-1"]
    assert index.take(20_000, 10) == []
    index.rewind()
    assert index.take(20_000, 10) == ["o-1"]
    index.put("o-1", 0, unacknowledged=True)
    index.rewind()
    assert (index.take(20_000, 10), index.unacknowledged, index.next_ms) == ([], {"o-1"}, 0)


def test_states_of_keys_in_memory_are_not_loaded_again() -> None:
    """A state that was folded is newer than its row may be."""
    partition = owned()
    (row,) = fold(partition, STORY.log, STORY.now_ms).states
    assert partition.cached(["o-1", "o-2"]) == {"o-1": decode(row.state)}
    assert KeyState() not in partition.cached(["o-1"]).values()
