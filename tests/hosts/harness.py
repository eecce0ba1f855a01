"""A harness for the tests of the step host: a tiny flow, a host on an embedded backend, a clock moved by the tests.

The tests publish the tracker's and the operators' facts themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from choreo import Event, Flow, Service, StepContext
from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.memory.backend import MemoryBackend
from choreo.adapters.sqlite.backend import SqliteBackend
from choreo.core import facts, ids
from choreo.core.declare.steps import Step
from choreo.core.definition import FlowDefinition
from choreo.core.events import Envelope, Position, Record
from choreo.hosts.step.host import StepHost
from choreo.ports.dead_letters import DeadLetter
from choreo.testing.clock import VirtualClock
from choreo.testing.faults import FaultyBackend

both_backends = pytest.mark.parametrize("backend", ["memory", "sqlite"])
"""Of what a host does, the heart is tested on each backend; the backends themselves answer to one conformance suite."""

TOPIC = "order"
DAY_MS = 86_400_000


class Placed(Event):
    """An order came in."""

    order_id: str
    number: int = 0


class Charged(Event):
    """It is paid."""

    order_id: str
    number: int = 0


class Declined(Event):
    """It cannot be paid."""

    order_id: str


class Refunded(Event):
    """The money is back."""

    order_id: str


class Confirmed(Event):
    """The customer knows."""

    order_id: str


class Cancelled(Event):
    """The order is undone."""

    order_id: str
    reason: str = ""


Handler = Callable[[Any, StepContext], Awaitable[Any]]
PlainHandler = Callable[[Any, StepContext], Any]


async def charged(event: Placed, ctx: StepContext) -> Any:
    """Return the outcome of a charge that went well."""
    return Charged(order_id=event.order_id, number=event.number)


async def refunded(charged: Charged | None, ctx: StepContext) -> Any:
    """Return the outcome of a refund that went well."""
    return Refunded(order_id=ctx.key)


def payment(charge: Handler = charged, refund: Handler | None = refunded, **options: Any) -> Service:
    """Return the service under test: `payment.charge` and its undo. Options are those of the step."""
    service = Service("payment")

    async def forward(event: Placed, ctx: StepContext) -> Charged | Declined:
        result: Charged | Declined = await charge(event, ctx)
        return result

    step = service.step(name="charge", on=Placed, emits=Charged, fails=Declined, **options)(forward)
    return _with_undo(service, step, refund)


def plain_payment(charge: PlainHandler, refund: Handler | None = refunded, **options: Any) -> Service:
    """Return the same with a plain handler."""
    service = Service("payment")

    def forward(event: Placed, ctx: StepContext) -> Charged | Declined:
        result: Charged | Declined = charge(event, ctx)
        return result

    step = service.step(name="charge", on=Placed, emits=Charged, fails=Declined, **options)(forward)
    return _with_undo(service, step, refund)


def _with_undo(service: Service, step: Step, refund: Handler | None) -> Service:
    if refund is not None:

        async def back(charged: Charged | None, ctx: StepContext) -> Refunded | None:
            result: Refunded | None = await refund(charged, ctx)
            return result

        step.compensate(emits=Refunded)(back)
    return service


def flow(*services: Service, **options: Any) -> Flow:
    """Return the flow of these services."""
    return Flow(
        "order", key="order_id", starts=Placed, completes=Confirmed, fails=Cancelled, services=services, **options
    )


class Harness:
    """The actions and views of the tests. One partition by default."""

    def __init__(self, service: Service, definition: FlowDefinition, backend: Any, clock: VirtualClock) -> None:
        self.service = service
        self.definition = definition
        self.backend = FaultyBackend(backend)
        self.faults = self.backend.faults
        self.clock = clock
        self.codec = AvroCodec()
        self.hosts: list[tuple[StepHost, asyncio.Task[None]]] = []

    def host(self, name: str = "one", **options: Any) -> StepHost:
        """Start a host of the service."""
        host = StepHost(
            self.service,
            self.definition,
            self.backend.log,
            self.backend.inbox(self.service.name),
            self.backend.dead_letters,
            self.codec,
            self.clock,
            name=name,
            **options,
        )
        self.hosts.append((host, asyncio.create_task(host.run())))
        return host

    async def stop(self) -> None:
        """Stop every host, and see that none has failed."""
        for host, task in self.hosts:
            await host.stop()
            await task
        self.hosts.clear()

    def event(self, event: Event, **fields: Any) -> Envelope:
        """Return the event as it is published; a Placed starts a run of its own."""
        key = str(event.order_id)  # type: ignore[attr-defined]
        id_ = fields.pop("id", ids.start("order", key, str(getattr(event, "number", ""))))
        run = fields.pop("run", id_ if isinstance(event, Placed) else "")
        return Envelope(
            id=id_,
            type=event.event_type,
            key=key,
            flow="order",
            run=run,
            content_type=self.codec.content_type,
            data=self.codec.encode(event),
            **fields,
        )

    def fact(self, about: Envelope, type_: str, **fields: Any) -> Envelope:
        """Return a fact of the tracker's or an operator's about the run of this event."""
        id_ = fields.pop("id", ids.derive(type_, about.run, sorted(fields.items())))
        return Envelope(id=id_, type=type_, key=about.key, flow="order", run=about.run, **fields)

    def undo_request(self, about: Envelope, outcome: int = -1, round_: int = 0, n: int = 0) -> Envelope:
        """Return the tracker's request to undo `payment.charge` as triggered by this event."""
        entry = ids.entry(about.run, "payment.charge", about.id)
        return self.fact(
            about,
            facts.COMPENSATION_REQUESTED,
            id=ids.of_round("undo-request", entry, round_),
            step="payment.charge",
            trigger=about.id,
            entry=entry,
            round=round_,
            n=n,
            outcome=outcome,
        )

    def retry_due(self, answers: Envelope, outcome: int, **fields: Any) -> Envelope:
        """Return the tracker's call for the next attempt after this StepAttemptFailed or StepHeld."""
        about = {"step": answers.step, "trigger": answers.trigger, "attempt": answers.attempt, "outcome": outcome}
        if answers.entry:
            about |= {"entry": answers.entry, "round": answers.round}
        about |= {"id": ids.answer("retry-due", answers.id, answers.step), "deadline_ms": self.clock.now_ms() + DAY_MS}
        return self.fact(answers, facts.STEP_RETRY_DUE, **about | fields)

    async def publish(self, *events: Event | Envelope) -> list[Position]:
        """Append to the log."""
        return await self.backend.log.append(
            TOPIC, [event if isinstance(event, Envelope) else self.event(event) for event in events]
        )

    async def log(self) -> list[Record]:
        """Return everything in the log, partition by partition."""
        partitions = await self.backend.log.partitions(TOPIC)
        return [record for p in range(partitions) for record in await self.backend.log.read(TOPIC, p, 0, 1_000_000)]

    async def published(self, type_: str, count: int = 1) -> list[Envelope]:
        """Return the first events of this type, once there are so many."""
        while True:
            news = self.backend.news()
            found = [record.event for record in await self.log() if record.event.type == type_]
            if len(found) >= count:
                return found
            await news

    async def one(self, type_: str) -> Envelope:
        """Return the only event of this type, once it is there."""
        (event,) = await self.published(type_)
        return event

    @staticmethod
    async def until(condition: Callable[[], bool]) -> None:
        """Let others run until this is so."""
        while True:
            if condition():
                return
            await asyncio.sleep(0)  # what is waited for may happen in a thread

    async def counted(self, name: str, value: float) -> None:
        """Wait until the first host has counted so many."""
        metrics = self.hosts[0][0].metrics
        await self.until(lambda: metrics.read().get(name, 0) >= value)

    async def caught_up(self) -> None:
        """Wait until the service has committed everything in the log."""
        while True:
            ends = {p: await self.backend.log.end(TOPIC, p) for p in range(await self.backend.log.partitions(TOPIC))}
            if await self.backend.log.committed(TOPIC, self.service.name) == ends:
                return
            await self.clock.advance(0.25)

    def lose_inbox(self) -> None:
        """Forget all that services remember; in memory only."""
        self.backend.lose_inboxes()

    def rewind(self) -> None:
        """Have the service's group read its log again from the beginning; in memory only."""
        self.backend.rewind(TOPIC, self.service.name)

    async def dead_letters(self) -> list[DeadLetter]:
        """Return the dead letters."""
        return await self.backend.dead_letters.list()


@asynccontextmanager
async def running_harness(
    service: Service,
    *others: Service,
    partitions: int = 1,
    started: bool = True,
    backend: str = "memory",
    wait: Mapping[str, Any] | None = None,
    second: Mapping[str, Any] | None = None,
    timer: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Harness]:
    """Yield a harness for this service; options are those of the flow, the others of its waits and timer."""
    clock = VirtualClock()
    async with _backend(backend, clock) as opened:
        await opened.log.create(TOPIC, partitions)
        order = flow(service, *others, **options)
        for each in filter(None, (wait, second)):
            order.wait(**each)
        if timer:
            order.timer("pick", **timer)
        harness = Harness(service, order.draft(), opened, clock)
        if started:
            harness.host()
        try:
            yield harness
        finally:
            await harness.stop()


@asynccontextmanager
async def _backend(kind: str, clock: VirtualClock) -> AsyncIterator[MemoryBackend | SqliteBackend]:
    if kind == "memory":
        yield MemoryBackend(clock)
        return
    with TemporaryDirectory() as folder:
        backend = await SqliteBackend.open(Path(folder) / "choreo.db", clock=clock, synchronous="NORMAL")
        try:
            yield backend
        finally:
            await backend.close()
