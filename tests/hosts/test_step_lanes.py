"""Key queues and offset trackers: the next job, and the finished offset of a partition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from choreo.app.steps.jobs import Job
from choreo.core.events import Envelope, Record
from choreo.hosts.step.offsets import OffsetTracker
from choreo.hosts.step.work_queue import KeyQueues
from tests.app.test_steps import FORWARD, UNDO


def job(key: str, offset: int = 0, *, partition: int = 0, undo: bool = False) -> Job:
    """Return a job of this key."""
    event = Envelope("id", "Placed", key, "order", run="r")
    record = Record("order", partition, offset, 0, event)
    spec = UNDO if undo else FORWARD
    return Job(spec, record, event, record, "id", "id", spec.deadline_ms)


def test_one_job_of_a_key_and_step_is_at_work_at_a_time() -> None:
    """An undo waits behind its step's attempt; another key does not."""
    lanes = KeyQueues()
    first, undo, other = job("a"), job("a", undo=True), job("b")
    assert [lanes.add(one) for one in (first, undo, other)] == [True, False, True]
    assert lanes.head("a", "payment.charge") is first
    assert lanes.leave(first) is undo
    assert lanes.leave(undo) is None
    assert lanes.head("a", "payment.charge") is None


def test_what_waits_in_a_lost_partition_is_dropped() -> None:
    """A job at work there stays until it is over."""
    lanes = KeyQueues()
    mine, waiting, others = job("a"), job("a", 1), job("b", partition=1)
    for one in (mine, waiting, others):
        lanes.add(one)
    assert lanes.drop_waiting(0) == [waiting]
    assert list(lanes.heads()) == [mine, others]
    assert lanes.leave(mine) is None


@given(st.permutations(range(8)), st.lists(st.integers(1, 3), min_size=8, max_size=8))
def test_the_lowest_position_is_that_of_the_first_unfinished_record(order: list[int], jobs: list[int]) -> None:
    """The jobs of the records may end in any order."""
    progress = OffsetTracker(committed=0)
    left = dict(enumerate(jobs))
    for offset, count in left.items():
        for _ in range(count):
            progress.opened(offset)
    progress.read = 8
    for offset in order:
        while left[offset]:
            assert progress.lowest == min(at for at, count in left.items() if count)
            progress.finished(offset)
            left[offset] -= 1
    assert progress.lowest == 8
