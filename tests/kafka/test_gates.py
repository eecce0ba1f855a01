"""A step behind a wait runs once it is open, also where its process or inbox died: on a broker, and in a file."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from choreo.adapters.redis.server import RedisServer
from choreo.settings import load
from choreo.wiring import open_app
from schemas.orders import ShipmentPicked
from tests.kafka.conftest import Servers
from tests.kafka.harness import FLOW, PARTITIONS, Harness, keys_in
from tests.support.fleet import FLOWS, ROOT, Fleet


@pytest.fixture
async def in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    """Yield the same scene on one SQLite file."""
    values = {
        "CHOREO_FLOWS": FLOWS,
        "CHOREO_DATABASE": str(tmp_path / "choreo.db"),
        "CHOREO_BOOKS_DIR": str(tmp_path / "books"),
        "CHOREO_PARTITIONS": str(PARTITIONS),
    }
    monkeypatch.chdir(ROOT)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    fleet = Fleet(tmp_path, values)
    async with open_app(load()) as app:
        try:
            yield Harness(app, fleet, tmp_path / "books")
        finally:
            fleet.kill_all()


async def _nothing() -> None:
    """Lose nothing."""


async def _early_picks(harness: Harness, lose: Callable[[], Awaitable[None]]) -> None:
    """Publish picks before anything is shipped; kill the process that has read them, and call `lose`."""
    for service in ("inventory", "payment"):
        harness.fleet.start(service)
    victim = harness.fleet.start("notification")
    keys = keys_in(range(PARTITIONS), 2, "early")
    for key in keys:
        await harness.place(key)
        await harness.publish(ShipmentPicked(order_id=key))
    await harness.place("declined", card="declined")
    await harness.publish(ShipmentPicked(order_id="declined"))
    await harness.until(lambda: harness.published("PaymentCharged", keys), "all are paid")
    await harness.until(lambda: harness.published("PaymentDeclined", ["declined"]), "one is declined")
    await harness.until(lambda: _worked(harness, "notification"), "the picks are read")
    assert await harness.keys("OrderConfirmed") == []
    harness.fleet.kill(victim)
    await lose()
    harness.fleet.start("notification")
    harness.fleet.start("shipping")
    await harness.until(lambda: harness.published("OrderConfirmed", keys), "all are confirmed")
    await harness.until(lambda: _worked(harness, "notification"), "nothing is left to be read")
    assert sorted(await harness.keys("OrderConfirmed")) == sorted(keys), "each once, and never the declined one"
    records = await harness.log()
    for key in keys:
        types = [record.event.type for record in records if record.event.key == key]
        assert types.index("ShipmentPicked") < types.index("ShipmentCreated") < types.index("OrderConfirmed")


async def _worked(harness: Harness, service: str) -> bool:
    """Return whether the service has committed everything that stands in the log."""
    ends = {p: await harness.app.backend.log.end(FLOW, p) for p in range(PARTITIONS)}
    committed = await harness.app.backend.log.committed(FLOW, service)
    return all(committed.get(partition, 0) >= end for partition, end in ends.items())


async def test_an_early_pick_outlives_its_process(harness: Harness) -> None:
    """The heir finds it in the inbox."""
    await _early_picks(harness, _nothing)


async def test_an_early_pick_outlives_the_inbox(harness: Harness, servers: Servers) -> None:
    """The heir folds it again from the log."""

    async def flushed() -> None:
        server = RedisServer(servers.redis)
        await server.ask("FLUSHALL")
        await server.close()

    await _early_picks(harness, flushed)


async def test_an_early_pick_outlives_its_process_in_a_file(in_a_file: Harness) -> None:
    """The heir finds it in the inbox."""
    await _early_picks(in_a_file, _nothing)


async def test_an_early_pick_outlives_a_change_of_the_declaration_in_a_file(in_a_file: Harness, tmp_path: Path) -> None:
    """Gates that are not there, or of another shape, are folded again from the log."""

    async def forgotten() -> None:
        with closing(sqlite3.connect(tmp_path / "choreo.db", isolation_level=None)) as db:
            db.executescript("DELETE FROM gates; DELETE FROM gate_positions;")

    await _early_picks(in_a_file, forgotten)
