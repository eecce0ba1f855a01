"""Reading at places: points and pieces, many at once, and a reader that is interrupted."""

import asyncio
import threading

import pytest
from confluent_kafka import Consumer

from choreo.adapters.kafka import reader
from choreo.adapters.kafka.reader import PIECE, READERS
from choreo.testing.conformance import TOPIC, event
from tests.adapters.kafka.conftest import OpenLog
from tests.support.patience import PATIENCE_S

RECORDS = 3_000


async def test_pieces_follow_each_other_and_points_lie_anywhere(open_log: OpenLog) -> None:
    """Any reader returns the requested records, in order, as often as they are requested."""
    log = open_log()
    await log.create(TOPIC, 1)
    await log.append(TOPIC, [event(f"e-{number}") for number in range(RECORDS)])
    offset = 0
    while records := await log.read(TOPIC, 0, offset, PIECE * 7):
        assert [record.event.id for record in records] == [f"e-{offset + n}" for n in range(len(records))]
        offset += len(records)
    assert offset == RECORDS
    wanted = [(7 * number) % RECORDS for number in range(30)]
    found = await asyncio.gather(*(log.read(TOPIC, 0, offset, 1) for offset in wanted))
    assert [records[0].event.id for records in found] == [f"e-{offset}" for offset in wanted]


async def test_a_reader_whose_asker_went_away_is_used_again(open_log: OpenLog) -> None:
    """Only when its thread is done: two threads in one consumer would be the end of it."""
    log = open_log()
    await log.create(TOPIC, 1)
    await log.append(TOPIC, [event(f"e-{number}") for number in range(RECORDS)])
    for _ in range(3 * READERS):
        asking = asyncio.ensure_future(log.read(TOPIC, 0, 0, RECORDS))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait((asking,))
    assert len(await log.read(TOPIC, 0, 0, RECORDS)) == RECORDS


async def test_a_reader_without_a_next_request_fetches_no_more(
    open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A piece that ends where the partition does tells nobody so: its reader would ask the broker for more for ever."""
    rested = threading.Event()

    class Watched(Consumer):
        """A client that shows when it gives up its partition."""

        def unassign(self) -> None:
            super().unassign()
            rested.set()

    monkeypatch.setattr(reader, "Consumer", Watched)
    log = open_log()
    await log.create(TOPIC, 1)
    await log.append(TOPIC, [event(f"e-{number}") for number in range(PIECE)])
    assert len(await log.read(TOPIC, 0, 0, PIECE)) == PIECE
    assert not rested.is_set(), "it fetches ahead for the next piece"
    assert await asyncio.to_thread(rested.wait, PATIENCE_S)
    assert await log.read(TOPIC, 0, PIECE, PIECE) == []


async def test_a_large_append_keeps_its_order(open_log: OpenLog) -> None:
    """Positions come back in the order given, also where other tasks append meanwhile."""
    log = open_log()
    await log.create(TOPIC, 2)
    batches = [[event(f"{batch}-{n}", key=f"o-{n % 3}") for n in range(RECORDS)] for batch in range(2)]
    for batch, positions in zip(batches, await asyncio.gather(*(log.append(TOPIC, b) for b in batches)), strict=True):
        for partition in (0, 1):
            offsets = [position.offset for position in positions if position.partition == partition]
            assert offsets == sorted(offsets)
        last = positions[-1]
        (record,) = await log.read(TOPIC, last.partition, last.offset, 1)
        assert record.event == batch[-1]
