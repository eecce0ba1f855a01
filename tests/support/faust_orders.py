"""What the tests of the Faust tracker share: topics of their own, orders for them, and the audit of every state.

The audit reads the changelog with a plain client and folds the log from its first record: it asks no tracker.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from bench.core import history
from bench.saga import order
from choreo.adapters.clock import SystemClock
from choreo.adapters.kafka import KafkaLog, KafkaOptions
from choreo.adapters.kafka.records import event_of
from choreo.adapters.kafka.topics import CHANGELOG_CONFIG, changelog_of
from choreo.core import facts
from choreo.core.definition import FlowDefinition, FlowTable
from choreo.core.errors import NotFoundError, StorageError
from choreo.core.events import Envelope, Record
from choreo.core.react import react
from choreo.core.state import KeyState
from choreo.hosts.tracker_faust_host import FaustTracker
from choreo.hosts.tracker_faust_options import FaustOptions
from choreo.ports.log import TRACKER_GROUP
from tests.support.stored import stored

FLOW = "order"
PARTITIONS = 4
PATIENCE_S = 120.0
LOOK_S = 0.05
_PAGE = 2_000

table = FlowTable(order.definition)


class Scene:
    """One test's topics on the shared broker."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        """Nothing is made yet."""
        self.prefix = f"test-{uuid.uuid4().hex[:8]}-"
        self.bootstrap = bootstrap
        self.folder = folder
        self.log = KafkaLog(KafkaOptions(bootstrap, prefix=self.prefix))
        self.options = FaustOptions(bootstrap, folder, prefix=self.prefix)
        self.changelog = self.prefix + changelog_of(FLOW)

    async def make(self, *, with_changelog: bool = True) -> None:
        """Make the topics."""
        await self.log.create(FLOW, PARTITIONS)
        if not with_changelog:
            return
        admin = self.admin()
        made = admin.create_topics([NewTopic(self.changelog, PARTITIONS, 1, config=dict(CHANGELOG_CONFIG))])
        await asyncio.to_thread(made[self.changelog].result)
        await until(self._there, "the changelog topic")

    async def _there(self) -> bool:
        try:
            return await self.log.partitions(self.changelog.removeprefix(self.prefix)) == PARTITIONS
        except NotFoundError:
            return False

    def another_log(self) -> KafkaLog:
        """The log as a process of its own would have it, which knows nothing yet."""
        return KafkaLog(KafkaOptions(self.bootstrap, prefix=self.prefix))

    def host(self, flow: FlowDefinition = table.flow) -> FaustTracker:
        """A worker that is not started, as a process of its own would have it."""
        log = self.another_log()
        return FaustTracker(flow, log, log.dead_letters, SystemClock(), options=self.options, read=event_of)

    def producer(self) -> Producer:
        """A plain producer."""
        return Producer({"bootstrap.servers": self.bootstrap})

    def admin(self) -> AdminClient:
        """A plain admin client."""
        return AdminClient({"bootstrap.servers": self.bootstrap})

    async def append(self, events: list[Envelope]) -> None:
        """Publish events a page at a time."""
        for start in range(0, len(events), _PAGE):
            await self.log.append(FLOW, events[start : start + _PAGE])

    async def length(self) -> int:
        """Records in the log."""
        return sum([await self.log.end(FLOW, partition) for partition in range(PARTITIONS)])

    async def committed(self) -> int:
        """Records the tracker is done with; -1 while the broker does not say."""
        try:
            return sum((await self.log.committed(FLOW, TRACKER_GROUP)).values())
        except StorageError:
            return -1

    async def moved(self) -> bool:
        """Whether the tracker is done with anything."""
        return await self.committed() > 0

    async def all_read(self) -> bool:
        """Whether the tracker is done with every record."""
        return await self.committed() >= await self.length()

    async def records(self) -> list[Record]:
        """The log, partition by partition; small ones only."""
        return [record for part in range(PARTITIONS) for record in await self.log.read(FLOW, part, 0, _PAGE)]

    async def settled(self) -> bool:
        """Whether the tracker has read everything, its own facts too, and has nothing left to say."""
        length = await self.length()
        if await self.committed() < length:
            return False
        outboxes = [run.outbox for state in (await self.folded()).values() for run in state.runs]
        return not any(outboxes) and await self.length() == length

    async def folded(self) -> dict[str, KeyState]:
        """Every key's state by a fold of the log from its first record."""
        states: dict[str, KeyState] = {}
        for partition in range(PARTITIONS):
            offset, end = 0, await self.log.end(FLOW, partition)
            while offset < end:
                for record in await self.log.read(FLOW, partition, offset, _PAGE):
                    key = record.event.key
                    states[key], _ = react(table, states.get(key, KeyState()), record)
                    offset = record.offset + 1
        return states

    def kept(self) -> dict[str, bytes]:
        """Every key's state as the changelog has it: the one with the highest position."""
        states: dict[str, bytes] = {}
        for key, value in read_all(self.bootstrap, self.changelog):
            if value > states.get(key, b""):
                states[key] = value
        return states

    async def check(self) -> None:
        """Every state in the changelog is the fold of the log."""
        expected = {key: stored(state) for key, state in (await self.folded()).items()}
        kept = self.kept()
        wrong = [key for key in expected.keys() | kept.keys() if expected.get(key) != kept.get(key)]
        assert not wrong, f"{len(wrong)} of {len(expected)} states are not the fold of the log, such as {wrong[0]}"


def orders(first: int, number: int) -> list[Envelope]:
    """What the world and the services say about some orders, many orders at once; the tracker's facts left out."""
    logs = [history(table, f"o-{place}", place) for place in range(first, first + number)]
    longest = max(map(len, logs))
    events = [log[place].event for place in range(longest) for log in logs if place < len(log)]
    return [event for event in events if not event.type.startswith(facts.PREFIX)]


def read_all(bootstrap: str, topic: str) -> list[tuple[str, bytes]]:
    """Key and value of every record of a topic, by a plain client."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "audit",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",  # what was before may have been deleted
        }
    )
    found: list[tuple[str, bytes]] = []
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ends = {number: consumer.get_watermark_offsets(TopicPartition(topic, number))[1] for number in partitions}
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        while any(ends.values()):
            message = consumer.poll(10)
            assert message is not None, f"{topic} has fewer records than it says: {ends}"
            assert message.error() is None, str(message.error())
            found.append((message.key().decode(), message.value()))
            if message.offset() + 1 >= ends[message.partition()]:
                ends[message.partition()] = 0
    finally:
        consumer.close()
    return found


async def until(true: Callable[[], Awaitable[bool]], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for a fact; fails after far longer than it takes."""
    never = asyncio.Event()
    give_up_s = time.monotonic() + patience_s
    while not await true():
        assert time.monotonic() < give_up_s, f"waited {patience_s:.0f} s in vain: {what}"
        with suppress(TimeoutError):
            await asyncio.wait_for(never.wait(), LOOK_S)


@asynccontextmanager
async def tracking(scene: Scene, flow: FlowDefinition = table.flow) -> AsyncIterator[FaustTracker]:
    """Run a worker in this process."""
    host = scene.host(flow)
    running = asyncio.create_task(host.run())
    try:
        yield host
    finally:
        await host.stop()
        await running
