"""On Kafka, Faust and Redis trips end as they must while every process of their flow is killed, one after the other."""

from __future__ import annotations

from pathlib import Path

from tests.kafka.conftest import OnKafka
from tests.support.fleet import Fleet
from tests.support.trip_play import trips_end_as_they_must
from tests.support.trips import FLOWS


async def test_every_trip_ends_as_it_must_while_processes_are_killed(on_kafka: OnKafka, tmp_path: Path) -> None:
    """Early and late answers, refusals, time-outs, and a hotel that is full."""
    await trips_end_as_they_must(Fleet(tmp_path, on_kafka(FLOWS, 4)), "projector")
