"""A handler of ten minutes on Kafka while its partitions move: it runs once, and the group comes to rest.

The members are in this process, each with connections of its own, so that the test can hold the handlers' ends.
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
from choreo.hosts.step import StepHost
from tests.hosts.stage import Charged, Placed, flow, plain_payment
from tests.members.conftest import Servers

SCALE = 30.0
"""Ten minutes take twenty seconds: three times what a member may go without a poll, and a hold without a word."""
HANDLER_S = 600 / SCALE
SESSION_S = 6.0
"""As short as a broker allows."""
PARTITIONS, KEYS = 4, 12
PATIENCE_S = 90.0
LOOK_S = 0.05
SETTINGS = {
    "session.timeout.ms": f"{SESSION_S * 1_000:.0f}",
    "max.poll.interval.ms": f"{SESSION_S * 1_000:.0f}",
    "heartbeat.interval.ms": "300",
}


class Work:
    """A handler that takes ten minutes, each in a thread of its own."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.began_s = 0.0
        self._stopped = threading.Event()

    def __call__(self, event: Placed, _: StepContext) -> Any:
        """An attempt."""
        self.began_s = self.began_s or time.monotonic()
        self.calls.append(event.order_id)
        self._stopped.wait(HANDLER_S)
        return Charged(order_id=event.order_id)

    @property
    def goes_on(self) -> bool:
        """Whether none of them can have ended yet."""
        return time.monotonic() < self.began_s + HANDLER_S

    def stop(self) -> None:
        """Let all end now."""
        self._stopped.set()


class Member:
    """What a process of the service would have."""

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
            hold_s=SESSION_S,
        )
        self._task = asyncio.create_task(self.host.run())

    @property
    def owned(self) -> set[int]:
        """Its partitions."""
        return set(self.host._desk.partitions())

    def counted(self, name: str) -> float:
        """What its host has counted."""
        return self.host.counters.read().get(name, 0)

    async def leave(self) -> None:
        """End in order."""
        await self.host.stop()
        await self._task
        await self.stores.close()
        await self.log.close()


class Group:
    """The members of one service."""

    def __init__(self, servers: Servers) -> None:
        self.servers, self.prefix = servers, f"test-{uuid.uuid4().hex[:8]}-"
        self.options = KafkaOptions(servers.kafka, SETTINGS, prefix=self.prefix)
        self.work = Work()
        self.service = plain_payment(self.work, timeout="30m")
        self.definition = flow(self.service, deadline="2d").draft().scaled(SCALE)
        self.members: list[Member] = []

    async def join(self, name: str) -> Member:
        """One more, until all have a share."""
        self.members.append(Member(self, name))
        await self.settled()
        return self.members[-1]

    async def part(self, member: Member) -> None:
        """One less, until the others have its share."""
        self.members.remove(member)
        await member.leave()
        await self.settled()

    async def settled(self) -> None:
        """Every partition is somebody's, every member has some."""
        await until(
            lambda: (
                all(member.owned for member in self.members)
                and Counter(p for member in self.members for p in member.owned) == Counter(range(PARTITIONS))
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
    """With its topic, and nobody in it."""
    group = Group(servers)
    maker = KafkaLog(group.options)
    await maker.create("order", PARTITIONS)
    await maker.close()
    yield group
    group.work.stop()
    for member in group.members:
        await member.leave()


async def test_a_handler_of_ten_minutes_runs_once_in_three_rebalances(
    group: Group, caplog: pytest.LogCaptureFixture
) -> None:
    """Two members come and one goes meanwhile; no rebalance follows that none of them has caused."""
    caplog.set_level(logging.INFO, "choreo.adapters.kafka.subscription")
    first = await group.join("first")
    keys = [f"o-{number}" for number in range(KEYS)]
    await first.log.append("order", [_placed(key) for key in keys])
    await until(lambda: len(group.work.calls) == KEYS, "all are at work")
    before = _generations(caplog)
    second = await group.join("second")
    third = await group.join("third")
    await group.part(third)
    assert group.work.goes_on, "the handlers were over before the partitions had moved"
    await until(lambda: second.counted("held") > 0, "the new owner has found handlers at work elsewhere")
    caused = _generations(caplog) - before
    await until(lambda: not group.work.goes_on, "the ten minutes are over")
    assert second.counted("held") > second.counted("handled")
    await until(lambda: sum(member.counted("handled") for member in group.members) >= KEYS, "all is finished")
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
    """How often partitions were shared anew, as the first member has heard: it is told each time."""
    return sum("given partitions" in line and "'first'" in line for line in caplog.messages)


async def _charged(log: KafkaLog) -> set[tuple[str, int]]:
    records = [record for partition in range(PARTITIONS) for record in await log.read("order", partition, 0, 1_000)]
    return {(record.event.key, record.event.attempt) for record in records if record.event.type == "Charged"}
