"""The tracker host: when it speaks, what it says again, what it never handles, and that a rebuild is the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from choreo.adapters.memory.home import MemoryHome
from choreo.core import facts, ids
from choreo.core.definition import FlowDefinition
from choreo.core.events import Envelope, Record
from choreo.core.partition import partition_of
from choreo.core.state import decode
from choreo.hosts.tracker import TrackerHost
from choreo.ports.log import TRACKER_GROUP
from choreo.testing.clock import VirtualClock
from tests.core.plain import flow, step

TOPIC = "order"
HOUR_S = 3_600


def definition(linger_ms: int) -> FlowDefinition:
    """Two steps, the first with a way back, a deadline of a day."""
    return flow(
        step("payment.charge", "OrderPlaced", "PaymentCharged", undone="PaymentRefunded"),
        step("mail.confirm", "PaymentCharged", "OrderConfirmed", fails="MailRefused"),
        deadline_ms=24 * HOUR_S * 1_000,
        linger_ms=linger_ms,
    )


class Ahead:
    """A clock that is ahead of another by so much; it waits in the other's time."""

    def __init__(self, clock: VirtualClock, by_ms: int) -> None:
        self._clock = clock
        self._by_ms = by_ms
        self.sleep = clock.sleep

    def now_ms(self) -> int:
        """The other's time and more."""
        return self._clock.now_ms() + self._by_ms


class Stage:
    """One partition (unless told otherwise), a tracker or several, and what the tests do and see."""

    def __init__(self, partitions: int) -> None:
        self.clock = VirtualClock()
        self.home = MemoryHome(self.clock)
        self.partitions = partitions
        self.linger_ms = 7 * 24 * HOUR_S * 1_000
        self.hosts: list[tuple[TrackerHost, asyncio.Task[None]]] = []

    def start(self, name: str = "one", attributes: dict[str, str] | None = None, *, ahead_ms: int = 0) -> TrackerHost:
        """Start a tracker; its clock may be ahead of the log's."""
        host = TrackerHost(
            definition(self.linger_ms),
            self.home.log,
            self.home.states,
            Ahead(self.clock, ahead_ms),
            name=name,
            attributes_of=lambda _: attributes or {},
        )
        self.hosts.append((host, asyncio.create_task(host.run())))
        return host

    async def stop(self) -> None:
        """Stop what runs."""
        for host, task in self.hosts:
            await host.stop()
            await self.clock.advance(1)
            await task
        self.hosts.clear()

    async def say(self, *events: Envelope) -> None:
        """Append, and let everybody do what follows."""
        await self.home.log.append(TOPIC, events)
        await self.clock.advance(0.01)

    async def log(self) -> list[Record]:
        """Everything on the log, partition after partition."""
        return [r for p in range(self.partitions) for r in await self.home.log.read(TOPIC, p, 0, 10_000)]

    async def types(self) -> list[str]:
        """The types on the log."""
        return [record.event.type for record in await self.log()]

    async def digest(self) -> tuple[Any, dict[str, bytes]]:
        """Every view and every state."""
        states = {}
        for partition in range(self.partitions):
            async for row in self.home.states.scan(TOPIC, partition):
                states[row.key] = row.state
        return await self.home.read_model.digest(TOPIC), states


@asynccontextmanager
async def staged(partitions: int = 1) -> AsyncIterator[Stage]:
    """A stage without a tracker yet."""
    stage = Stage(partitions)
    await stage.home.log.create(TOPIC, partitions)
    try:
        yield stage
    finally:
        await stage.stop()


def start(key: str = "o-1", **fields: Any) -> Envelope:
    """The start of a key."""
    return Envelope(**{"id": ids.start(TOPIC, key), "type": "OrderPlaced", "key": key, "flow": TOPIC} | fields)


def outcome(of: Envelope, step_name: str, type_: str, **fields: Any) -> Envelope:
    """What a step said of a trigger."""
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
    """The card was charged."""
    return outcome(of, "payment.charge", "PaymentCharged")


async def status(stage: Stage, key: str = "o-1") -> str:
    """The status of the key's newest run."""
    view = await stage.home.read_model.instance(TOPIC, key)
    return view.status if view else "unknown"


async def test_a_flow_that_went_well_is_completed_by_the_tracker() -> None:
    """The end is the tracker's fact, not the domain event."""
    async with staged() as stage:
        stage.start()
        placed = start()
        paid = charged(placed)
        await stage.say(placed, paid, outcome(paid, "mail.confirm", "OrderConfirmed"))
        assert (await stage.types())[-1] == facts.FLOW_COMPLETED
        assert await status(stage) == "completed"


async def test_it_says_nothing_before_it_has_read_to_the_end_it_had_when_it_took_the_partition() -> None:
    """What stands in the log already is not said again by a tracker that starts from nothing."""
    async with staged() as stage:
        stage.start()
        placed = start()
        paid = charged(placed)
        await stage.say(placed, paid, outcome(paid, "mail.confirm", "MailRefused", certain=True))
        before = await stage.types()
        assert before[-2:] == [facts.FLOW_TURNED, facts.COMPENSATION_REQUESTED]
        await stage.stop()
        await stage.home.states.drop(TOPIC)
        stage.start("two")
        await stage.clock.advance(1)
        assert await stage.types() == before


async def test_what_nobody_has_read_back_is_said_again_by_the_next_owner() -> None:
    """A decision whose record never reached the log stays in the state, and is said by whoever takes the partition."""
    async with staged() as stage:
        placed = start()
        paid = charged(placed)
        await stage.home.log.append(TOPIC, [placed, paid, outcome(paid, "mail.confirm", "MailRefused", certain=True)])
        stage.start()
        await stage.clock.advance(1)
        assert (await stage.types())[-2:] == [facts.FLOW_TURNED, facts.COMPENSATION_REQUESTED]


async def test_a_timer_fact_is_said_when_it_is_due_and_once() -> None:
    """The step's deadline passes: one fact, not earlier than due, however often the tracker looks."""
    async with staged() as stage:
        stage.start()
        await stage.say(start())
        await stage.clock.advance(HOUR_S)
        said = [r for r in await stage.log() if r.event.type == facts.STEP_DEADLINE_PASSED]
        assert len(said) == 1
        assert said[0].stamp_ms >= said[0].event.due_ms > 0
        assert await status(stage) == "compensating"


async def test_a_timer_that_was_due_while_no_tracker_ran_is_said_by_the_next() -> None:
    """Timers stand in the state: a restart loses none."""
    async with staged() as stage:
        stage.start()
        await stage.say(start())
        await stage.stop()
        await stage.clock.advance(HOUR_S)
        assert facts.STEP_DEADLINE_PASSED not in await stage.types()
        stage.start("two")
        await stage.clock.advance(1)
        assert facts.STEP_DEADLINE_PASSED in await stage.types()


async def test_a_timer_fact_that_came_too_early_is_said_again_when_it_is_due() -> None:
    """Another host's clock may run ahead: its fact is dropped, and said again when the log's time has come."""
    async with staged() as stage:
        stage.start()
        placed = start()
        await stage.say(placed)
        row = (await stage.home.states.load(TOPIC, 0, ["o-1"]))["o-1"]
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
        await stage.say(early)
        assert await status(stage) == "running"
        await stage.clock.advance(HOUR_S)
        stamps = [r.stamp_ms for r in await stage.log() if r.event.id == early.id]
        assert len(stamps) == 2
        assert stamps[0] < due_ms <= stamps[1]
        assert await status(stage) == "compensating"


async def test_a_tracker_whose_clock_is_ahead_says_its_timer_until_the_log_has_it() -> None:
    """Each time it comes too early the log's stamp tells how long to wait: the moment is not forgotten on the way."""
    async with staged() as stage:
        stage.start(ahead_ms=8_000)
        await stage.say(start())
        await stage.clock.advance(HOUR_S - 4)
        assert await status(stage) == "running"
        await stage.clock.advance(16)
        fact = [(r.stamp_ms, r.event.due_ms) for r in await stage.log() if r.event.type == facts.STEP_DEADLINE_PASSED]
        assert len(fact) == 2
        assert fact[0][0] < fact[0][1] <= fact[1][0]
        assert await status(stage) == "compensating"


async def test_a_record_in_a_partition_that_is_not_its_keys_is_said_again_where_it_belongs() -> None:
    """A producer with another hash is no reason to lose an order: once, under the same id, and not handled here."""
    async with staged(partitions=2) as stage:
        key = next(f"lost-{n}" for n in range(100) if partition_of(f"lost-{n}", 2) == 1)
        wrong = Record(TOPIC, 0, 0, stage.clock.now_ms(), start(key, id=""))
        stage.home.log._topics.partition(TOPIC, 0).append(wrong)  # no producer of ours can
        stage.start()
        await stage.clock.advance(1)
        here = [r for r in await stage.log() if r.event.key == key and r.event.type == "OrderPlaced"]
        assert [r.partition for r in here] == [0, 1]
        assert here[1].event.id == ids.foreign(TOPIC, 0, 0)
        assert await status(stage, key) == "running"


async def test_an_unknown_event_and_one_without_a_key_are_kept_as_dead_letters() -> None:
    """Each with its cause; the events around them are folded."""
    async with staged() as stage:
        stage.start()
        await stage.say(start(), Envelope("x", "OrderLost", "o-1", TOPIC), start("o-2"))
        letters = await stage.home.dead_letters.list(TOPIC)
        assert [letter.record.event.type for letter in letters] == ["OrderLost"]
        assert "no event of flow order" in letters[0].cause
        assert await status(stage, "o-2") == "running"


async def test_state_and_read_model_rebuilt_from_the_log_are_byte_equal() -> None:
    """Both are a pure fold of it."""
    async with staged(partitions=3) as stage:
        stage.start(attributes={"colour": "red"})
        for number in range(20):
            placed = start(f"o-{number}")
            paid = charged(placed)
            last = outcome(
                paid, "mail.confirm", "OrderConfirmed" if number % 3 else "MailRefused", certain=not number % 3
            )
            await stage.say(placed, paid, last)
        await stage.clock.advance(HOUR_S)
        before = await stage.digest()
        assert len(before[1]) == 20
        await stage.stop()
        await stage.home.states.drop(TOPIC)
        await stage.home.read_model.drop(TOPIC)
        stage.start("two", attributes={"colour": "red"})
        await stage.clock.advance(1)
        assert await stage.digest() == before


async def test_a_rebuild_shows_runs_that_ended_and_were_forgotten_since() -> None:
    """One batch of a rebuild may hold a run's end and, when it has lingered, the next start of its key."""
    async with staged() as stage:
        stage.linger_ms = 1_000
        stage.start()
        for number in range(3):
            placed = start(id=f"start-{number}")
            paid = charged(placed)
            await stage.say(placed, paid, outcome(paid, "mail.confirm", "OrderConfirmed"))
            await stage.clock.advance(2)
        before = await stage.digest()
        await stage.stop()
        await stage.home.states.drop(TOPIC)
        await stage.home.read_model.drop(TOPIC)
        stage.start("two")
        await stage.clock.advance(1)
        assert await stage.digest() == before
        assert (await stage.home.read_model.counts(TOPIC))["completed"] == 3


async def test_the_attributes_of_a_start_outlive_a_restart() -> None:
    """A tracker that loads a state reads them from the start event in the log."""
    async with staged() as stage:
        stage.start(attributes={"colour": "red"})
        placed = start()
        await stage.say(placed)
        await stage.stop()
        stage.start("two", attributes={"colour": "red"})
        await stage.say(charged(placed))
        view = await stage.home.read_model.instance(TOPIC, "o-1")
        assert view is not None
        assert view.attributes == {"colour": "red"}


async def test_two_trackers_share_the_partitions_and_agree() -> None:
    """Whoever owns a partition decides; nothing is said twice."""
    async with staged(partitions=4) as stage:
        stage.start("one")
        stage.start("two")
        await stage.clock.advance(10)
        orders = [start(f"o-{number}") for number in range(20)]
        await stage.say(*orders)
        await stage.say(*[charged(placed) for placed in orders])
        await stage.say(*[outcome(charged(placed), "mail.confirm", "OrderConfirmed") for placed in orders])
        assert (await stage.types()).count(facts.FLOW_COMPLETED) == 20
        assert sum(host.counters.read().get("tracker_events", 0) > 0 for host, _ in stage.hosts) == 2


async def test_every_event_read_moves_the_position_of_its_key() -> None:
    """Also one that changes nothing: the state is written again at its offset."""
    async with staged() as stage:
        stage.start()
        placed = start()
        await stage.say(placed, placed)
        row = (await stage.home.states.load(TOPIC, 0, ["o-1"]))["o-1"]
        assert row.position == 1
        assert (await stage.home.log.committed(TOPIC, TRACKER_GROUP)) == {0: 2}
