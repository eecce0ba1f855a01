"""Baggage and trace reach every later step of a run: joins, waits, timers, children, compensations, other flows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from choreo.core.baggage import BaggageHeader
from choreo.core.errors import BaggageError
from choreo.core.events import Record
from choreo.settings import load
from choreo.wiring import App
from tests.support.luggage import FLOWS, Approved, Asked, Luggage
from tests.support.running import ended, events, running, until

TRACE = f"00-{'a' * 32}-{'b' * 16}-01"
both = pytest.mark.parametrize("memory", [True, False], ids=["memory", "sqlite"])


@asynccontextmanager
async def project(folder: Path, *, memory: bool, patience: str = "1h") -> AsyncIterator[tuple[App, Luggage]]:
    """Run all roles; customers have this time to answer."""
    luggage = Luggage(patience)
    settings = load(flows=FLOWS, database=folder / "c.db", topics=folder / "none", partitions=2)
    async with running(settings, memory=memory) as app:
        yield app, luggage


async def log_of(app: App, flow: str) -> list[Record]:
    """Return the flow's records."""
    return [each for part in range(2) for each in await app.backend.log.read(flow, part, 0, 1_000)]


async def start(app: App, key: str) -> None:
    """Start a trip, and answer its offer unless it is one that nobody answers."""
    placed = await app.publisher.publish(
        "travel", Asked(trip_id=key), baggage={"tenant": "a ü"}, traceparent=TRACE, tracestate="x=1"
    )
    if not key.endswith("silent"):
        await until(app, lambda: events(app, "travel", "Offered"), "travel")
        await app.publisher.publish("travel", Approved(trip_id=key))
    status = await ended(app, placed.position, key, "travel")
    assert status == ("compensated" if key.startswith("late") else "completed")


@both
async def test_every_later_step_has_it(tmp_path: Path, *, memory: bool) -> None:
    """The first attempt of the first step fails: its baggage is gone."""
    async with project(tmp_path, memory=memory) as (app, luggage):
        await start(app, "t-1")
        await until(app, lambda: events(app, "books", "Written"), "books")
        travel, whole = await log_of(app, "travel"), await log_of(app, "bag") + await log_of(app, "books")
    first = {"tenant": "a ü"}
    opened = {**first, "desk": "7", "attempt2": "1"}
    later = max((r for r in travel if r.event.type in ("FlightBooked", "HotelBooked")), key=lambda r: r.offset)
    joined = {**opened, "flight": "LH1", "hotel": "Ritz", "last": later.event.step.removeprefix("bookings.")}
    sent = {**joined, "gate": "12", "belt": "3"}
    assert luggage.seen == {
        "desk.open": [first, first],
        "bookings.flight": [opened],
        "bookings.hotel": [opened],
        "desk.offer": [joined],
        "desk.prepare": [joined],
        "gate.bags": [joined],
        "belt.send": [{**joined, "gate": "12"}],
        "gate.leave": [sent],
        "books.write": [sent],
    }
    carried = [each.event for each in (*travel, *whole) if each.event.type != "Approved"]
    assert {event.type for event in carried if "tenant=a%20%C3%BC" not in event.baggage} == set()
    assert {(event.traceparent, event.tracestate) for event in carried} == {(TRACE, "x=1")}


@both
async def test_a_time_out_and_the_compensations_have_it(tmp_path: Path, *, memory: bool) -> None:
    """Nobody answers, the trip goes on and fails at its end: all is undone, the child's effect too."""
    async with project(tmp_path, memory=memory, patience="1s") as (app, luggage):
        await start(app, "late-silent")
    assert luggage.seen["desk.guess"] == luggage.seen["gate.bags"]
    assert luggage.seen["desk.guess"][0].keys() == {"tenant", "desk", "attempt2", "flight", "hotel", "last"}
    assert luggage.seen["undo"] == luggage.seen["gate.leave"]
    assert luggage.seen["undo"][0]["belt"] == "3"
    assert luggage.seen["bag back"] == luggage.seen["undo"]


async def test_a_run_without_it_carries_nothing(tmp_path: Path) -> None:
    """But for the additions of its steps."""
    async with project(tmp_path, memory=True, patience="1s") as (app, luggage):
        placed = await app.publisher.publish("travel", Asked(trip_id="silent"))
        assert await ended(app, placed.position, "silent", "travel") == "completed"
        travel = await log_of(app, "travel")
    assert luggage.seen["desk.open"] == [{}, {}]
    before = [each.event.baggage for each in travel[: [each.event.type for each in travel].index("Opened")]]
    assert set(before) == {""}
    assert BaggageHeader(travel[-1].event.baggage).values["desk"] == "7"


async def test_baggage_that_cannot_be_carried_is_not_published(tmp_path: Path) -> None:
    """Nothing is started."""
    async with project(tmp_path, memory=True) as (app, _):
        with pytest.raises(BaggageError, match="baggage tenant: it would have 1 members and 9,007 bytes"):
            await app.publisher.publish("travel", Asked(trip_id="t-1"), baggage={"tenant": "x" * 9_000})
        with pytest.raises(BaggageError, match="'the tenant' is no name for a member"):
            await app.publisher.publish("travel", Asked(trip_id="t-1"), baggage={"the tenant": "a"})
        assert await log_of(app, "travel") == []
