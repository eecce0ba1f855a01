"""How far the read model shows a flow's log: its positions, the records it has not read, and the age of the oldest.

Reads the log's ends and, only where records are unread, the stamp of the first of each partition.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from choreo.ports.clock import Clock
from choreo.ports.log import Log
from choreo.ports.read_model import ReadModel

STAMPS_READ_MAX = 8
"""Partitions of which the first unread record is read: one of the furthest behind is among them."""


class Freshness(msgspec.Struct, frozen=True):
    """The state of the read model of one flow."""

    flow: str
    positions: Mapping[int, int]
    """By partition the offset up to which the views are true."""
    behind: int
    """Records in the log that the views do not show."""
    behind_ms: int
    """Age of the oldest of them."""

    @property
    def shown(self) -> int:
        """Return the number of records that the views show."""
        return sum(self.positions.values())


async def freshness(flow: str, log: Log, read_model: ReadModel, clock: Clock) -> Freshness:
    """Return the present state of a flow's views."""
    reached = await read_model.positions(flow)
    ends = [await log.stable_end(flow, number) for number in range(await log.partitions(flow))]
    positions = {number: reached.get(number, 0) for number in range(len(ends))}
    unread = {number: end - positions[number] for number, end in enumerate(ends) if end > positions[number]}
    oldest_ms = now_ms = clock.now_ms()
    for number in sorted(unread, key=lambda each: -unread[each])[:STAMPS_READ_MAX]:
        for record in await log.read(flow, number, positions[number], 1):
            oldest_ms = min(oldest_ms, record.stamp_ms)
    return Freshness(flow, positions, sum(unread.values()), now_ms - oldest_ms)
