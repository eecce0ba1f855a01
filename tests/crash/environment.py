"""The world outside the flow: it places orders, picks shipments, and drops garbage into the log by plain SQL."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from choreo.core.events import Envelope, Record
from choreo.wiring import App
from schemas.orders import ShipmentPicked
from services.demo import Demo, Placed

_FOREIGN = "INSERT INTO log (topic, partition, type, key, headers, data) VALUES ('order', ?, ?, ?, ?, ?)"

# Records that no step and no tracker can handle: no key, a type that no flow has, headers that are no JSON.
_GARBAGE = (
    (0, "OrderPlaced", "", "{}", b"{}"),
    (1, "Nonsense", "o-0001", "{}", b"{}"),
    (2, "ShipmentPicked", "o-0002", "{broken", b"{}"),
)


class Environment:
    """A producer that waits for acknowledgements, and a warehouse that answers shipments."""

    def __init__(self, app: App, demo: Demo) -> None:
        """Start with nothing published."""
        self.acknowledged: dict[str, str] = {}
        """Id → key of every start the log has acknowledged."""
        self.stop = asyncio.Event()
        self._app = app
        self._demo = demo

    async def place(self, order: Placed) -> None:
        """Publish one order, twice where its customer is impatient."""
        for attempt in ("", "again")[: 1 + order.kind.started_twice]:
            receipt = await self._app.publisher.publish("order", order.event, idempotency_key=attempt)
            self.acknowledged[receipt.id] = receipt.key

    async def pick(self) -> None:
        """Answer every shipment until `stop` is set."""
        consumer = await self._app.backend.log.consumer("order", "outside", "outside", self._demo.listens)
        while not self.stop.is_set():
            poll = await consumer.poll(500, 0.1)
            for record in poll.records:
                await self._answer(record)
        await consumer.close()

    async def _answer(self, record: Record) -> None:
        key = record.event.key
        answer = self._demo.answer(key)
        if isinstance(answer, ShipmentPicked):
            await self._app.publisher.publish("order", answer, idempotency_key=record.event.id, allow_early=True)
        elif isinstance(answer, bytes):
            kind = self._app.codec.content_type
            garbage = Envelope(
                f"garbage-{record.event.id}", "ShipmentPicked", key, "order", content_type=kind, data=answer
            )
            await self._app.backend.log.append("order", [garbage])


def poison(database: Path) -> None:
    """Drop garbage into the log, as a foreign program would."""
    with closing(sqlite3.connect(database, timeout=30)) as db, db:
        db.executemany(_FOREIGN, _GARBAGE)


def poisoned(database: Path) -> frozenset[tuple[int, int]]:
    """Return the places of all garbage: dropped events, and picks that cannot be read."""
    sql = """SELECT partition, offset FROM log WHERE key = '' OR type = 'Nonsense' OR headers = '{broken'
        OR id LIKE 'garbage-%'"""
    with closing(sqlite3.connect(database, timeout=30)) as db:
        return frozenset(db.execute(sql).fetchall())
