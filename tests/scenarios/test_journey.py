"""A partial rollback: the flight is undone as a whole, the journey goes on by train."""

from __future__ import annotations

from pathlib import Path

from choreo.settings import load
from tests.support.journey import FLOWS, Journey, JourneyWanted
from tests.support.running import ended, running


async def test_a_journey_goes_on_another_way_once_the_flight_is_undone(tmp_path: Path) -> None:
    """Only the journey whose hotel is full takes the train, and has no seat any more."""
    world = Journey()
    settings = load(flows=FLOWS, database=tmp_path / "c.db", topics=tmp_path / "none", partitions=2)
    async with running(settings) as app:
        for key in ("good", "full"):
            receipt = await app.publisher.publish("journey", JourneyWanted(journey_id=key))
            assert await ended(app, receipt.position, key, "journey") == "completed"
        statuses = [(await app.queries.instance("flight", key)).row.status for key in ("good", "full")]
    assert statuses == ["completed", "compensated"]
    assert sorted(world.bookings) == ["room good", "seat good", "train full"]
