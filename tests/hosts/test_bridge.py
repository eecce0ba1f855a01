"""The bridge's loop under faults: nothing is lost, and what is published again is a duplicate."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from choreo.adapters.memory import MemoryBackend
from choreo.app.bridge import rules
from choreo.core.errors import ConflictError
from choreo.core.events import Envelope
from choreo.hosts.bridge import BridgeHost
from choreo.ports.log import BRIDGE_GROUP
from choreo.settings import load
from choreo.testing.faults import FaultyBackend
from choreo.wiring import App, open_app
from tests.support.carrying import FLOWS, OrderAccepted

PARTITIONS = 3


class Bench:
    """The orders' log, and bridges on it."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.faulty = FaultyBackend(app.backend)
        self.hosts: list[BridgeHost] = []

    def bridge(self, name: str = "a", **options: Any) -> BridgeHost:
        """Return a bridge out of the orders' log."""
        of_flow = rules(self.app.flows, self.app.definitions, self.app.codec)["orders"]
        self.hosts.append(
            BridgeHost("orders", of_flow, self.faulty.log, self.app.clock, name=name, **options)  # type: ignore[arg-type]
        )
        return self.hosts[-1]

    async def accept(self, *keys: str, cents: int = 5, **fields: Any) -> None:
        """Append accepted orders to the log."""
        for key in keys:
            data = self.app.codec.encode(OrderAccepted(order_id=key, cents=cents))
            given = {"id": f"e-{key}", "data": data, **fields}
            event = Envelope(
                type="OrderAccepted", key=key, flow="orders", content_type=self.app.codec.content_type, **given
            )
            await self.app.backend.log.append("orders", [event])

    async def invoices(self) -> list[Envelope]:
        """Return the events in the invoices' log."""
        pages = [await self.app.backend.log.read("invoices", number, 0, 1_000) for number in range(PARTITIONS)]
        return [record.event for page in pages for record in page]

    async def behind(self) -> int:
        """Return how many records of the orders' log the bridge has not finished."""
        committed = await self.app.backend.log.committed("orders", BRIDGE_GROUP)
        return sum([await self.app.backend.log.end("orders", number) - done for number, done in committed.items()])

    @asynccontextmanager
    async def running(self, *hosts: BridgeHost) -> AsyncIterator[None]:
        """Run the hosts until the block ends."""
        tasks = [asyncio.create_task(host.run()) for host in hosts]
        try:
            yield
        finally:
            for host in hosts:
                await host.stop()
            await asyncio.gather(*tasks)

    async def finished(self) -> None:
        """Wait until the bridge has committed everything."""
        news = self.faulty.news()
        while await self.behind():
            await news
            news = self.faulty.news()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Open the project in memory; nothing runs."""
    settings = load(flows=FLOWS, database=tmp_path / "c.db", topics=tmp_path / "none", partitions=PARTITIONS)
    async with open_app(settings, memory=True) as app:
        assert isinstance(app.backend, MemoryBackend)
        yield Bench(app)


KEYS = [f"o-{number}" for number in range(20)]


async def test_a_lost_commit_publishes_again_under_the_same_ids(bench: Bench) -> None:
    """As after a crash between the acknowledgement and the commit."""
    fault = bench.faulty.faults.fail("consumer.commit", times=1)
    await bench.accept(*KEYS)
    async with bench.running(bench.bridge()):
        await bench.finished()
    events = await bench.invoices()
    assert fault.is_over
    assert len(events) > len(KEYS)
    assert set(Counter((event.id, event.key, event.run) for event in events)) == {
        (event.id, f"i-{key}", event.id) for key in KEYS for event in events if event.key == f"i-{key}"
    }
    assert len({event.id for event in events}) == len(KEYS)


async def test_two_bridges_share_the_log_and_double_nothing(bench: Bench) -> None:
    """Also when one of them loses its partitions to the other amid its work."""
    await bench.accept(*KEYS[:10])
    async with bench.running(bench.bridge("a"), bench.bridge("b")):
        await bench.finished()
        await bench.faulty.revoke(BRIDGE_GROUP)
        await bench.accept(*KEYS[10:])
        await bench.finished()
    assert len({event.id for event in await bench.invoices()}) == len(KEYS)


async def test_it_waits_for_a_log_that_is_away_and_reports_it(bench: Bench) -> None:
    """It reads no more meanwhile than it has, keeps its partitions, and goes on when the log is back."""
    faults = bench.faulty.faults
    asked, often = count(1), asyncio.Event()

    def is_invoices(topic: str, _events: object) -> bool:
        if topic == "invoices" and next(asked) > 3:
            often.set()
        return topic == "invoices"

    fault = faults.fail("log.append", times=None, when=is_invoices)
    host = bench.bridge(poll_size=5)
    await bench.accept(*KEYS)
    async with bench.running(host):
        await often.wait()
        (report,) = host.dependencies.all()
        assert report.name == "bridge of orders"
        assert "planned" in report.cause
        assert await bench.behind() == len(KEYS)
        assert max(len(events) for _, events in fault.calls) <= 5
        fault.lift()
        await bench.finished()
        assert host.dependencies.all() == []
    assert len(await bench.invoices()) == len(KEYS)


async def test_a_bad_event_delays_no_other(bench: Bench) -> None:
    """An unreadable one, and one that the other log refuses, are dead letters with their cause."""
    await bench.accept("o-1", id="e-1")
    await bench.accept("o-2", id="e-2", data=b"\xc3\x01 nothing")
    await bench.accept("o-3", id="e-3", cents=7)
    await bench.accept("o-4", id="e-4")

    async def refuse() -> None:
        raise ConflictError("it is too large", where="topic invoices", remedy="Send less.")

    refused = bench.faulty.faults.act(
        "log.append", refuse, times=None, when=lambda _, events: any(event.key == "i-o-3" for event in events)
    )
    host = bench.bridge()
    async with bench.running(host):
        await bench.finished()
    assert refused.calls
    assert sorted(event.key for event in await bench.invoices()) == ["i-o-1", "i-o-4"]
    dead = {letter.record.event.key: letter for letter in await bench.app.backend.dead_letters.list("orders")}
    assert set(dead) == {"o-2", "o-3"}
    assert dead["o-3"].cause == "topic invoices: it is too large. Send less."
    assert host.metrics.read()["dead_letters_written"] == 2


async def test_records_that_other_readers_do_not_handle_are_not_carried(bench: Bench) -> None:
    """One in another partition than its key's, which the tracker publishes again, and events of other types."""
    topics = bench.app.backend.log.topics  # type: ignore[attr-defined]
    await bench.accept("o-1")
    (record,) = [
        one for number in range(PARTITIONS) for one in await bench.app.backend.log.read("orders", number, 0, 9)
    ]
    other = (record.partition + 1) % PARTITIONS
    topics.partition("orders", other).append(type(record)("orders", other, 0, 1, record.event))
    async with bench.running(bench.bridge()):
        await bench.finished()
    assert [event.key for event in await bench.invoices()] == ["i-o-1"]


async def test_a_topic_that_is_missing_is_waited_for(bench: Bench) -> None:
    """The bridge may be started before the topics of another project part are there."""
    fault = bench.faulty.faults.fail("log.bytes_max", times=2)
    await bench.accept("o-1")
    host = bench.bridge()
    async with bench.running(host):
        await bench.finished()
    assert fault.is_over
    assert host.dependencies.all() == []
    assert [event.key for event in await bench.invoices()] == ["i-o-1"]
