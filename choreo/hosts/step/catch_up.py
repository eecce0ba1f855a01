"""Catch-up: read a partition that was just assigned ahead to its end, a piece a round, before its records are handled.

Gates of the service are brought up to the committed offset first: from the offset that the inbox has, or from the first
record. Records that come meanwhile are kept. In pieces, because a consumer that does not poll loses its partitions.
"""

from __future__ import annotations

from choreo.app.paging import Pages
from choreo.app.steps.admission import in_place
from choreo.app.steps.handlers import RUN_FACTS
from choreo.app.steps.published_outcomes import PublishedOutcomes
from choreo.core.events import Position, Record
from choreo.hosts.step.context import HostContext
from choreo.ports.log import Assigned

READ_AT_ONCE = 2_000
"""Headers a round: some ten milliseconds, against a lease of seconds."""
LOOK_AGAIN_MS = 250
"""Between looks for the end of a transaction of another producer: as long as a poll waits."""


class CatchUp:
    """The reading ahead of one partition."""

    def __init__(self, assigned: Assigned, context: HostContext) -> None:
        """Read from the committed offset to the end at the moment of the assignment."""
        self.partition: int = assigned.partition
        self.end: int = assigned.end
        self.published: PublishedOutcomes = PublishedOutcomes(context.handlers, context.table)
        self.kept: list[Record] = []
        """Records that polls have brought meanwhile."""
        self.read: int = assigned.committed
        """How far the polls have read, kept records included."""
        self._context = context
        self._committed = self._next = assigned.committed
        self._gates_at = -1 if context.gates.types else assigned.committed
        """How far the gates are folded; -1: not known yet."""
        self._again_ms = 0
        self._pages = Pages(READ_AT_ONCE)

    @property
    def is_waiting(self) -> bool:
        """Return whether it waits, until its next look, for a transaction of another producer to end."""
        return self._context.ports.clock.now_ms() < self._again_ms

    @property
    def left(self) -> int:
        """Return how many records are still to be read, for the gates included."""
        return self.end - self._next + self._committed - self._gates_at

    @property
    def finished(self) -> bool:
        """Return whether the partition's records may be handled."""
        return self._next >= self.end and self._gates_at >= self._committed

    async def go_on(self, partitions: int) -> None:
        """Read one piece and take over its facts about runs, unless a record is in the wrong partition.

        Outcomes may stand behind an open transaction: its end is waited for, or their steps would run again.
        """
        if self._gates_at < self._committed:
            await self._fold(partitions)
            return
        stable = self._next
        records = await self._read()
        if not records and stable < self.end:
            # Requested before another read: a record before this offset that the read does not find does not exist.
            stable = await self._context.ports.log.stable_end(self._context.topic, self.partition)
            records = await self._read()
        for record in records:
            if record.event.type in RUN_FACTS and in_place(record, partitions):
                self._context.runs.read(record)
        self.published.read(records)
        if records:
            self._pages.read(records)
            self._next = records[-1].offset + 1
        elif stable >= self.end:
            self._next = self.end
        else:
            self._again_ms = self._context.ports.clock.now_ms() + LOOK_AGAIN_MS

    async def _read(self) -> list[Record]:
        limit = self._pages.limit(self.end - self._next)
        log = self._context.ports.log
        return await log.read(self._context.topic, self.partition, self._next, limit) if limit > 0 else []

    async def _fold(self, partitions: int) -> None:
        """Fold one piece into the gates. All that it makes ready was answered before the offset was committed."""
        gates, at = self._context.gates, self._gates_at
        if at < 0:
            self._gates_at = await gates.begin(self.partition)
            return
        place = Position(self._context.topic, self.partition, at)
        self._gates_at = await gates.scan(self._context.ports.log, place, self._committed, partitions)
        await gates.save({self.partition: self._committed})
