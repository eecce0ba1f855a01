"""The log port over `Records` and `ConsumerGroups`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice

from choreo.adapters.consumer import GroupConsumer, admitted
from choreo.adapters.errors import admit, bad_count, wrong_count
from choreo.adapters.sqlite.consumer_groups import ConsumerGroups
from choreo.adapters.sqlite.database import Database
from choreo.adapters.sqlite.records import Records
from choreo.adapters.sqlite.wal_sync import NotFlushedError
from choreo.adapters.sqlite.writer import Until, Writer
from choreo.core.events import Envelope, Position, Record
from choreo.ports.clock import Clock
from choreo.ports.log import Admits, GroupMember


class _Together:
    """The events that several callers append to one topic in one iteration of the loop: one job, few statements."""

    __slots__ = ("parts", "written")

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.written: asyncio.Future[None]


class _Part:
    """The events of one caller, and their positions in the log."""

    __slots__ = ("_events", "records", "waiting")

    def __init__(self, events: Sequence[Envelope], written: asyncio.Future[None]) -> None:
        self._events = events
        # A cancelled caller withdraws its own events only.
        self.waiting = asyncio.shield(written)
        self.records: Sequence[Record] = ()

    @property
    def events(self) -> Sequence[Envelope]:
        """Return the events to write: none once the caller is cancelled."""
        return () if self.waiting.cancelled() else self._events


class SqliteLog:
    """`choreo.ports.log.Log` in a file. Everything raises StorageError when the file cannot be read or written."""

    def __init__(
        self, database: Database, writer: Writer, records: Records, groups: ConsumerGroups, clock: Clock
    ) -> None:
        self._database = database
        self._writer = writer
        self._records = records
        self._groups = groups
        self._clock = clock
        self._together: dict[str, _Together] = {}
        """Events for the next transaction, by topic."""

    async def create(self, topic: str, partitions: int) -> None:
        """Create the topic unless it exists; raises SettingsError if it exists with another partition count."""
        if partitions < 1:
            raise bad_count(topic, partitions)

        def job() -> None:
            existing = self._database.query("SELECT count(*) FROM partitions WHERE topic = ?", (topic,))[0][0]
            if existing == 0:
                rows = [(topic, partition) for partition in range(partitions)]
                self._database.connection.executemany("INSERT INTO partitions (topic, partition) VALUES (?, ?)", rows)
            elif existing != partitions:
                raise wrong_count(topic, existing, partitions)

        await self._writer.write(job)

    async def partitions(self, topic: str) -> int:
        """Return the number of the topic's partitions; raises NotFoundError."""
        return len(self._records.partition_ids(topic))

    async def bytes_max(self, topic: str) -> int:  # noqa: ARG002 - it is the same for all
        """Return the largest size of an event: there is no bound."""
        return 0

    async def append(self, topic: str, events: Sequence[Envelope]) -> list[Position]:
        """Publish durably; raises ConflictError on an event without a key, and then none is published."""
        admit(topic, events)
        together = self._together.get(topic) or self._begin_together(topic)
        part = _Part(events, together.written)
        together.parts.append(part)
        try:
            await part.waiting
        except NotFlushedError:
            raise
        except Exception:
            if len(together.parts) == 1:
                raise
            # One of the other callers may have caused the error: alone, each gets the error of its own events.
            part.records = await self._writer.write(lambda: self._records.append(topic, events))
        return [record.position for record in part.records]

    def _begin_together(self, topic: str) -> _Together:
        together = self._together[topic] = _Together()

        def job() -> None:
            self._together.pop(topic, None)
            parts = [(part, part.events) for part in together.parts]
            records = iter(self._records.append(topic, [event for _, events in parts for event in events]))
            for part, events in parts:
                part.records = list(islice(records, len(events)))

        together.written = self._writer.queue(job)
        return together

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return at most `limit` records from `offset` on; raises NotFoundError on an unknown topic or partition."""
        if offset >= self._records.end(topic, partition) or limit < 1:
            return []
        found: list[Record] = []
        while len(found) < limit:
            batch, read = self._records.scan(topic, partition, offset, limit - len(found), None)
            if read <= offset:
                break
            found += batch
            offset = read
        return found

    async def scan(
        self,
        topic: str,
        partition: int,
        offset: int,
        limit: int,
        types: frozenset[str],
        admits: Admits | None = None,
    ) -> tuple[Sequence[Record], int]:
        """Return at most `limit` admitted records of these types, and the offset to continue from."""
        return admitted(*self._records.scan(topic, partition, offset, limit, types), admits)

    async def end(self, topic: str, partition: int) -> int:
        """Return the offset of the next record; raises NotFoundError."""
        return self._records.end(topic, partition)

    async def stable_end(self, topic: str, partition: int) -> int:
        """Return the end: there are no open transactions of others in this log."""
        return await self.end(topic, partition)

    async def consumer(self, topic: str, group: str, name: str, types: frozenset[str] | None = None) -> GroupConsumer:
        """Join the group; an older member of the same name, such as a killed process, leaves it at once."""
        self._records.partition_ids(topic)
        member_id = await self._groups.join(topic, group, name)
        return GroupConsumer(self._groups, member_id, self._clock, types)

    async def committed(self, topic: str, group: str) -> dict[int, int]:
        """Return the group's committed offset by partition; 0 where it has none. Raises NotFoundError."""
        known = self._groups.committed(topic, group)
        return {partition: known.get(partition, 0) for partition in range(len(self._records.partition_ids(topic)))}

    async def members(self, topic: str, group: str) -> list[GroupMember]:
        """Return the group's live members; raises NotFoundError on an unknown topic."""
        self._records.partition_ids(topic)
        return self._groups.members(topic, group)

    async def close(self) -> None:
        """Write all pending events. The backend closes the file."""
        if self._writer.busy:
            await self._writer.write(lambda: None, Until.COMMITTED)
