"""The history of a key for a store that keeps only offsets: its records are read from the log.

A copy of the log in a store would cost ten times as much as the views, and would be a second place from which a
customer's data must be deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from choreo.core.events import Record
from choreo.core.partition import partition_of
from choreo.ports.log import Log

NEAR = 50
"""Records of a key with offsets this near are read at once: a broker returns a whole batch in any case."""
SPAN_MAX = 1_000
READS_AT_ONCE = 16


async def records_at(log: Log, flow: str, key: str, offsets: Sequence[int]) -> list[Record]:
    """Return the key's records at these ascending offsets. Raises StorageError, NotFoundError."""
    if not offsets:
        return []
    partition = partition_of(key, await log.partitions(flow))
    wanted, spans = set(offsets), list(_spans(offsets))
    records: list[Record] = []
    for at in range(0, len(spans), READS_AT_ONCE):
        reads = [log.read(flow, partition, first, last - first + 1) for first, last in spans[at : at + READS_AT_ONCE]]
        for piece in await asyncio.gather(*reads):
            records += [record for record in piece if record.offset in wanted]
    return records


def _spans(offsets: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield ascending offsets as ranges (first, last) that are read at once."""
    first = last = -1
    for offset in offsets:
        if first < 0:
            first = offset
        elif offset - last > NEAR or offset - first >= SPAN_MAX:
            yield first, last
            first = offset
        last = offset
    if first >= 0:
        yield first, last
