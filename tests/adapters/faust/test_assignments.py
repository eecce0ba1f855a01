"""Offsets of assigned partitions: committed only when acknowledged, and only of the assignment they belong to."""

from __future__ import annotations

import pytest

from choreo.adapters.faust.assignments import Assignments, first_jump
from choreo.adapters.memory.backend import MemoryBackend
from choreo.core.errors import LeaseLostError, SkippedError
from choreo.core.events import Envelope
from choreo.ports.log import Assigned
from choreo.testing.clock import VirtualClock


def assigned(*assigned: Assigned) -> Assignments:
    """Return assignments that the poller knows."""
    assignments = Assignments()
    assignments.assign(assigned, {each.partition: each.committed for each in assigned})
    assignments.take_news()
    return assignments


def test_an_offset_is_committed_when_it_is_acknowledged_and_once() -> None:
    """A lower one that is acknowledged later moves nothing back."""
    assignments = assigned(Assigned(0, 5, 9))
    first, second = assignments.mark(), assignments.mark()
    assert assignments.to_commit() == {}
    second({0: 8})
    first({0: 7})
    assert assignments.to_commit() == {0: 8}
    assignments.committed({0: 8})
    assert assignments.to_commit() == {}


def test_work_that_ends_after_a_rebalance_moves_no_offset_of_the_new_assignment() -> None:
    """Another worker may have had the partition meanwhile; it is read from where that one came."""
    assignments = assigned(Assigned(0, 5, 9))
    acknowledged = assignments.mark()
    assignments.assign([Assigned(0, 20, 30)], {0: 20})
    acknowledged({0: 8})
    assert assignments.to_commit() == {}
    assert assignments.take_news() == ([Assigned(0, 20, 30, changed=[])], [0])


def test_states_of_a_revoked_partition_are_refused_before_the_poller_knows() -> None:
    """Its fold began under the assignment before, also where the partition came back at once."""
    assignments = assigned(Assigned(0, 0, 0), Assigned(1, 0, 0))
    assignments.assign([Assigned(0, 0, 0)], {})
    with pytest.raises(LeaseLostError, match=r"\[0\]"):
        assignments.require([0])
    assert assignments.take_news() == ([Assigned(0, 0, 0, changed=[])], [0, 1])
    assignments.require([0])


def test_a_partition_that_comes_back_names_the_keys_that_were_restored_since() -> None:
    """The first time any key may have changed."""
    assignments = Assignments()
    assignments.restored(0, [b"o-1"])
    assignments.assign([Assigned(0, 0, 0)], {})
    assert assignments.take_news() == ([Assigned(0, 0, 0)], [])
    assignments.revoke()
    assignments.restored(0, [b"o-3", b"o-2"])
    assignments.assign([Assigned(0, 4, 4)], {0: 4})
    assert assignments.take_news() == ([Assigned(0, 4, 4, changed=["o-2", "o-3"])], [0])
    assert not assignments.has_news


async def test_records_that_are_not_delivered_are_noticed_and_entries_that_are_none_are_passed_over() -> None:
    """From one check to the next nothing was delivered, and the log has records there; or it has none."""
    backend = MemoryBackend(VirtualClock())
    await backend.log.create("order", 1)
    assignments = assigned(Assigned(0, 0, 0))
    none = await assignments.check_progress({}, backend.log, "order")
    assert await assignments.check_progress(none, backend.log, "order") == {0: 0}
    await backend.log.append("order", [Envelope("e-1", "OrderPlaced", "o-1", "order")])
    with pytest.raises(SkippedError, match="nothing was delivered from offset 0"):
        await assignments.check_progress({0: 0}, backend.log, "order")

    async def with_a_marker(*_: object) -> int:
        return 2

    assignments.polled()[0].delivered = 1
    backend.log.stable_end = with_a_marker  # type: ignore[method-assign] - a log in memory has no transactions
    await assignments.check_progress({0: 1}, backend.log, "order")
    assert assignments.take_passed() == {0: 2}
    assert assignments.take_passed() == {}


def test_the_first_offset_that_is_left_out_is_found() -> None:
    """Records that are delivered again leave nothing out."""
    assert first_jump(3, [3, 4, 5]) is None
    assert first_jump(3, [2, 3, 4]) is None
    assert first_jump(3, [4, 5]) == 3
    assert first_jump(3, [3, 4, 6, 9]) == 5
