"""The tracker host: published, repeated and unhandled events; a rebuild gives the same."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from choreo.adapters.memory.backend import MemoryBackend
from choreo.adapters.sqlite import SqliteBackend
from choreo.core import facts, ids
from choreo.core.definition import FlowDefinition
from choreo.core.events import Envelope, Record
from choreo.core.identity import identified
from choreo.core.partition import partition_of
from choreo.core.state import decode
from choreo.hosts.tracker import TrackerHost
from choreo.ports.log import TRACKER_GROUP
from choreo.testing.clock import VirtualClock
from tests.core.plain import flow, step

TOPIC = "order"
HOUR_S = 3_600


def definition(linger_ms: int) -> FlowDefinition:
    """Return two steps, the first with a way back, a deadline of a day."""
    return flow(
        step("payment.charge", "OrderPlaced", "PaymentCharged", undone="PaymentRefunded"),
        step("mail.confirm", "PaymentCharged", "OrderConfirmed", fails="MailRefused"),
        deadline_ms=24 * HOUR_S * 1_000,
        linger_ms=linger_ms,
    )


class Ahead:
    """A clock that is ahead of another one; it waits in the other's time."""

    def __init__(self, clock: VirtualClock, by_ms: int) -> None:
        self._clock = clock
        self._by_ms = by_ms
        self.sleep = clock.sleep

    def now_ms(self) -> int:
        """Return the other's time and more."""
        return self._clock.now_ms() + self._by_ms


class Harness:
    """A log with one tracker or several, and the actions of the tests."""

    def __init__(self, partitions: int) -> None:
        self.clock = VirtualClock()
        self.backend = MemoryBackend(self.clock)
        self.partitions = partitions
        self.linger_ms = 7 * 24 * HOUR_S * 1_000
        self.hosts: list[tuple[TrackerHost, asyncio.Task[None]]] = []

    def start(self, name: str = "one", attributes: dict[str, str] | None = None, *, ahead_ms: int = 0) -> TrackerHost:
        """Start a tracker; its clock may be ahead of the log's."""
        host = TrackerHost(
            definition(self.linger_ms),
            self.backend.log,
            self.backend.states,
            Ahead(self.clock, ahead_ms),
            name=name,
            attributes_of=lambda _: attributes or {},
        )
        self.hosts.append((host, asyncio.create_task(host.run())))
        return host

    async def stop(self) -> None:
        """Stop the running hosts."""
        for host, task in self.hosts:
            await host.stop()
            await self.clock.advance(1)
            await task
        self.hosts.clear()

    async def publish(self, *events: Envelope) -> None:
        """Append events, and let the trackers work."""
        await self.backend.log.append(TOPIC, events)
        await self.clock.advance(0.01)

    async def log(self) -> list[Record]:
        """Return the records of the log, partition after partition."""
        return [r for p in range(self.partitions) for r in await self.backend.log.read(TOPIC, p, 0, 10_000)]

    async def types(self) -> list[str]:
        """Return the types on the log."""
        return [record.event.type for record in await self.log()]

    async def digest(self) -> tuple[Any, dict[str, bytes]]:
        """Return every view and every state."""
        states = {}
        for partition in range(self.partitions):
            async for row in self.backend.states.scan(TOPIC, partition):
                states[row.key] = row.state
        return await self.backend.read_model.digest(TOPIC), states


@asynccontextmanager
async def running_harness(partitions: int = 1) -> AsyncIterator[Harness]:
    """Yield a harness that has no tracker yet."""
    harness = Harness(partitions)
    await harness.backend.log.create(TOPIC, partitions)
    try:
        yield harness
    finally:
        await harness.stop()


def start(key: str = "o-1", **fields: Any) -> Envelope:
    """Return the start of a key."""
    return Envelope(**{"id": ids.start(TOPIC, key), "type": "OrderPlaced", "key": key, "flow": TOPIC} | fields)


def outcome(of: Envelope, step_name: str, type_: str, **fields: Any) -> Envelope:
    """Return the outcome of a step for a trigger."""
    return Envelope(
        id=ids.outcome(of.id, step_name),
        type=type_,
        key=of.key,
        flow=TOPIC,
        run=of.run or of.id,
        step=step_name,
        causation=of.id,
        **fields,
    )


def charged(of: Envelope) -> Envelope:
    """Return the outcome that the card was charged."""
    return outcome(of, "payment.charge", "PaymentCharged")


async def status(harness: Harness, key: str = "o-1") -> str:
    """Return the status of the key's newest run."""
    view = await harness.backend.read_model.instance(TOPIC, key)
    return view.status if view else "unknown"


async def test_a_flow_that_went_well_is_completed_by_the_tracker() -> None:
    """The end is the tracker's fact, not the domain event."""
    async with running_harness() as harness:
        harness.start()
        placed = start()
        paid = charged(placed)
        await harness.publish(placed, paid, outcome(paid, "mail.confirm", "OrderConfirmed"))
        assert (await harness.types())[-1] == facts.FLOW_COMPLETED
        assert await status(harness) == "completed"


async def test_it_publishes_nothing_before_it_has_read_to_the_end_that_stood_when_it_was_assigned() -> None:
    """A tracker that starts without states publishes no decision that stands in the log."""
    async with running_harness() as harness:
        harness.start()
        placed = start()
        paid = charged(placed)
        await harness.publish(placed, paid, outcome(paid, "mail.confirm", "MailRefused", certain=True))
        before = await harness.types()
        assert before[-2:] == [facts.COMPENSATION_STARTED, facts.COMPENSATION_REQUESTED]
        await harness.stop()
        await harness.backend.states.drop(TOPIC)
        harness.start("two")
        await harness.clock.advance(1)
        assert await harness.types() == before


async def test_a_decision_that_was_not_read_back_is_published_by_the_next_owner() -> None:
    """A decision whose record never reached the log stays in the state until the tracker reads it from the log."""
    async with running_harness() as harness:
        placed = start()
        paid = charged(placed)
        await harness.backend.log.append(
            TOPIC, [placed, paid, outcome(paid, "mail.confirm", "MailRefused", certain=True)]
        )
        harness.start()
        await harness.clock.advance(1)
        assert (await harness.types())[-2:] == [facts.COMPENSATION_STARTED, facts.COMPENSATION_REQUESTED]


async def test_a_timer_fact_is_published_when_it_is_due_and_once() -> None:
    """The step's deadline passes: one fact, not earlier than due, however often the tracker looks."""
    async with running_harness() as harness:
        harness.start()
        await harness.publish(start())
        await harness.clock.advance(HOUR_S)
        published = [r for r in await harness.log() if r.event.type == facts.STEP_DEADLINE_PASSED]
        assert len(published) == 1
        assert published[0].stamp_ms >= published[0].event.due_ms > 0
        assert await status(harness) == "compensating"


async def test_a_timer_that_was_due_while_no_tracker_ran_is_published_by_the_next() -> None:
    """Timers stand in the state: a restart loses none."""
    async with running_harness() as harness:
        harness.start()
        await harness.publish(start())
        await harness.stop()
        await harness.clock.advance(HOUR_S)
        assert facts.STEP_DEADLINE_PASSED not in await harness.types()
        harness.start("two")
        await harness.clock.advance(1)
        assert facts.STEP_DEADLINE_PASSED in await harness.types()


async def test_a_timer_fact_that_came_too_early_is_published_again_when_it_is_due() -> None:
    """Another host's clock may run ahead: its fact is dropped, and published again when the log's time has come."""
    async with running_harness() as harness:
        harness.start()
        placed = start()
        await harness.publish(placed)
        row = (await harness.backend.states.load(TOPIC, 0, ["o-1"]))["o-1"]
        due_ms = decode(row.state).runs[0].expected[0].due_ms
        early = Envelope(
            id=ids.timer("step", f"{placed.id}/payment.charge", due_ms),
            type=facts.STEP_DEADLINE_PASSED,
            key="o-1",
            flow=TOPIC,
            run=placed.id,
            step="payment.charge",
            trigger=placed.id,
            due_ms=due_ms,
        )
        await harness.publish(early)
        assert await status(harness) == "running"
        await harness.clock.advance(HOUR_S)
        stamps = [r.stamp_ms for r in await harness.log() if r.event.id == early.id]
        assert len(stamps) == 2
        assert stamps[0] < due_ms <= stamps[1]
        assert await status(harness) == "compensating"


async def test_a_tracker_whose_clock_is_ahead_publishes_its_timer_until_it_is_not_early() -> None:
    """Each time it comes too early, the log's stamp shows how long to wait."""
    async with running_harness() as harness:
        harness.start(ahead_ms=8_000)
        await harness.publish(start())
        await harness.clock.advance(HOUR_S - 4)
        assert await status(harness) == "running"
        await harness.clock.advance(16)
        fact = [(r.stamp_ms, r.event.due_ms) for r in await harness.log() if r.event.type == facts.STEP_DEADLINE_PASSED]
        assert len(fact) == 2
        assert fact[0][0] < fact[0][1] <= fact[1][0]
        assert await status(harness) == "compensating"


async def test_a_record_in_a_partition_that_is_not_its_keys_is_published_again_where_it_belongs(
    tmp_path: Path,
) -> None:
    """Once, under the same id; it is not handled where it was found. A producer with another hash loses no order."""
    clock = VirtualClock()
    backend = await SqliteBackend.open(tmp_path / "choreo.db", clock=clock)
    await backend.log.create(TOPIC, 2)
    key = next(f"lost-{n}" for n in range(100) if partition_of(f"lost-{n}", 2) == 1)
    with closing(sqlite3.connect(tmp_path / "choreo.db")) as foreign:  # a producer of ours finds the right partition
        foreign.execute("INSERT INTO log (topic, partition, key, type) VALUES (?, 0, ?, 'OrderPlaced')", (TOPIC, key))
        foreign.commit()
    host = TrackerHost(definition(HOUR_S), backend.log, backend.states, clock, name="one", attributes_of=lambda _: {})
    running = asyncio.create_task(host.run())
    while await backend.read_model.instance(TOPIC, key) is None:
        await clock.advance(1)
    await host.stop()
    await clock.advance(1)
    await running
    records = [record for partition in range(2) for record in await backend.log.read(TOPIC, partition, 0, 10)]
    assert [(record.partition, record.event.type) for record in records] == [(0, "OrderPlaced"), (1, "OrderPlaced")]
    assert records[1].event.id == identified(records[0]).id
    view = await backend.read_model.instance(TOPIC, key)
    assert view is not None
    assert view.status == "running"
    await backend.close()


async def test_an_unknown_event_and_one_without_a_key_are_kept_as_dead_letters() -> None:
    """Each with its cause; the events around them are folded."""
    async with running_harness() as harness:
        harness.start()
        await harness.publish(start(), Envelope("x", "OrderLost", "o-1", TOPIC), start("o-2"))
        dead_letters = await harness.backend.dead_letters.list(TOPIC)
        assert [dead_letter.record.event.type for dead_letter in dead_letters] == ["OrderLost"]
        assert "no event of flow order" in dead_letters[0].cause
        assert await status(harness, "o-2") == "running"


async def test_state_and_read_model_rebuilt_from_the_log_are_byte_equal() -> None:
    """Both are a pure fold of it."""
    async with running_harness(partitions=3) as harness:
        harness.start(attributes={"colour": "red"})
        for number in range(20):
            placed = start(f"o-{number}")
            paid = charged(placed)
            last = outcome(
                paid, "mail.confirm", "OrderConfirmed" if number % 3 else "MailRefused", certain=not number % 3
            )
            await harness.publish(placed, paid, last)
        await harness.clock.advance(HOUR_S)
        before = await harness.digest()
        assert len(before[1]) == 20
        await harness.stop()
        await harness.backend.states.drop(TOPIC)
        await harness.backend.read_model.drop(TOPIC)
        harness.start("two", attributes={"colour": "red"})
        await harness.clock.advance(1)
        assert await harness.digest() == before


async def test_a_rebuild_shows_runs_that_ended_and_were_forgotten_since() -> None:
    """One batch of a rebuild may hold a run's end and, when it has lingered, the next start of its key."""
    async with running_harness() as harness:
        harness.linger_ms = 1_000
        harness.start()
        for number in range(3):
            placed = start(id=f"start-{number}")
            paid = charged(placed)
            await harness.publish(placed, paid, outcome(paid, "mail.confirm", "OrderConfirmed"))
            await harness.clock.advance(2)
        before = await harness.digest()
        await harness.stop()
        await harness.backend.states.drop(TOPIC)
        await harness.backend.read_model.drop(TOPIC)
        harness.start("two")
        await harness.clock.advance(1)
        assert await harness.digest() == before
        assert (await harness.backend.read_model.counts(TOPIC))["completed"] == 3


async def test_the_attributes_of_a_start_outlive_a_restart() -> None:
    """A tracker that loads a state reads them from the start event in the log."""
    async with running_harness() as harness:
        harness.start(attributes={"colour": "red"})
        placed = start()
        await harness.publish(placed)
        await harness.stop()
        harness.start("two", attributes={"colour": "red"})
        await harness.publish(charged(placed))
        view = await harness.backend.read_model.instance(TOPIC, "o-1")
        assert view is not None
        assert view.attributes == {"colour": "red"}


async def test_two_trackers_share_the_partitions_and_agree() -> None:
    """Only the owner of a partition decides; nothing is published twice."""
    async with running_harness(partitions=4) as harness:
        harness.start("one")
        harness.start("two")
        await harness.clock.advance(10)
        orders = [start(f"o-{number}") for number in range(20)]
        await harness.publish(*orders)
        await harness.publish(*[charged(placed) for placed in orders])
        await harness.publish(*[outcome(charged(placed), "mail.confirm", "OrderConfirmed") for placed in orders])
        assert (await harness.types()).count(facts.FLOW_COMPLETED) == 20
        assert sum(host.metrics.read().get("tracker_events", 0) > 0 for host, _ in harness.hosts) == 2


async def test_every_event_read_moves_the_position_of_its_key() -> None:
    """Also one that changes nothing: the state is written again at its offset."""
    async with running_harness() as harness:
        harness.start()
        placed = start()
        await harness.publish(placed, placed)
        row = (await harness.backend.states.load(TOPIC, 0, ["o-1"]))["o-1"]
        assert row.position == 1
        assert (await harness.backend.log.committed(TOPIC, TRACKER_GROUP)) == {0: 2}
