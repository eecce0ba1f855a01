"""Events from outside without a run of their key: each process reads new records once, and remembers candidates.

Bounded: the newest records of a flow, and the newest candidates.
"""

from __future__ import annotations

import msgspec

from choreo.app.query.read_your_writes import token_of
from choreo.core.events import Position
from choreo.core.flow_table import FlowTable
from choreo.ports.clock import Clock
from choreo.ports.log import Log
from choreo.ports.read_model import ReadModel

LOOKED_BACK = 2_000
"""Records of a flow that are looked at when a process is first asked, the newest."""
AT_ONCE = 1_000
KEPT = 100
YOUNG_MS = 5_000
"""The run of a younger event may start at this moment."""


class OrphanEvent(msgspec.Struct, frozen=True):
    """An event from outside without a run of its key."""

    flow: str
    type: str
    key: str
    position: str
    stamp_ms: int
    source: str


class Orphans:
    """Finds orphans. Raises NotFoundError on an unknown topic."""

    def __init__(self, log: Log, read_model: ReadModel, clock: Clock) -> None:
        """Keep the parts; nothing is read yet."""
        self._log = log
        self._read_model = read_model
        self._clock = clock
        self._read: dict[tuple[str, int], int] = {}
        """(flow, partition) → the next offset to look at."""
        self._candidates: dict[str, dict[Position, OrphanEvent]] = {}

    async def of(self, table: FlowTable) -> list[OrphanEvent]:
        """Return the orphans of a flow, the newest first, at most a hundred."""
        flow = table.flow.name
        outside = frozenset(table.outside - {table.flow.starts})
        if not outside:
            return []
        candidates = self._candidates.setdefault(flow, {})
        partitions = range(await self._log.partitions(flow))
        for number in partitions:
            await self._look(flow, number, max(1, LOOKED_BACK // len(partitions)), outside, candidates)
        runs = {key: await self._has_run(flow, key) for key in {each.key for each in candidates.values()}}
        left = sorted(
            ((place, each) for place, each in candidates.items() if not runs[each.key]),
            key=lambda item: item[1].stamp_ms,
        )
        self._candidates[flow] = dict(left[-KEPT:])
        old_ms = self._clock.now_ms() - YOUNG_MS
        return [each for _, each in reversed(left[-KEPT:]) if each.stamp_ms <= old_ms]

    async def _look(
        self, flow: str, partition: int, back: int, outside: frozenset[str], candidates: dict[Position, OrphanEvent]
    ) -> None:
        """Add the events without a run of the new records."""
        end = await self._log.stable_end(flow, partition)
        position = self._read.get((flow, partition), 0)
        position = end if position > end else max(position, end - back)  # above the end: another log of this name
        while position < end:
            records, following = await self._log.scan(flow, partition, position, AT_ONCE, outside)
            for record in records:
                event = record.event
                if not event.run:
                    place = token_of(record.position)
                    orphan = OrphanEvent(flow, event.type, event.key, place, record.stamp_ms, event.source)
                    candidates[record.position] = orphan
            if following <= position:
                break
            position = following
        self._read[flow, partition] = position

    async def _has_run(self, flow: str, key: str) -> bool:
        return await self._read_model.instance(flow, key) is not None
