"""Run finder: the run of an event without a run id is its key's oldest run without an end fact, as in the tracker.

A run that a late success opens again is being compensated: an event from outside does not belong to it.

Reads the log up to the event for starts and ends, only in services that meet such events. The inbox keeps the offset
that it has reached, so that a restart does not begin at the first record.
"""

from __future__ import annotations

from choreo.app.steps.gate_choice import runs_of
from choreo.app.steps.gates import SCAN_AT_ONCE
from choreo.core.events import Position, Record
from choreo.core.flow_table import FlowTable
from choreo.ports.inbox import Inbox
from choreo.ports.log import Log


class RunFinder:
    """The runs of each key of a flow's partitions, up to the events that were asked about."""

    def __init__(self, log: Log, table: FlowTable, inbox: Inbox) -> None:
        """Start without reading; `run_of` reads the log as far as it needs."""
        self._log = log
        self._runs = runs_of(table, inbox)
        self._partitions: dict[int, int] = {}

    async def run_of(self, record: Record, partitions: int) -> str:
        """Return the run's id; "" if the event belongs to no open run. The topic has so many `partitions`."""
        topic, partition, _ = record.position
        at = self._partitions.get(partition)
        if at is None:
            at = await self._runs.begin(partition)
        while at < record.offset:
            before, at = at, await self._runs.scan(self._log, Position(topic, partition, at), record.offset, partitions)
            if record.offset - before >= SCAN_AT_ONCE:
                await self._runs.save({})
        self._partitions[partition] = at
        return await self._runs.run_of(record)

    def version_and_build(self, record: Record, run: str) -> tuple[int, str]:
        """Return the version and the build of the run that `run_of` has returned for this record."""
        return self._runs.version_and_build(record.event.key, run)

    def lose(self, partition: int) -> None:
        """Forget the partition; go on from the inbox when it is asked about again."""
        self._partitions.pop(partition, None)
        self._runs.lose(partition)
