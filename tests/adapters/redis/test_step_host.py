"""A step host without its inbox holds its work: nothing starts uncounted, nothing that ran is lost or run again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from threading import Event as Signal
from typing import Any

import pytest

from choreo import Event, Flow, Service, StepContext
from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.clock import SystemClock
from choreo.adapters.memory import MemoryBackend
from choreo.adapters.redis import RedisStores
from choreo.core.events import Envelope
from choreo.hosts.step.host import StepHost
from choreo.ports.inbox import Inbox
from choreo.ports.log import CommitBatch, Consumer, Log
from choreo.testing.conformance.stores import LINGER_MS
from tests.support.redis_server import OwnRedis


class Placed(Event):
    """A customer placed an order."""

    order_id: str


class Charged(Event):
    """It was paid."""

    order_id: str


class InboxFirst:
    """A log that, as a broker's must, records outcomes in the inbox before they are published."""

    def __init__(self, log: Log, inbox: Inbox) -> None:
        self._log = log
        self._inbox = inbox

    async def consumer(self, *place: Any) -> "InboxFirstConsumer":
        """Join."""
        return InboxFirstConsumer(await self._log.consumer(*place), self._inbox)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class InboxFirstConsumer:
    """A consumer of it."""

    def __init__(self, consumer: Consumer, inbox: Inbox) -> None:
        self._consumer = consumer
        self._inbox = inbox

    async def commit(self, commit_batch: CommitBatch) -> None:
        """Write outcomes, then published events, then offsets."""
        published = await self._inbox.record(commit_batch.outcomes)
        await self._consumer.commit(
            CommitBatch(
                outputs=[*published, *commit_batch.outputs],
                done=commit_batch.done,
                dead_letters=commit_batch.dead_letters,
            )
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


class Payment:
    """A service of one step, and how often its handler ran."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.may_end = Signal()
        service = Service("payment")

        @service.step(on=Placed, emits=Charged, effect=False)
        def charge(event: Placed, ctx: StepContext) -> Charged:
            self.runs.append(ctx.attempt)
            self.may_end.wait(60)
            return Charged(order_id=event.order_id)

        self.service = service
        self.flow = Flow("order", key="order_id", starts=Placed, completes=Charged, services=[service], deadline="1d")


class Harness:
    """The log, the stores on a server that may go, and the host between them."""

    def __init__(self, url: str) -> None:
        self.payment, self.codec, clock = Payment(), AvroCodec(), SystemClock()
        self.backend = MemoryBackend(clock, lease_s=60)
        self.stores = RedisStores(url, self.backend.log, clock, linger_ms=LINGER_MS, timeout_s=1.0)
        inbox = self.stores.inbox("payment")
        self.host = StepHost(
            self.payment.service,
            self.payment.flow.definition,
            InboxFirst(self.backend.log, inbox),  # type: ignore[arg-type]  # it passes the rest on
            inbox,
            self.backend.dead_letters,
            self.codec,
            clock,
            name="a",
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the host until the block is left."""
        await self.backend.log.create("order", 1)
        task = asyncio.create_task(self.host.run())
        try:
            yield
        finally:
            self.payment.may_end.set()
            await self.host.stop()
            await task
            await self.stores.close()

    async def place(self, key: str) -> None:
        """Publish a start event."""
        data = self.codec.encode(Placed(order_id=key))
        content = {"content_type": self.codec.content_type, "data": data}
        await self.backend.log.append(
            "order", [Envelope(f"start-{key}", "Placed", key, "order", f"start-{key}", **content)]
        )

    async def types(self) -> list[str]:
        """Return the types of the events in the log."""
        return [record.event.type for record in await self.backend.log.read("order", 0, 0, 100)]

    async def until(self, true: Callable[[], bool]) -> None:
        """Let others run until this is so."""
        while not true():  # noqa: ASYNC110 -- nobody rings when a counter moves
            await asyncio.sleep(0)

    async def logged(self, number: int) -> None:
        """Let others run until so many records stand in the log."""
        while await self.backend.log.end("order", 0) < number:  # noqa: ASYNC110 -- as above
            await asyncio.sleep(0)

    @property
    def refused(self) -> float:
        """Return how often the host found its storage away."""
        return self.host.metrics.read().get("storage_errors", 0)


@pytest.fixture
def harness(own_redis: OwnRedis) -> Harness:
    """Return a harness with Redis running."""
    return Harness(own_redis.url)


async def test_nothing_starts_that_cannot_be_counted(own_redis: OwnRedis, harness: Harness) -> None:
    """Also where the host itself starts while Redis is away; then each handler runs once."""
    own_redis.stop()
    harness.payment.may_end.set()
    async with harness.running():
        await harness.place("o-1")
        await harness.place("o-2")
        await harness.until(lambda: harness.refused > 2)
        assert harness.payment.runs == []
        own_redis.start()
        await harness.logged(4)
        assert await harness.types() == ["Placed", "Placed", "Charged", "Charged"]
        assert harness.payment.runs == [1, 1]
    assert await harness.backend.dead_letters.count() == 0


@pytest.mark.parametrize("how", ["stop", "freeze"])
async def test_what_ran_is_published_when_redis_is_back(own_redis: OwnRedis, harness: Harness, how: str) -> None:
    """Its outcome is held until it can be recorded; the handler does not run again."""
    async with harness.running():
        await harness.place("o-1")
        await harness.until(lambda: bool(harness.payment.runs))
        (own_redis.stop if how == "stop" else own_redis.freeze)()
        harness.payment.may_end.set()
        await harness.until(lambda: harness.refused > 1)
        assert await harness.types() == ["Placed"]
        (own_redis.start if how == "stop" else own_redis.thaw)()
        await harness.logged(2)
        await harness.place("o-2")
        await harness.logged(4)
        assert await harness.types() == ["Placed", "Charged", "Placed", "Charged"]
        assert harness.payment.runs == [1, 1]
    assert await harness.backend.dead_letters.count() == 0
