"""The tracker reads its own decisions in the transaction that appends them, where no record stands in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from choreo.adapters.sqlite import SqliteBackend
from choreo.app.tracking.fold import Batch, PartitionFold
from choreo.core import facts
from choreo.core.errors import StorageError
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.state import decode
from choreo.hosts.tracker import TrackerHost
from choreo.ports.log import CommitBatch
from choreo.testing.clock import VirtualClock
from tests.hosts.test_tracker import HOUR_S, TOPIC, charged, definition, outcome, start
from tests.support.patience import PATIENCE_S

FLOW = definition(HOUR_S * 1_000)


@pytest.fixture
def clock() -> VirtualClock:
    """Return the clock of backend and tracker."""
    return VirtualClock()


@pytest.fixture
async def backend(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[SqliteBackend]:
    """Yield a file with a topic of one partition."""
    opened = await SqliteBackend.open(tmp_path / "choreo.db", clock=clock)
    await opened.log.create(TOPIC, 1)
    yield opened
    await opened.close()


def facts_of(number: int) -> list[Envelope]:
    """Return the events of an order that goes well, or whose last step fails and is undone."""
    placed = start(f"o-{number}")
    paid = charged(placed)
    certain = bool(number % 2)
    return [
        placed,
        paid,
        outcome(paid, "mail.confirm", "MailRefused" if certain else "OrderConfirmed", certain=certain),
    ]


@asynccontextmanager
async def tracking(backend: SqliteBackend, clock: VirtualClock) -> AsyncIterator[None]:
    """Run a tracker that has read the whole log."""
    host = TrackerHost(FLOW, backend.log, backend.states, clock, name="one", attributes_of=lambda _: {"colour": "red"})
    task = asyncio.create_task(host.run())
    try:
        while not host.polled_ms:  # noqa: ASYNC110 - a host notifies nobody
            await asyncio.sleep(0)
        await caught_up(backend)
        yield
    finally:
        await host.stop()
        await clock.advance(1)
        await task


async def caught_up(backend: SqliteBackend) -> None:
    """Wait until the whole log is folded."""
    async with asyncio.timeout(PATIENCE_S):
        while (await backend.read_model.positions(TOPIC)).get(0, 0) < await backend.log.end(TOPIC, 0):  # noqa: ASYNC110
            await asyncio.sleep(0)


async def contents(backend: SqliteBackend) -> tuple[Any, list[Any]]:
    """Return the views and the states."""
    return await backend.read_model.digest(TOPIC), [row async for row in backend.states.scan(TOPIC, 0)]


async def test_the_end_of_a_flow_is_published_and_shown_in_one_transaction(
    backend: SqliteBackend, clock: VirtualClock
) -> None:
    """Nobody reads FlowCompleted in the log without reading the instance as completed."""
    async with tracking(backend, clock):
        placed, paid, confirmed = facts_of(0)
        await backend.log.append(TOPIC, [placed, paid])
        await caught_up(backend)
        before = backend.writer.transactions
        await backend.log.append(TOPIC, [confirmed])
        await caught_up(backend)
        assert backend.writer.transactions == before + 2, "the confirmation's own, and the tracker's"
    last = (await backend.log.read(TOPIC, 0, 0, 10))[-1]
    assert last.event.type == facts.FLOW_COMPLETED
    view = await backend.read_model.instance(TOPIC, "o-0")
    assert view is not None
    assert (view.status, view.position) == ("completed", last.offset)


async def test_what_was_followed_is_what_a_fold_of_the_log_makes(backend: SqliteBackend, clock: VirtualClock) -> None:
    """States and views byte for byte, after ends and started compensations one by one and together."""
    async with tracking(backend, clock):
        for number in range(6):
            for fact in facts_of(number):
                await backend.log.append(TOPIC, [fact])
                await caught_up(backend)
        await backend.log.append(TOPIC, [fact for number in range(6, 12) for fact in facts_of(number)])
        await caught_up(backend)
    followed = await contents(backend)
    assert len(followed[1]) == 12
    await backend.states.drop(TOPIC)
    await backend.read_model.drop(TOPIC)
    async with tracking(backend, clock):
        assert await contents(backend) == followed


def _decided(offset: int) -> tuple[PartitionFold, Batch, Record]:
    """Return a fold of an order up to its decision to complete, and that decision at this offset."""
    tracker = PartitionFold(FlowTable(FLOW), 0, 1, lambda _: {})
    records = [Record(TOPIC, 0, offset, 1_000, event) for offset, event in enumerate(facts_of(0))]
    tracker.put({}, tracker.missing(records))
    batch = tracker.fold(records, 1_000)
    (completed,) = batch.outputs
    return tracker, batch, Record(TOPIC, 0, offset, 1_000, completed)


def test_a_decision_with_another_record_before_it_waits_for_the_next_poll() -> None:
    """The fold is in the order of the log."""
    tracker, batch, decision = _decided(offset=4)
    assert tracker.follow(batch, 3, [decision]) is None


def test_following_changes_nothing_until_it_is_adopted() -> None:
    """A transaction may be undone."""
    tracker, batch, decision = _decided(offset=3)
    for _ in range(2):
        followed = tracker.follow(batch, 3, [decision])
        assert followed is not None
        assert followed.position == 4
        assert [view.status for view in followed.views] == ["completed"]
        assert not followed.rows[0].unacknowledged
        assert decode(batch.states[0].state) == tracker.cache["o-0"].state
    tracker.adopt(batch, followed)
    assert decode(followed.rows[0].state) == tracker.cache["o-0"].state
    assert batch.read_back[-1] == decision.event.id


async def test_a_work_is_asked_again_when_its_transaction_is_run_again(backend: SqliteBackend) -> None:
    """Another work's failure undoes it; the last answer is committed, and no poll brings the records it covers."""
    consumer = await backend.log.consumer(TOPIC, "payment", "a")
    await consumer.poll(10, 0)
    asked: list[list[int]] = []

    def follow(records: Sequence[Record]) -> CommitBatch:
        asked.append([record.offset for record in records])
        return CommitBatch(done={0: records[-1].offset + 1})

    def fail() -> None:
        raise StorageError("no", where="here", remedy="none")

    published = Envelope("said", "Said", "o-1", TOPIC)
    results = await asyncio.gather(
        consumer.commit(CommitBatch(outputs=[published], done={0: 0}, follow=follow)),
        backend.writer.write(fail),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), StorageError]
    assert asked == [[0], [0]]
    assert await backend.log.committed(TOPIC, "payment") == {0: 1}
    assert list((await consumer.poll(10, 0)).records) == []
