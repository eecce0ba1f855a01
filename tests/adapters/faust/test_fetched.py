"""Fetched messages become records: complete, of assigned partitions only, with the log's time."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from choreo.adapters.faust.assignments import Assignments
from choreo.adapters.faust.fetched import BATCH, FetchedRecords
from choreo.adapters.memory.backend import MemoryBackend
from choreo.core.errors import SkippedError
from choreo.core.events import Envelope, Record
from choreo.ports.log import Assigned
from choreo.testing.clock import VirtualClock

GENERATION = 3


class Message(NamedTuple):
    """A message as Faust's client gives it."""

    offset: int
    partition: int = 0
    timestamp: float = 7.0
    timestamp_type: int = 1
    generation_id: int = GENERATION
    headers: tuple[()] = ()
    key: bytes = b"o-1"
    value: bytes = b""


class Fetching:
    """A log with some records, its only partition assigned, and the log's times that were observed."""

    def __init__(self, backend: MemoryBackend) -> None:
        self.observed: list[int] = []
        self.assignments = Assignments()
        self.assignments.assign([Assigned(0, 0, 0)], {})
        self.assignments.take_news()
        self.records = FetchedRecords(
            "order", backend.log, "log-1", lambda *_: Envelope("e", "OrderPlaced", "o-1", "order"), self.observed.append
        )

    async def take(self, *messages: Message, limit: int = 1_000) -> list[Record]:
        """Put a fetch, unless it is empty, and poll."""
        if messages:
            await self.records.put(messages)
        return await self.records.take(limit, GENERATION, self.assignments.polled)


@pytest.fixture
async def fetching() -> Fetching:
    """Return a partition of which five records stand in the log, one each second."""
    clock = VirtualClock()
    backend = MemoryBackend(clock)
    await backend.log.create("order", 1)
    for number in range(5):
        await backend.log.append("order", [Envelope(f"e-{number}", "OrderPlaced", "o-1", "order")])
        await clock.advance(1)
    return Fetching(backend)


async def test_a_fetch_is_delivered_batch_by_batch(fetching: Fetching) -> None:
    """With offset, stamp and log of each record; none is delivered twice."""
    messages = [Message(offset) for offset in range(BATCH + 2)]
    first = await fetching.take(*messages)
    assert [record.offset for record in first] == list(range(BATCH))
    assert (first[0].stamp_ms, first[0].log_id) == (7_000, "log-1")
    assert not fetching.records.is_empty
    assert [record.offset for record in await fetching.take()] == [BATCH, BATCH + 1]
    assert fetching.records.is_empty
    assert fetching.assignments.polled()[0].delivered == BATCH + 2
    assert fetching.observed == [7_000, 7_000]


async def test_a_record_that_was_left_out_ends_the_session(fetching: Fetching) -> None:
    """Offset 1 stands in the log, 2 was delivered; the entry 5 is no record."""
    await fetching.take(Message(0))
    with pytest.raises(SkippedError, match="offset 1 was not delivered, 2 was"):
        await fetching.take(Message(2))
    assert [record.offset for record in await fetching.take(*(Message(at) for at in (1, 2, 3, 4, 6)))][-1] == 6


async def test_messages_fetched_before_a_rebalance_are_left_out(fetching: Fetching) -> None:
    """Their partition's owner reads them again; so are those of a partition that is no longer assigned."""
    assert await fetching.take(Message(0, generation_id=GENERATION - 1), Message(0, partition=1)) == []
    fetching.assignments.revoke()
    assert await fetching.take(Message(0)) == []


async def test_a_record_with_its_producers_time_has_the_logs_time_before_it(fetching: Fetching) -> None:
    """The log is asked where no record of the partition was read before."""
    fetching.assignments.polled()[0].delivered = 2
    (asked,) = await fetching.take(Message(2, timestamp=1.0, timestamp_type=0))
    stamps = [record.stamp_ms for record in await fetching.take(Message(3), Message(4, timestamp_type=0))]
    fetching.records.restart()
    fetching.assignments.polled()[0].delivered = 2
    (asked_again,) = await fetching.take(Message(2, timestamp=1.0, timestamp_type=0))
    assert asked_again.stamp_ms == asked.stamp_ms > 1_000
    assert stamps == [7_000, 7_000]
