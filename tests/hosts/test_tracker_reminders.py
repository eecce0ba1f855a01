"""A running tracker reminds, escalates and closes: never early, once each, over restarts, outages and takeovers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from choreo.adapters.memory.backend import MemoryBackend
from choreo.core import facts
from choreo.core.definition import FlowDefinition, WaitDefinition
from choreo.core.events import Envelope, Record
from choreo.hosts.tracker import TrackerHost
from choreo.testing.clock import VirtualClock
from tests.core.plain import flow, step
from tests.hosts.test_tracker import TOPIC, outcome, start

FILE = step("claims.file", "OrderPlaced", "Filed", effect=False)
PAY = step("claims.pay", "Approved", "OrderConfirmed", effect=False)
MAIL = step("mail.remind", "Reminded", effect=False)
APPROVAL = WaitDefinition(
    "wait.approval",
    "Filed",
    "Approved",
    9_000,
    "Expired",
    remind="Reminded",
    remind_ms=2_000,
    reminds_max=3,
    escalate="Escalated",
    escalate_ms=5_000,
)
CLAIM = flow(FILE, PAY, MAIL, waits=(APPROVAL,))
REVIEW = WaitDefinition("wait.review", "OrderPlaced", "Reviewed", 0, "", optional=True)
SHOP = flow(step("shop.send", "OrderPlaced", "OrderConfirmed", effect=False), waits=(REVIEW,))
RENEWAL = WaitDefinition("timer.renewal", "Filed", "", 0, "", then="Due", at="renews_at", moved_by="Postponed")
FIELDS = ("order_id", "renews_at")
CONTRACT = flow(
    FILE,
    step("claims.bill", "Due", "OrderConfirmed", effect=False),
    waits=(RENEWAL,),
    events={"Filed": FIELDS, "Postponed": FIELDS},
)
SAID = ("Reminded", "Escalated", "Expired", "Due")


class Trackers:
    """A log, a clock, and the trackers on it."""

    def __init__(self, definition: FlowDefinition) -> None:
        self.clock = VirtualClock()
        self.backend = MemoryBackend(self.clock)
        self.moments: dict[str, str] = {}
        """Event id → the moment in its payload."""
        self._definition = definition
        self._hosts: list[tuple[TrackerHost, asyncio.Task[None]]] = []

    def start(self, name: str) -> None:
        """Start a tracker of this name."""
        host = TrackerHost(
            self._definition,
            self.backend.log,
            self.backend.states,
            self.clock,
            name=name,
            attributes_of=lambda _: {},
            fields_of=self._fields_of,
        )
        self._hosts.append((host, asyncio.create_task(host.run())))

    def _fields_of(self, event: Envelope) -> Mapping[str, Any]:
        return {"order_id": event.key, "renews_at": self.moments[event.id]}

    async def stop(self) -> None:
        """Stop every tracker."""
        for host, task in self._hosts:
            await host.stop()
            await self.clock.advance(1)
            await task
        self._hosts.clear()

    async def publish(self, *events: Envelope) -> int:
        """Append events, let the trackers work, and return the stamp of the last one."""
        places = await self.backend.log.append(TOPIC, events)
        await self.clock.advance(0.01)
        return (await self.log())[places[-1].offset].stamp_ms

    async def log(self) -> Sequence[Record]:
        """Return the log."""
        return await self.backend.log.read(TOPIC, 0, 0, 10_000)

    async def said(self) -> list[tuple[str, int]]:
        """Return what the tracker published by time: type, and by how much it was late."""
        return [(r.event.type, r.stamp_ms - r.event.due_ms) for r in await self.log() if r.event.type in SAID]


@asynccontextmanager
async def trackers(definition: FlowDefinition) -> AsyncIterator[Trackers]:
    """Yield a log with no tracker yet."""
    running = Trackers(definition)
    await running.backend.log.create(TOPIC, 1)
    try:
        yield running
    finally:
        await running.stop()


async def test_a_restart_neither_loses_nor_repeats_a_reminder() -> None:
    """Each comes once, at its own time, whichever tracker publishes it."""
    async with trackers(CLAIM) as running:
        running.start("one")
        placed = start()
        await running.publish(placed, outcome(placed, "claims.file", "Filed"))
        await running.clock.advance(2.5)
        await running.stop()
        running.start("two")
        await running.clock.advance(7)
        said = await running.said()
        assert [type_ for type_, _ in said] == ["Reminded", "Reminded", "Escalated", "Reminded", "Expired"]
        assert all(late_ms >= 0 for _, late_ms in said)


async def test_after_an_outage_every_reminder_that_was_due_comes_before_the_time_out() -> None:
    """In the order of their times, with ids of their own."""
    async with trackers(CLAIM) as running:
        running.start("one")
        placed = start()
        await running.publish(placed, outcome(placed, "claims.file", "Filed"))
        await running.stop()
        await running.clock.advance(60)
        running.start("two")
        await running.clock.advance(1)
        assert [type_ for type_, _ in await running.said()] == [
            "Reminded",
            "Reminded",
            "Escalated",
            "Reminded",
            "Expired",
        ]
        ids = [record.event.id for record in await running.log()]
        assert len(ids) == len(set(ids))


async def test_nothing_is_said_after_the_answer() -> None:
    """Neither a reminder nor the time-out."""
    async with trackers(CLAIM) as running:
        running.start("one")
        placed = start()
        await running.publish(placed, outcome(placed, "claims.file", "Filed"))
        await running.clock.advance(2.5)
        await running.publish(Envelope(id="yes", type="Approved", key="o-1", flow=TOPIC))
        await running.clock.advance(30)
        assert [type_ for type_, _ in await running.said()] == ["Reminded"]


async def test_an_optional_wait_is_closed_once_and_the_run_completes() -> None:
    """By facts in the log, which a restart does not repeat."""
    async with trackers(SHOP) as running:
        running.start("one")
        placed = start()
        await running.publish(placed)
        await running.publish(outcome(placed, "shop.send", "OrderConfirmed"))
        await running.clock.advance(1)
        await running.stop()
        running.start("two")
        await running.clock.advance(1)
        types = [record.event.type for record in await running.log()]
        assert types == ["OrderPlaced", "OrderConfirmed", facts.WAIT_CLOSED, facts.FLOW_COMPLETED]


async def test_a_moment_that_is_moved_fires_once_at_the_new_one() -> None:
    """Over a restart between the two."""
    async with trackers(CONTRACT) as running:
        running.start("one")
        placed = start()
        filed = outcome(placed, "claims.file", "Filed")
        later_ms = running.clock.now_ms() + 3_000
        for id_, moment_ms in ((filed.id, later_ms), ("moved", later_ms + 4_000)):
            running.moments[id_] = datetime.fromtimestamp(moment_ms / 1_000, UTC).isoformat()
        await running.publish(placed, filed)
        await running.publish(Envelope(id="moved", type="Postponed", key="o-1", flow=TOPIC, run=placed.id))
        await running.stop()
        running.start("two")
        await running.clock.advance(8)
        (due,) = [record for record in await running.log() if record.event.type == "Due"]
        assert due.event.due_ms == later_ms + 4_000
        assert due.stamp_ms >= due.event.due_ms
