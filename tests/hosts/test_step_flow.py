"""Two services and the tracker on one log, from the start event to the end fact, on both backends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from choreo import NonRetryableError, Retry, Service, StepContext
from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.clock import SystemClock
from choreo.adapters.memory.backend import MemoryBackend
from choreo.adapters.sqlite.backend import SqliteBackend
from choreo.core import facts, ids
from choreo.core.events import Envelope, Record
from choreo.hosts.step.host import StepHost
from choreo.hosts.tracker import TrackerHost
from tests.hosts.harness import TOPIC, Charged, Confirmed, Declined, Placed, Refunded, flow

CODEC = AvroCodec()


def services() -> tuple[Service, Service]:
    """Return payment and mail; the key decides the order's end."""
    payment, mail = Service("payment"), Service("mail")

    @payment.step(on=Placed, emits=Charged, fails=Declined)
    async def charge(event: Placed, ctx: StepContext) -> Charged | Declined:
        if event.order_id.startswith("lost"):
            raise NonRetryableError("the answer was lost")
        if event.order_id.startswith("declined"):
            return Declined(order_id=event.order_id)
        return Charged(order_id=event.order_id)

    @charge.compensate(emits=Refunded)
    def refund(charged: Charged | None, ctx: StepContext) -> Refunded | None:
        return Refunded(order_id=ctx.key) if charged else None

    @mail.step(on=Charged, emits=Confirmed, effect=False, retry=Retry(initial="10ms", max_attempts=3))
    def confirm(event: Charged, ctx: StepContext) -> Confirmed:
        if event.order_id.startswith("bounced") or (event.order_id.startswith("flaky") and ctx.attempt < 3):
            raise OSError("mailbox full")
        return Confirmed(order_id=event.order_id)

    return payment, mail


@pytest.fixture(params=["memory", "sqlite"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MemoryBackend | SqliteBackend]:
    """Yield each backend in turn, with a topic of two partitions."""
    clock = SystemClock()
    made = (
        MemoryBackend(clock) if request.param == "memory" else await SqliteBackend.open(tmp_path / "c.db", clock=clock)
    )
    await made.log.create(TOPIC, 2)
    yield made
    await made.close()


async def ended(backend: MemoryBackend | SqliteBackend, count: int) -> dict[str, list[str]]:
    """Return the types in the log by key, once so many runs have ended."""
    audience = await backend.log.consumer(TOPIC, "audience", "test")
    records: list[Record] = []
    while sum(record.event.type in facts.ENDS for record in records) < count:
        records += (await audience.poll(1_000, 0.25)).records
    await audience.close()
    by_key: dict[str, list[str]] = {}
    for record in records:
        by_key.setdefault(record.event.key, []).append(record.event.type)
    return by_key


async def test_orders_of_every_kind_run_to_their_end(backend: MemoryBackend | SqliteBackend) -> None:
    """All well; a declared failure; a lost answer; a failure after the charge; a failure that retries mend."""
    definition = flow(*(both := services())).draft()
    clock = SystemClock()
    hosts: list[StepHost | TrackerHost] = [
        StepHost(
            service, definition, backend.log, backend.inbox(service.name), backend.dead_letters, CODEC, clock, name="h"
        )
        for service in both
    ]
    hosts.append(TrackerHost(definition, backend.log, backend.states, clock, name="t", attributes_of=lambda _: {}))
    tasks = [asyncio.create_task(host.run()) for host in hosts]
    keys = ("well", "declined", "lost", "bounced", "flaky")
    await backend.log.append(TOPIC, [_placed(key) for key in keys])
    seen = await ended(backend, len(keys))
    for host in hosts:
        await host.stop()
    await asyncio.gather(*tasks)
    back = [facts.COMPENSATION_STARTED, "Cancelled", facts.FLOW_COMPENSATED]
    assert seen["well"] == seen["flaky"] == ["Placed", "Charged", "Confirmed", facts.FLOW_COMPLETED]
    assert seen["declined"] == ["Placed", "Declined", *back]
    asked = [facts.COMPENSATION_STARTED, facts.COMPENSATION_REQUESTED]
    assert seen["lost"] == ["Placed", facts.STEP_FAILED, *asked, facts.NOTHING_TO_COMPENSATE, *back[1:]]
    assert seen["bounced"] == ["Placed", "Charged", facts.STEP_FAILED, *asked, "Refunded", *back[1:]]
    for service in both:
        lag = await backend.log.committed(TOPIC, service.name)
        assert sum(lag.values()) > 0


def _placed(key: str) -> Envelope:
    id_ = ids.start(TOPIC, key)
    placed = Placed(order_id=key)
    return Envelope(id_, "Placed", key, TOPIC, id_, content_type=CODEC.content_type, data=CODEC.encode(placed))
