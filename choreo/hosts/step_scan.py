"""What a host does with a partition it was just given: read it ahead to its end, a piece a turn, before working it.

Where the service has gates, those of the partition are brought up to the committed position first: from where the inbox
has them, or from the first record where it has none.

Records that come meanwhile are kept back. In pieces, because a member that does not poll loses its partitions.
"""

from __future__ import annotations

from choreo.app.duties import RUN_FACTS
from choreo.app.paging import Pages
from choreo.app.plan import in_place
from choreo.app.seen import Seen
from choreo.core.events import Record
from choreo.hosts.step_parts import Parts
from choreo.ports.log import Gained

READ_AT_ONCE = 2_000
"""Headers a turn: some ten milliseconds, against a lease of seconds."""
LOOK_AT_ONCE = 10_000
"""Records looked at a turn for the gates: of most only the type, and in another thread where the log is on Kafka."""
LOOK_AGAIN_MS = 250
"""Between looks for the end of a transaction of another producer: as long as a poll waits."""


class Scan:
    """The reading ahead of one partition."""

    def __init__(self, gained: Gained, parts: Parts) -> None:
        """From the committed position to the end that stood when the partition was taken."""
        self.partition: int = gained.partition
        self.end: int = gained.end
        self.seen: Seen = Seen(parts.duties, parts.table)
        self.kept_back: list[Record] = []
        self.read: int = gained.committed
        """How far the polls have read, records kept back included."""
        self._parts = parts
        self._committed = self._next = gained.committed
        self._gates_at = -1 if parts.gates.types else gained.committed
        """How far the gates are folded; -1: not known yet."""
        self._again_ms = 0
        self._pages = Pages(READ_AT_ONCE)

    @property
    def is_waiting(self) -> bool:
        """Whether it waits, until its next look, for a transaction of another producer to end."""
        return self._parts.clock.now_ms() < self._again_ms

    @property
    def finished(self) -> bool:
        """Whether the partition may be worked."""
        return self._next >= self.end and self._gates_at >= self._committed

    async def go_on(self, partitions: int) -> None:
        """Read one piece; what it says about runs counts from now on, unless it is astray in this partition.

        Outcomes may stand behind a transaction that is open: it is waited for, or their steps would run again.
        """
        if self._gates_at < self._committed:
            await self._fold(partitions)
            return
        stable = self._next
        records = await self._read()
        if not records and stable < self.end:
            # Asked before another read: what that does not find before this offset is not there.
            stable = await self._parts.log.stable_end(self._parts.topic, self.partition)
            records = await self._read()
        for record in records:
            if record.event.type in RUN_FACTS and in_place(record, partitions):
                self._parts.runs.read(record)
        self.seen.read(records)
        if records:
            self._pages.read(records)
            self._next = records[-1].offset + 1
        elif stable >= self.end:
            self._next = self.end
        else:
            self._again_ms = self._parts.clock.now_ms() + LOOK_AGAIN_MS

    async def _read(self) -> list[Record]:
        limit = self._pages.limit(self.end - self._next)
        return await self._parts.log.read(self._parts.topic, self.partition, self._next, limit) if limit > 0 else []

    async def _fold(self, partitions: int) -> None:
        """Bring the gates on by one piece. All that it makes ready was answered before the position was committed."""
        gates, at = self._parts.gates, self._gates_at
        if at < 0:
            self._gates_at = await gates.begin(self.partition)
            return
        limit = min(LOOK_AT_ONCE, self._committed - at)
        records, following = await self._parts.log.scan(self._parts.topic, self.partition, at, limit, gates.types)
        in_reach = [record for record in records if record.offset < self._committed and in_place(record, partitions)]
        await gates.read(in_reach)
        self._gates_at = min(following, self._committed) if following > at else self._committed
        gates.reached(self.partition, self._gates_at)
        await gates.save({self.partition: self._committed})
