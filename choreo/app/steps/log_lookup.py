"""Log lookup: read records by their positions, neighbours in one read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from choreo.core.events import Position, Record
from choreo.ports.log import Log

NEAR = 50
"""Records between two wanted ones that are read along: some 5 µs each, against a round trip for another read."""
READ_AT_ONCE = 1_000


async def records_at(log: Log, places: Iterable[Position]) -> dict[Position, Record]:
    """Return the records at these positions; one that is gone, or never was there, is absent."""
    wanted = set(places)
    found: dict[Position, Record] = {}
    for first, last in _spans(wanted):
        for record in await log.read(first.topic, first.partition, first.offset, last.offset - first.offset + 1):
            if record.position in wanted:
                found[record.position] = record
    return found


def _spans(places: Iterable[Position]) -> Iterator[tuple[Position, Position]]:
    """Yield the first and last position of each read."""
    first = last = None
    for place in sorted(places):
        if first is not None and last is not None and _together(first, last, place):
            last = place
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = place
    if first is not None and last is not None:
        yield first, last


def _together(first: Position, last: Position, place: Position) -> bool:
    same_partition = place[:2] == last[:2]
    return same_partition and place.offset - last.offset <= NEAR and place.offset - first.offset < READ_AT_ONCE
