"""Which run an event from outside belongs to: its key's oldest run without an end fact, as the tracker has it.

A run that a late success opens again only goes back: what comes from outside is not for it.

Reads headers of the log up to the event, and only for services that meet such events; nobody else pays for it.
"""

from __future__ import annotations

from collections import deque

from choreo.core import facts
from choreo.core.definition import FlowTable
from choreo.core.events import Record
from choreo.core.fold import identified
from choreo.ports.log import Log

READ_AT_ONCE = 1_000


class RunFinder:
    """The runs of each key of a flow's partitions, as far as it was asked."""

    def __init__(self, log: Log, table: FlowTable) -> None:
        """`log` is read only when `run_of` needs more of it."""
        self._log = log
        self._table = table
        self._partitions: dict[int, _Partition] = {}

    async def run_of(self, record: Record) -> str:
        """The run's id; "" where the event belongs to none that is open."""
        known = self._partitions.setdefault(record.partition, _Partition(self._table))
        while known.position < record.offset:
            limit = min(READ_AT_ONCE, record.offset - known.position)
            records = await self._log.read(record.topic, record.partition, known.position, limit)
            if not records:
                break
            for earlier in records:
                known.read(earlier)
        return known.oldest(record.event.key)


class _Partition:
    """The open runs by key, in the order of their starts; ended ones are remembered while they linger."""

    def __init__(self, table: FlowTable) -> None:
        self.position = 0
        self._starts = table.flow.starts
        self._linger_ms = table.flow.linger_ms
        self._open: dict[str, list[str]] = {}
        self._ended: dict[str, str] = {}
        self._lingering: deque[tuple[int, str]] = deque()

    def read(self, record: Record) -> None:
        self.position = record.offset + 1
        event = record.event
        if event.type == self._starts:
            start = identified(record).id
            runs = self._open.setdefault(event.key, [])
            if start not in runs and start not in self._ended:
                runs.append(start)
        elif event.type in facts.ENDS:
            self._end(event.key, event.run, record.stamp_ms)

    def oldest(self, key: str) -> str:
        runs = self._open.get(key)
        return runs[0] if runs else ""

    def _end(self, key: str, run: str, stamp_ms: int) -> None:
        runs = self._open.get(key, [])
        if run in runs:
            runs.remove(run)
            self._ended[run] = key
            self._lingering.append((stamp_ms, run))
        if not runs:
            self._open.pop(key, None)
        while self._lingering and self._lingering[0][0] < stamp_ms - self._linger_ms:
            self._ended.pop(self._lingering.popleft()[1], None)
