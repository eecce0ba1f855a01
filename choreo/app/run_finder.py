"""Which run an event belongs to that does not say so: its key's oldest run without an end fact, as the tracker has it.

A run that a late success opens again only goes back: what comes from outside is not for it.

Looks through the log up to the event for starts and ends, and only in services that meet such events; nobody else pays
for it. How far it has come is kept in the inbox, so that a restart does not begin at the first record again.
"""

from __future__ import annotations

from choreo.app.gates import runs_of
from choreo.core.definition import FlowTable
from choreo.core.events import Record
from choreo.ports.inbox import Inbox
from choreo.ports.log import Log

READ_AT_ONCE = 10_000
"""Records looked at for one piece: of most only the type, some 20 ms in all."""


class RunFinder:
    """The runs of each key of a flow's partitions, as far as it was asked."""

    def __init__(self, log: Log, table: FlowTable, inbox: Inbox) -> None:
        """`log` is read only when `run_of` needs more of it."""
        self._log = log
        self._runs = runs_of(table, inbox)
        self._partitions: dict[int, int] = {}

    async def run_of(self, record: Record) -> str:
        """The run's id; "" where the event belongs to none that is open."""
        topic, partition, _ = record.position
        at = self._partitions.get(partition)
        if at is None:
            at = await self._runs.begin(partition)
        while at < record.offset:
            limit = min(READ_AT_ONCE, record.offset - at)
            records, following = await self._log.scan(topic, partition, at, limit, self._runs.types)
            if following == at:
                break
            await self._runs.read([earlier for earlier in records if earlier.offset < record.offset])
            at = min(following, record.offset)
            self._runs.reached(partition, at)
            if limit == READ_AT_ONCE:
                await self._runs.save({})
        self._partitions[partition] = at
        return await self._runs.run_of(record)

    def lose(self, partition: int) -> None:
        """Begin where the inbox stands when this partition is asked about again."""
        self._partitions.pop(partition, None)
        self._runs.lose(partition)
