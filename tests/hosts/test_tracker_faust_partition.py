"""What is stored of a key, and what its owner knows without decoding it."""

import pytest

from choreo.core.definition import FlowTable
from choreo.core.errors import StorageError
from choreo.core.events import Record
from choreo.core.state import KeyState, decode, encode
from choreo.hosts.tracker_faust_index import KeyIndex
from choreo.hosts.tracker_faust_partition import OwnedPartition, index_stored, position_of, state_of
from choreo.testing import given
from tests.core.order import PICKED
from tests.support.stored import stored


def test_a_stored_state_says_its_position_and_comes_back() -> None:
    """The later position is the greater value too, whatever the states are."""
    state = KeyState(position=7)
    packed = stored(state)
    assert position_of(packed) == 7
    assert encode(state_of(packed)) == encode(decode(encode(state)))
    assert stored(KeyState(position=8)) > packed


def test_a_state_of_another_version_is_refused_with_the_way_out() -> None:
    """A bare position before the state was the first form."""
    state = KeyState(position=7)
    old = (7).to_bytes(8, "big") + encode(state)
    with pytest.raises(StorageError, match=r"another version.*changelog topic"):
        index_stored(KeyIndex(), "o-1", old)


def owned(rows: dict[bytes, bytes]) -> OwnedPartition:
    """A partition that was given to this worker and may speak."""
    index = KeyIndex()
    for key, row in rows.items():
        index_stored(index, key.decode(), row)
    partition = OwnedPartition(FlowTable(PICKED), 0, 1, index, rows.get, position=0, end=0)
    partition.speak()
    return partition


def test_a_timer_that_was_read_back_too_early_is_said_again_when_its_time_has_come() -> None:
    """Another worker's clock was ahead of the log's: by how much, the stamp says."""
    story = given(PICKED, "OrderPlaced", key="o-1")
    partition = owned({})
    partition.fold(story.log, story.now_ms)
    due_ms = partition.next_due_ms
    (timer,) = partition.due(due_ms)
    assert partition.due(due_ms) == []
    partition.fold([Record("order", 0, 1, due_ms - 3_000, timer)], due_ms)
    for now_ms, said in ((due_ms, []), (due_ms + 2_999, []), (due_ms + 3_000, [timer]), (due_ms + 9_000, [])):
        assert partition.due(now_ms) == said
    assert partition.next_due_ms == 0


def test_a_state_is_written_again_when_its_records_are_read_again() -> None:
    """The local copy may be ahead of the changelog after a kill: the changelog gets it all the same."""
    log = given(PICKED, "OrderPlaced", "StockReserved", key="o-1").log
    rows = dict(owned({}).fold(log, 0).rows)
    assert dict(owned(rows).fold(log, 0).rows) == rows
