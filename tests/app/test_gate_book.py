"""The gates of a partition that is read from its first record: events of unknown runs cost next to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, cast

import pytest

from choreo.adapters.memory import MemoryBackend
from choreo.app.steps.gate_choice import gates_of
from choreo.app.steps.gates import GateBook
from choreo.app.steps.handlers import Handlers
from choreo.core import facts
from choreo.core.events import Envelope, Position, Record
from choreo.core.flow_table import FlowTable
from choreo.ports.log import Log
from choreo.testing.clock import VirtualClock
from services.notification import notification
from services.order_flow import order

TYPES = ("OrderPlaced", "ShipmentCreated", "ShipmentPicked", "PickTimedOut", facts.FLOW_COMPLETED, facts.FLOW_PAUSED)


class Watched:
    """A log, and the keys of the records that its scans have returned."""

    def __init__(self, log: Log) -> None:
        """Scan this log."""
        self._log = log
        self.keys: set[str] = set()

    async def scan(self, *about: Any) -> tuple[Sequence[Record], int]:
        """Scan as the log does."""
        records, following = await self._log.scan(*about)
        self.keys.update(record.event.key for record in records)
        return records, following


def book() -> GateBook:
    """Return the gates of the service behind the wait, with an inbox of its own."""
    table = FlowTable(order.definition)
    inbox = MemoryBackend(VirtualClock()).inbox(notification.name)
    return gates_of(table, Handlers(notification, table), inbox)


def records(seed: int, keys: int = 6, count: int = 200) -> list[Record]:
    """Return events of some keys, of which some never have a start, and others have it late."""
    chance, found = Random(seed), []
    for offset in range(count):
        key, type_ = f"k{chance.randrange(keys)}", chance.choice(TYPES)
        run = chance.choice(("", f"run-{key}"))
        id_ = f"run-{key}" if type_ == "OrderPlaced" else f"e{offset}"
        if type_ == "OrderPlaced" and (key in ("k0", "k1") or offset < count // 4):
            continue
        event = Envelope(id_, type_, key, "order", run="" if type_ == "OrderPlaced" else run, n=offset, source="s")
        found.append(Record("order", 0, offset, 1_000 + offset, event))
    return found


@pytest.mark.parametrize("seed", range(20))
async def test_a_partition_that_is_read_from_its_first_record_decides_as_any_other(seed: int) -> None:
    """Keys without a state are passed over there, and not looked up; answers and rows are the same."""
    fresh, other = book(), book()
    await fresh.begin(0)
    log, chance = records(seed), Random(seed)
    while log:
        piece, log = log[: (cut := chance.randint(1, 40))], log[cut:]
        assert await fresh.read(piece) == await other.read(piece)
        rows, expected = fresh.unsaved({0: piece[0].offset}), other.unsaved({0: piece[0].offset})
        assert rows.save.rows == expected.save.rows
        if chance.random() < 0.5:
            await fresh.save({})
            await other.save({})


@pytest.mark.parametrize("seed", range(5))
async def test_a_scan_from_the_first_record_asks_for_known_keys_and_starts_alone(seed: int) -> None:
    """A long log's events of runs that ended long ago are not decoded; the gates are as if they were."""
    backend, other, fresh = MemoryBackend(VirtualClock()), book(), book()
    await backend.log.create("order", 1)
    written = [record.event for record in records(seed)]
    await backend.log.append("order", written)
    log, at = Watched(backend.log), await fresh.begin(0)
    while at < len(written):
        at = await fresh.scan(cast(Log, log), Position("order", 0, at), min(len(written), at + 30), 1)
    await other.read(await backend.log.read("order", 0, 0, len(written)))
    assert fresh.unsaved({}).save.rows == other.unsaved({}).save.rows
    assert "k2" in log.keys
    assert not {"k0", "k1"} & log.keys
