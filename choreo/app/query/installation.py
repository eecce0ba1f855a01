"""This installation as a recording: its log, its read model and its dead letters, read as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from collections.abc import Set as AbstractSet

from choreo.app.paging import Pages
from choreo.core.events import Record
from choreo.core.partition import partition_of
from choreo.ports.clock import Clock
from choreo.ports.dead_letters import DeadLetters
from choreo.ports.log import Log
from choreo.ports.read_model import Filter, InstanceView, ReadModel

PAGE = 500
"""Rows or dead letters that are read at once."""
READ_AT_ONCE = 2_000


class Installation:
    """`choreo.ports.recording.Recording` of the storage that the settings name."""

    def __init__(self, log: Log, read_model: ReadModel, dead_letters: DeadLetters, clock: Clock, place: str) -> None:
        """Keep the parts; nothing is read yet."""
        self.place: str = place
        self._log = log
        self._read_model = read_model
        self._dead_letters = dead_letters
        self._clock = clock

    @property
    def as_of_ms(self) -> int:
        """Return the present moment."""
        return self._clock.now_ms()

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of the topic; raises NotFoundError."""
        return await self._log.partitions(topic)

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return at most `limit` records from `offset` on."""
        return await self._log.read(topic, partition, offset, limit)

    async def history(self, flow: str, key: str, after: int = -1, limit: int = 1_000) -> list[Record]:
        """Return the key's records after that offset: from the read model's index, and behind its end from the log."""
        partition = partition_of(key, await self._log.partitions(flow))
        indexed = (await self._read_model.positions(flow)).get(partition, 0)
        found = await self._read_model.history(flow, key, after, limit)
        if len(found) == limit:
            return found
        position, pages = max(indexed, after + 1), Pages(READ_AT_ONCE)
        last = found[-1].offset if found else after
        while len(found) < limit:
            records = await self._log.read(flow, partition, position, pages.limit(READ_AT_ONCE))
            if not records:
                break
            pages.read(records)
            found += [record for record in records if record.event.key == key and record.offset > last]
            position = records[-1].offset + 1
        return found[:limit]

    async def views(self, flow: str, key: str = "") -> AsyncIterator[InstanceView]:
        """Yield the rows of the read model."""
        cursor = ""
        while True:
            page = await self._read_model.instances(Filter(flow=flow, key=key), PAGE, cursor)
            for row in page.items:
                yield row
            cursor = page.cursor
            if not cursor:
                return

    async def positions(self, topic: str) -> dict[int, int]:
        """Return the positions of the read model."""
        return await self._read_model.positions(topic)

    async def set_aside(self, topic: str) -> AbstractSet[tuple[int, int]]:
        """Return the places of the dead letters."""
        found: set[tuple[int, int]] = set()
        after = ""
        while True:
            page = await self._dead_letters.list(topic, PAGE, after)
            found |= {(each.partition, each.offset) for each in page}
            if len(page) < PAGE:
                return found
            after = page[-1].id
