"""A handler of ten minutes on Kafka while its partitions move: it runs once, and the group comes to rest.

The consumers are in this process, each with connections of its own, so that the test can hold the handlers' ends.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

from choreo import StepContext
from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.clock import SystemClock
from choreo.adapters.kafka import KafkaLog, KafkaOptions
from choreo.adapters.redis import RedisStores
from choreo.core import ids
from choreo.core.events import Envelope
from choreo.hosts.step.host import StepHost
from tests.hosts.harness import Charged, Placed, flow, plain_payment
from tests.kafka.conftest import Servers
from tests.support.patience import PATIENCE_S

SCALE = 30.0
"""Ten minutes take twenty seconds: three times the allowed time between polls, and a hold without a word."""
HANDLER_S = 600 / SCALE
SESSION_S = 6.0
"""As short as a broker allows."""
PARTITIONS, KEYS = 4, 12
LOOK_S = 0.05
SETTINGS = {
    "session.timeout.ms": f"{SESSION_S * 1_000:.0f}",
    "max.poll.interval.ms": f"{SESSION_S * 1_000:.0f}",
    "heartbeat.interval.ms": "300",
}


class CommitBatch:
    """A handler that takes ten minutes, each in a thread of its own."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.began_s = 0.0
        self._stopped = threading.Event()

    def __call__(self, event: Placed, _: StepContext) -> Any:
        """Handle an attempt."""
        self.began_s = self.began_s or time.monotonic()
        self.calls.append(event.order_id)
        self._stopped.wait(HANDLER_S)
        return Charged(order_id=event.order_id)

    @property
    def goes_on(self) -> bool:
        """Return whether none of them can have ended yet."""
        return time.monotonic() < self.began_s + HANDLER_S

    def stop(self) -> None:
        """Let all end now."""
        self._stopped.set()


class Consumer:
    """The parts of a process of the service."""

    def __init__(self, group: Group, name: str) -> None:
        self.log = KafkaLog(group.options, inbox=lambda _: self.stores.inbox("payment"))
        self.stores = RedisStores(
            group.servers.redis, self.log, SystemClock(), linger_ms=86_400_000, prefix=group.prefix
        )
        self.host = StepHost(
            group.service,
            group.definition,
            self.log,
            self.stores.inbox("payment"),
            self.log.dead_letters,
            AvroCodec(),
            SystemClock(),
            name=name,
            lease_s=SESSION_S,
        )
        self._task = asyncio.create_task(self.host.run())

    @property
    def owned(self) -> set[int]:
        """Return its partitions."""
        return set(self.host.partitions)

    def counted(self, name: str) -> float:
        """Return its host's count."""
        return self.host.metrics.read().get(name, 0)

    async def leave(self) -> None:
        """End in order."""
        await self.host.stop()
        await self._task
        await self.stores.close()
        await self.log.close()


class Group:
    """The consumers of one service."""

    def __init__(self, servers: Servers) -> None:
        self.servers, self.prefix = servers, f"test-{uuid.uuid4().hex[:8]}-"
        self.options = KafkaOptions(servers.kafka, SETTINGS, prefix=self.prefix)
        self.work = CommitBatch()
        self.service = plain_payment(self.work, timeout="30m")
        self.definition = flow(self.service, deadline="2d").draft().scaled(SCALE)
        self.consumers: list[Consumer] = []

    async def join(self, name: str) -> Consumer:
        """Start one more consumer, and wait until all have a share."""
        self.consumers.append(Consumer(self, name))
        await self.settled()
        return self.consumers[-1]

    async def part(self, consumer: Consumer) -> None:
        """Stop one consumer, and wait until the others have its share."""
        self.consumers.remove(consumer)
        await consumer.leave()
        await self.settled()

    async def settled(self) -> None:
        """Wait until every partition has an owner, and every consumer has some."""
        await until(
            lambda: (
                all(consumer.owned for consumer in self.consumers)
                and Counter(p for consumer in self.consumers for p in consumer.owned) == Counter(range(PARTITIONS))
            ),
            "the partitions are shared",
        )


async def until(true: Callable[[], bool], what: str) -> None:
    """Wait for a fact."""
    never, give_up_s = asyncio.Event(), time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < give_up_s, f"waited {PATIENCE_S:.0f} s in vain: {what}"
        with suppress(TimeoutError):
            await asyncio.wait_for(never.wait(), LOOK_S)


@pytest.fixture
async def group(servers: Servers) -> AsyncIterator[Group]:
    """Yield a group with its topic, and no consumer."""
    group = Group(servers)
    maker = KafkaLog(group.options)
    await maker.create("order", PARTITIONS)
    await maker.close()
    yield group
    group.work.stop()
    for consumer in group.consumers:
        await consumer.leave()


async def test_a_handler_of_ten_minutes_runs_once_in_three_rebalances(
    group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    """Two consumers come and one goes meanwhile; no rebalance follows that none of them has caused."""
    caplog.set_level(logging.INFO, "choreo.adapters.kafka.groups.thread")
    first = await group.join("first")
    keys = [f"o-{number}" for number in range(KEYS)]
    await first.log.append("order", [_placed(key) for key in keys])
    await until(lambda: len(group.work.calls) == KEYS, "all are at work")
    before = _generations(caplog)
    second = await group.join("second")
    third = await group.join("third")
    await group.part(third)
    assert group.work.goes_on, "the handlers were over before the partitions had moved"
    await until(lambda: second.counted("attempts_held") > 0, "the new owner has found handlers at work elsewhere")
    caused = _generations(caplog) - before
    await until(lambda: not group.work.goes_on, "the ten minutes are over")
    assert second.counted("attempts_held") > second.counted("jobs")
    await until(lambda: sum(consumer.counted("jobs") for consumer in group.consumers) >= KEYS, "all is finished")
    charged = await _charged(first.log)
    assert sorted(group.work.calls) == sorted(keys), "a handler ran twice"
    assert charged == {(key, 1) for key in keys}
    ends = {partition: await first.log.end("order", partition) for partition in range(PARTITIONS)}
    await until(lambda: set(first.owned | second.owned) == set(range(PARTITIONS)), "all are owned still")
    give_up_s = time.monotonic() + PATIENCE_S
    while await first.log.committed("order", "payment") != ends:
        assert time.monotonic() < give_up_s, "positions stay behind"
    # Each coming or going costs two rounds of the cooperative protocol at the most: one to take, one to give.
    assert 3 <= caused <= 3 * 2
    assert _generations(caplog) == before + caused, "the group went on sharing its partitions anew"
    assert "lost partitions" not in caplog.text


def _placed(key: str) -> Envelope:
    codec, id_ = AvroCodec(), ids.start("order", key, "")
    data = codec.encode(Placed(order_id=key))
    return Envelope(id_, "Placed", key, "order", id_, content_type=codec.content_type, data=data)


def _generations(caplog: pytest.LogCaptureFixture) -> int:
    """Return the number of rebalances that the first consumer has logged: each rebalance reaches it."""
    return sum("assigned partitions" in line and "'first'" in line for line in caplog.messages)


async def _charged(log: KafkaLog) -> set[tuple[str, int]]:
    records = [record for partition in range(PARTITIONS) for record in await log.read("order", partition, 0, 1_000)]
    return {(record.event.key, record.event.attempt) for record in records if record.event.type == "Charged"}
