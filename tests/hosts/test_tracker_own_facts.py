"""What the tracker decides is read back in the transaction that appends it, where nothing stands in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from choreo.adapters.sqlite import SqliteHome
from choreo.app.track import Batch, PartitionTracker
from choreo.core import facts
from choreo.core.definition import FlowTable
from choreo.core.errors import StorageError
from choreo.core.events import Envelope, Record
from choreo.core.state import decode
from choreo.hosts.tracker import TrackerHost
from choreo.ports.log import Work
from choreo.testing.clock import VirtualClock
from tests.hosts.test_tracker import HOUR_S, TOPIC, charged, definition, outcome, start

FLOW = definition(HOUR_S * 1_000)


@pytest.fixture
def clock() -> VirtualClock:
    """The home's and the tracker's."""
    return VirtualClock()


@pytest.fixture
async def home(tmp_path: Path, clock: VirtualClock) -> AsyncIterator[SqliteHome]:
    """A file with a topic of one partition."""
    opened = await SqliteHome.open(tmp_path / "choreo.db", clock=clock)
    await opened.log.create(TOPIC, 1)
    yield opened
    await opened.close()


def facts_of(number: int) -> list[Envelope]:
    """An order that goes well, or whose last step fails and is undone."""
    placed = start(f"o-{number}")
    paid = charged(placed)
    certain = bool(number % 2)
    return [
        placed,
        paid,
        outcome(paid, "mail.confirm", "MailRefused" if certain else "OrderConfirmed", certain=certain),
    ]


@asynccontextmanager
async def tracking(home: SqliteHome, clock: VirtualClock) -> AsyncIterator[None]:
    """A tracker at work on the home, which has read all that stands there."""
    host = TrackerHost(FLOW, home.log, home.states, clock, name="one", attributes_of=lambda _: {"colour": "red"})
    task = asyncio.create_task(host.run())
    try:
        while not host.polled_ms:  # noqa: ASYNC110 - a host rings no bell
            await asyncio.sleep(0)
        await caught_up(home)
        yield
    finally:
        await host.stop()
        await clock.advance(1)
        await task


async def caught_up(home: SqliteHome) -> None:
    """Everything that stands in the log is folded."""
    async with asyncio.timeout(30):
        while (await home.read_model.positions(TOPIC)).get(0, 0) < await home.log.end(TOPIC, 0):  # noqa: ASYNC110
            await asyncio.sleep(0)


async def contents(home: SqliteHome) -> tuple[Any, list[Any]]:
    """The views and the states."""
    return await home.read_model.digest(TOPIC), [row async for row in home.states.scan(TOPIC, 0)]


async def test_the_end_of_a_flow_is_said_and_shown_in_one_transaction(home: SqliteHome, clock: VirtualClock) -> None:
    """Nobody reads FlowCompleted in the log without reading the instance as completed."""
    async with tracking(home, clock):
        placed, paid, confirmed = facts_of(0)
        await home.log.append(TOPIC, [placed, paid])
        await caught_up(home)
        before = home.writer.transactions
        await home.log.append(TOPIC, [confirmed])
        await caught_up(home)
        assert home.writer.transactions == before + 2, "the confirmation's own, and the tracker's"
    last = (await home.log.read(TOPIC, 0, 0, 10))[-1]
    assert last.event.type == facts.FLOW_COMPLETED
    view = await home.read_model.instance(TOPIC, "o-0")
    assert view is not None
    assert (view.status, view.position) == ("completed", last.offset)


async def test_what_was_followed_is_what_a_fold_of_the_log_makes(home: SqliteHome, clock: VirtualClock) -> None:
    """States and views byte for byte, after ends and turns one by one and together."""
    async with tracking(home, clock):
        for number in range(6):
            for fact in facts_of(number):
                await home.log.append(TOPIC, [fact])
                await caught_up(home)
        await home.log.append(TOPIC, [fact for number in range(6, 12) for fact in facts_of(number)])
        await caught_up(home)
    followed = await contents(home)
    assert len(followed[1]) == 12
    await home.states.drop(TOPIC)
    await home.read_model.drop(TOPIC)
    async with tracking(home, clock):
        assert await contents(home) == followed


def _decided(offset: int) -> tuple[PartitionTracker, Batch, Record]:
    """A tracker that has folded an order up to its decision to complete, and that decision at this offset."""
    tracker = PartitionTracker(FlowTable(FLOW), 0, 1, lambda _: {})
    records = [Record(TOPIC, 0, offset, 1_000, event) for offset, event in enumerate(facts_of(0))]
    tracker.put({}, tracker.missing(records))
    batch = tracker.fold(records, 1_000)
    (completed,) = batch.outputs
    return tracker, batch, Record(TOPIC, 0, offset, 1_000, completed)


def test_a_decision_with_another_record_before_it_waits_for_the_next_poll() -> None:
    """The fold is in the order of the log."""
    tracker, batch, said = _decided(offset=4)
    assert tracker.follow(batch, 3, [said]) is None


def test_following_changes_nothing_until_it_is_adopted() -> None:
    """A transaction may be undone."""
    tracker, batch, said = _decided(offset=3)
    for _ in range(2):
        followed = tracker.follow(batch, 3, [said])
        assert followed is not None
        assert followed.position == 4
        assert [view.status for view in followed.views] == ["completed"]
        assert not followed.rows[0].unsaid
        assert decode(batch.states[0].state) == tracker.cache["o-0"].state
    tracker.adopt(batch, followed)
    assert decode(followed.rows[0].state) == tracker.cache["o-0"].state
    assert batch.read_back[-1] == said.event.id


async def test_a_work_is_asked_again_when_its_transaction_is_run_again(home: SqliteHome) -> None:
    """Another's failure undoes it; what it said last is true, and no poll brings what was followed."""
    member = await home.log.member(TOPIC, "payment", "a")
    await member.poll(10, 0)
    asked: list[list[int]] = []

    def follow(records: Sequence[Record]) -> Work:
        asked.append([record.offset for record in records])
        return Work(done={0: records[-1].offset + 1})

    def fail() -> None:
        raise StorageError("no", where="here", remedy="none")

    said = Envelope("said", "Said", "o-1", TOPIC)
    results = await asyncio.gather(
        member.commit(Work(outputs=[said], done={0: 0}, follow=follow)),
        home.writer.write(fail),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), StorageError]
    assert asked == [[0], [0]]
    assert await home.log.committed(TOPIC, "payment") == {0: 1}
    assert list((await member.poll(10, 0)).records) == []
