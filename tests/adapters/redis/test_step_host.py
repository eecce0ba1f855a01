"""A step host whose inbox is away holds its work: nothing starts uncounted, nothing that ran is lost or run again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from threading import Event as Signal
from typing import Any

import pytest

from choreo import Event, Flow, Service, StepContext
from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.clock import SystemClock
from choreo.adapters.memory import MemoryHome
from choreo.adapters.redis import RedisStores
from choreo.core.events import Envelope
from choreo.hosts.step import StepHost
from choreo.ports.inbox import Inbox
from choreo.ports.log import Log, Member, Work
from tests.adapters.redis.conftest import LINGER_MS
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

    async def member(self, *place: Any) -> "InboxFirstMember":
        """Join."""
        return InboxFirstMember(await self._log.member(*place), self._inbox)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


class InboxFirstMember:
    """A member of it."""

    def __init__(self, member: Member, inbox: Inbox) -> None:
        self._member = member
        self._inbox = inbox

    async def commit(self, work: Work) -> None:
        """Outcomes, then what is published, then positions."""
        published = await self._inbox.record(work.outcomes)
        await self._member.commit(Work(outputs=[*published, *work.outputs], done=work.done, letters=work.letters))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._member, name)


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


class Scene:
    """The log, the stores on a server that may go, and the host between them."""

    def __init__(self, url: str) -> None:
        self.payment, self.codec, clock = Payment(), AvroCodec(), SystemClock()
        self.home = MemoryHome(clock, lease_s=60)
        self.stores = RedisStores(url, self.home.log, clock, linger_ms=LINGER_MS, timeout_s=0.3)
        inbox = self.stores.inbox("payment")
        self.host = StepHost(
            self.payment.service,
            self.payment.flow.definition,
            InboxFirst(self.home.log, inbox),  # type: ignore[arg-type]  # it passes the rest on
            inbox,
            self.home.dead_letters,
            self.codec,
            clock,
            name="a",
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The host, until the block is left."""
        await self.home.log.create("order", 1)
        task = asyncio.create_task(self.host.run())
        try:
            yield
        finally:
            self.payment.may_end.set()
            await self.host.stop()
            await task
            await self.stores.close()

    async def place(self, key: str) -> None:
        """A start event."""
        data = self.codec.encode(Placed(order_id=key))
        content = {"content_type": self.codec.content_type, "data": data}
        await self.home.log.append(
            "order", [Envelope(f"start-{key}", "Placed", key, "order", f"start-{key}", **content)]
        )

    async def types(self) -> list[str]:
        """What stands in the log."""
        return [record.event.type for record in await self.home.log.read("order", 0, 0, 100)]

    async def until(self, true: Callable[[], bool]) -> None:
        """Let others run until this is so."""
        while not true():  # noqa: ASYNC110 -- nobody rings when a counter moves
            await asyncio.sleep(0)

    async def logged(self, number: int) -> None:
        """Let others run until so many records stand in the log."""
        while await self.home.log.end("order", 0) < number:  # noqa: ASYNC110 -- as above
            await asyncio.sleep(0)

    @property
    def refused(self) -> float:
        """How often the host found its storage away."""
        return self.host.counters.read().get("storage_errors", 0)


@pytest.fixture
def scene(own_redis: OwnRedis) -> Scene:
    """With Redis running."""
    return Scene(own_redis.url)


async def test_nothing_starts_that_cannot_be_counted(own_redis: OwnRedis, scene: Scene) -> None:
    """Also where the host itself starts while Redis is away; then each handler runs once."""
    own_redis.stop()
    scene.payment.may_end.set()
    async with scene.running():
        await scene.place("o-1")
        await scene.place("o-2")
        await scene.until(lambda: scene.refused > 2)
        assert scene.payment.runs == []
        own_redis.start()
        await scene.logged(4)
        assert await scene.types() == ["Placed", "Placed", "Charged", "Charged"]
        assert scene.payment.runs == [1, 1]
    assert await scene.home.dead_letters.count() == 0


@pytest.mark.parametrize("how", ["stop", "freeze"])
async def test_what_ran_is_published_when_redis_is_back(own_redis: OwnRedis, scene: Scene, how: str) -> None:
    """Its outcome is held until it can be recorded; the handler does not run again."""
    async with scene.running():
        await scene.place("o-1")
        await scene.until(lambda: bool(scene.payment.runs))
        (own_redis.stop if how == "stop" else own_redis.freeze)()
        scene.payment.may_end.set()
        await scene.until(lambda: scene.refused > 1)
        assert await scene.types() == ["Placed"]
        (own_redis.start if how == "stop" else own_redis.thaw)()
        await scene.logged(2)
        await scene.place("o-2")
        await scene.logged(4)
        assert await scene.types() == ["Placed", "Charged", "Placed", "Charged"]
        assert scene.payment.runs == [1, 1]
    assert await scene.home.dead_letters.count() == 0
