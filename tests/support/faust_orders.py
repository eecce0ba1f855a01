"""Shared by the tests of the tracker on Kafka: topics of their own, orders for them, and the audit of every state.

The audit reads the changelog with a plain client and folds the log from its first record, without a tracker.
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
from bench.faust_tracker import tracker
from bench.saga import order
from choreo.adapters.faust.options import FaustOptions
from choreo.adapters.kafka import KafkaLog, KafkaOptions
from choreo.adapters.kafka.cluster.requests import Cluster
from choreo.adapters.kafka.topics import CHANGELOG_CONFIG, changelog_of
from choreo.core import facts
from choreo.core.definition import FlowDefinition
from choreo.core.errors import NotFoundError, StorageError
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import KeyState
from choreo.hosts.tracker import TrackerHost
from choreo.ports.dependencies import NoReports
from choreo.ports.log import TRACKER_GROUP
from tests.support.patience import PATIENCE_S
from tests.support.stored import stored

FLOW = "order"
PARTITIONS = 4
LOOK_S = 0.05
_PAGE = 2_000

table = FlowTable(order.definition)


class Harness:
    """One test's topics on the shared broker."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        """Name the topics; none is created yet."""
        self.prefix = f"test-{uuid.uuid4().hex[:8]}-"
        self.bootstrap = bootstrap
        self.folder = folder
        self.kafka = KafkaOptions(bootstrap, prefix=self.prefix)
        self.log = KafkaLog(self.kafka)
        self.options = FaustOptions(bootstrap, folder, prefix=self.prefix)
        self.changelog = self.prefix + changelog_of(FLOW)

    async def make(self, *, with_changelog: bool = True) -> None:
        """Create the topics."""
        await self.log.create(FLOW, PARTITIONS)
        if not with_changelog:
            return
        admin = self.admin()
        made = admin.create_topics([NewTopic(self.changelog, PARTITIONS, 1, config=dict(CHANGELOG_CONFIG))])
        await asyncio.to_thread(made[self.changelog].result)
        await until(self._there, "the changelog topic")

    async def _there(self) -> bool:
        try:
            # Asked anew: the log remembers how many partitions a topic had that was deleted since.
            return (await self.log.described(self.changelog.removeprefix(self.prefix))).partitions == PARTITIONS
        except NotFoundError:
            return False

    def another_log(self) -> KafkaLog:
        """Return the log as a new process would have it."""
        return KafkaLog(self.kafka)

    def cluster(self) -> Cluster:
        """Return the cluster as an admin sees it, for any earlier log of the topic."""
        return Cluster(self.kafka, NoReports())

    def host(self, flow: FlowDefinition = table.flow) -> TrackerHost:
        """Return a worker that is not started, as a process of its own would have it."""
        return tracker(flow, self.another_log(), self.options)

    def producer(self) -> Producer:
        """Return a plain producer."""
        return Producer({"bootstrap.servers": self.bootstrap})

    def admin(self) -> AdminClient:
        """Return a plain admin client."""
        return AdminClient({"bootstrap.servers": self.bootstrap})

    async def append(self, events: list[Envelope]) -> None:
        """Publish events a page at a time."""
        for start in range(0, len(events), _PAGE):
            await self.log.append(FLOW, events[start : start + _PAGE])

    async def length(self) -> int:
        """Return the number of records in the log."""
        return sum([await self.log.end(FLOW, partition) for partition in range(PARTITIONS)])

    async def committed(self) -> int:
        """Return the sum of the tracker's committed offsets; -1 while the broker does not answer."""
        try:
            return sum((await self.log.committed(FLOW, TRACKER_GROUP)).values())
        except StorageError:
            return -1

    async def moved(self) -> bool:
        """Return whether the tracker has committed anything."""
        return await self.committed() > 0

    async def all_read(self) -> bool:
        """Return whether the tracker has committed every record."""
        return await self.committed() >= await self.length()

    async def records(self) -> list[Record]:
        """Return the log, partition by partition; only for a small one."""
        return [record for part in range(PARTITIONS) for record in await self.log.read(FLOW, part, 0, _PAGE)]

    async def settled(self) -> bool:
        """Return whether the tracker has read everything, its own facts too, and has nothing left to publish."""
        length = await self.length()
        if await self.committed() < length:
            return False
        outboxes = [run.outbox for state in (await self.folded()).values() for run in state.runs]
        return not any(outboxes) and await self.length() == length

    async def folded(self) -> dict[str, KeyState]:
        """Return every key's state by a fold of the log from its first record."""
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
        """Return every key's state in the changelog: the one with the highest position."""
        states: dict[str, bytes] = {}
        for key, value in read_all(self.bootstrap, self.changelog):
            if value > states.get(key, b""):
                states[key] = value
        return states

    async def check(self) -> None:
        """Assert that every state in the changelog is the fold of the log."""
        expected = {key: stored(state) for key, state in (await self.folded()).items()}
        kept = self.kept()
        wrong = [key for key in expected.keys() | kept.keys() if expected.get(key) != kept.get(key)]
        assert not wrong, f"{len(wrong)} of {len(expected)} states are not the fold of the log, such as {wrong[0]}"


def orders(first: int, number: int) -> list[Envelope]:
    """Return the events of some orders, many orders at once, without the tracker's facts."""
    logs = [history(table, f"o-{place}", place) for place in range(first, first + number)]
    longest = max(map(len, logs))
    events = [log[place].event for place in range(longest) for log in logs if place < len(log)]
    return [event for event in events if not event.type.startswith(facts.PREFIX)]


def read_all(bootstrap: str, topic: str) -> list[tuple[str, bytes]]:
    """Return key and value of every record of a topic, read by a plain client."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "audit",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",  # earlier records may have been deleted
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
    """Wait until something is true; fail after far longer than it takes."""
    never = asyncio.Event()
    give_up_s = time.monotonic() + patience_s
    while not await true():
        assert time.monotonic() < give_up_s, f"waited {patience_s:.0f} s in vain: {what}"
        with suppress(TimeoutError):
            await asyncio.wait_for(never.wait(), LOOK_S)


@asynccontextmanager
async def tracking(harness: Harness, flow: FlowDefinition = table.flow) -> AsyncIterator[TrackerHost]:
    """Run a worker in this process."""
    host = harness.host(flow)
    running = asyncio.create_task(host.run())
    try:
        yield host
    finally:
        await host.stop()
        await running
