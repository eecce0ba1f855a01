"""Trips with a join and an approval end as they must while every process of the flow is killed, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.support.fleet import Fleet
from tests.support.trip_play import trips_end_as_they_must
from tests.support.trips import FLOWS


async def test_every_trip_ends_as_it_must_while_processes_are_killed(
    in_a_file: Callable[[Sequence[str]], Fleet],
) -> None:
    """On one database file."""
    await trips_end_as_they_must(in_a_file(FLOWS))
