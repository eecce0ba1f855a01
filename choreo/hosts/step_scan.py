"""What a host does with a partition it was just given: read it ahead to its end, a piece a turn, before working it.

Records that come meanwhile are kept back. In pieces, because a member that does not poll loses its partitions.
"""

from __future__ import annotations

from choreo.app.duties import RUN_FACTS, Duties
from choreo.app.runs import Runs
from choreo.app.seen import Seen
from choreo.core.definition import FlowTable
from choreo.core.events import Record
from choreo.core.partition import partition_of
from choreo.ports.log import Gained, Log

READ_AT_ONCE = 2_000
"""Headers a turn: some ten milliseconds, against a lease of seconds."""


class Scan:
    """The reading ahead of one partition."""

    def __init__(self, gained: Gained, duties: Duties, table: FlowTable) -> None:
        """From the committed position to the end that stood when the partition was taken."""
        self.partition = gained.partition
        self.end = gained.end
        self.seen = Seen(duties, table)
        self.kept_back: list[Record] = []
        self.read = gained.committed
        """How far the polls have read, records kept back included."""
        self._next = gained.committed

    @property
    def finished(self) -> bool:
        """Whether the partition may be worked."""
        return self._next >= self.end

    async def go_on(self, log: Log, topic: str, partitions: int, runs: Runs) -> None:
        """Read one piece; what it says about runs counts from now on, unless it is astray in this partition."""
        limit = min(READ_AT_ONCE, self.end - self._next)
        records = await log.read(topic, self.partition, self._next, limit)
        for record in records:
            event = record.event
            if event.type in RUN_FACTS and event.key and partition_of(event.key, partitions) == self.partition:
                runs.read(record)
        self.seen.read(records)
        self._next = records[-1].offset + 1 if records else self.end
