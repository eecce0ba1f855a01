"""Planned faults: the fault of each call, in which order, and that nothing else changes."""

from __future__ import annotations

import asyncio

import pytest

from choreo.adapters.memory.backend import MemoryBackend
from choreo.core.errors import LeaseLostError, StorageError
from choreo.ports.log import CommitBatch
from choreo.testing.clock import VirtualClock
from choreo.testing.conformance import TOPIC, event
from choreo.testing.faults import FaultyBackend


@pytest.fixture
async def faulty() -> FaultyBackend:
    """Return a backend with two partitions and no fault."""
    backend = FaultyBackend(MemoryBackend(VirtualClock()))
    await backend.log.create(TOPIC, 2)
    return backend


async def written(faulty: FaultyBackend) -> int:
    """Return the number of records in the log."""
    return sum([await faulty.log.end(TOPIC, partition) for partition in range(2)])


async def test_a_call_fails_as_often_as_planned_and_is_not_done(faulty: FaultyBackend) -> None:
    """The next one is done; the fault knows which calls it met."""
    fault = faulty.faults.fail("log.append", times=2)
    for _ in range(2):
        with pytest.raises(StorageError, match="planned"):
            await faulty.log.append(TOPIC, [event("e-1")])
    assert fault.is_over
    await faulty.log.append(TOPIC, [event("e-1")])
    assert await written(faulty) == 1
    assert [topic for topic, _ in fault.calls] == [TOPIC, TOPIC]


async def test_an_answer_is_lost_after_the_call_was_done(faulty: FaultyBackend) -> None:
    """With the error of the caller's choice."""
    faulty.faults.lose_answer("log.append", ConnectionError("reset"))
    with pytest.raises(ConnectionError):
        await faulty.log.append(TOPIC, [event("e-1")])
    assert await written(faulty) == 1


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_call_waits_until_the_fault_is_lifted(faulty: FaultyBackend, *, is_done: bool) -> None:
    """Before it is done, or before its answer; it may be lifted with an error."""
    plan = faulty.faults.answer_late if is_done else faulty.faults.hold
    fault = plan("log.append")
    calls = [asyncio.create_task(faulty.log.append(TOPIC, [event(name)])) for name in ("e-1", "e-2")]
    while len(fault.calls) < 2:  # noqa: ASYNC110 - a fault wakes nobody
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert await written(faulty) == (2 if is_done else 0)
    assert not any(call.done() for call in calls)
    fault.lift(StorageError("gone"))
    assert [type(error) for error in await asyncio.gather(*calls, return_exceptions=True)] == [StorageError] * 2
    await faulty.log.append(TOPIC, [event("e-3")])


async def test_a_fault_meets_the_calls_of_its_condition(faulty: FaultyBackend) -> None:
    """Of an inbox, by the kind of call; an observer sees all of them, with their answers."""
    seen = faulty.faults.observe("inbox.recorded")
    faulty.faults.fail("inbox.recorded", times=None, when=lambda keys: ("rotten", "a.b") in keys)
    assert await faulty.inbox("payment").recorded([("sound", "a.b")]) == {}
    with pytest.raises(StorageError):
        await faulty.inbox("payment").recorded([("rotten", "a.b")])
    assert seen.calls == [([("sound", "a.b")],), ([("rotten", "a.b")],)]
    assert seen.answers == [{}]


async def test_a_consumer_that_lost_its_partitions_is_told_by_its_next_poll(faulty: FaultyBackend) -> None:
    """Until then its commits are refused; after it, it gains them anew."""
    consumer = await faulty.log.consumer(TOPIC, "payment", "one")
    await faulty.log.append(TOPIC, [event("e-1")])
    await consumer.poll(10, 0)
    assert faulty.assigned("one") == {0, 1}
    await faulty.revoke("payment")
    with pytest.raises(LeaseLostError):
        await consumer.commit(CommitBatch(done={0: 1}))
    assert list((await consumer.poll(10, 0)).revoked) == [0, 1]
    again = await consumer.poll(10, 0)
    assert {assigned.partition for assigned in again.assigned} == {0, 1}
    await consumer.commit(CommitBatch(done={assigned.partition: assigned.end for assigned in again.assigned}))
    assert sum((await faulty.log.committed(TOPIC, "payment")).values()) == 1


async def test_what_is_not_planned_is_the_backends_own(faulty: FaultyBackend) -> None:
    """Also this backend's own methods."""
    assert faulty.states is faulty.backend.states
    assert await faulty.read_model.counts("order") == {}
    faulty.rewind(TOPIC, "payment")
