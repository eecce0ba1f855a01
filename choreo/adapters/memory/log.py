"""The log port over `Topics` and `MemoryGroups`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from choreo.adapters.member import GroupMember
from choreo.adapters.memory.groups import MemoryGroups
from choreo.adapters.memory.topics import Topics
from choreo.adapters.refusals import admit
from choreo.core.events import Envelope, Position, Record
from choreo.ports.clock import Clock


class MemoryLog:
    """`choreo.ports.log.Log` in memory."""

    def __init__(self, topics: Topics, groups: MemoryGroups, clock: Clock) -> None:
        self._topics = topics
        self._groups = groups
        self._clock = clock
        self.bound = 0
        """What an event may have, as on a transport that has a bound."""

    async def create(self, topic: str, partitions: int) -> None:
        """Make sure the topic exists; raises SettingsError if it exists with another partition count."""
        self._topics.create(topic, partitions)

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has; raises NotFoundError."""
        return len(self._topics.of(topic))

    async def bytes_max(self, topic: str) -> int:  # noqa: ARG002 - it is the same for all
        """As many as `bound` says."""
        return self.bound

    async def append(self, topic: str, events: Sequence[Envelope]) -> list[Position]:
        """Publish; raises ConflictError on an event without a key, and then none is published."""
        admit(topic, events)
        await asyncio.sleep(0)  # as a durable log would: whoever appends in a loop lets others run
        return self._topics.append(topic, events)

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """At most `limit` records from `offset` on; raises NotFoundError on an unknown topic or partition."""
        return self._topics.partition(topic, partition)[max(0, offset) : max(0, offset) + limit]

    async def scan(
        self, topic: str, partition: int, offset: int, limit: int, types: frozenset[str]
    ) -> tuple[Sequence[Record], int]:
        """Return the records of these types among the next `limit`, and the offset to go on from."""
        return self._groups.scan(topic, partition, offset, limit, types)

    async def end(self, topic: str, partition: int) -> int:
        """The offset the next record will get; raises NotFoundError."""
        return len(self._topics.partition(topic, partition))

    async def stable_end(self, topic: str, partition: int) -> int:
        """Return the end: here nothing is written in transactions of others."""
        return await self.end(topic, partition)

    async def member(self, topic: str, group: str, name: str, types: frozenset[str] | None = None) -> GroupMember:
        """Join; an older member of the same name is out at once."""
        ticket = self._groups.join(topic, group, name)
        return GroupMember(self._groups, ticket, self._clock, types)

    async def committed(self, topic: str, group: str) -> dict[int, int]:
        """The group's committed offset by partition; 0 where it has none."""
        known = self._groups.committed(topic, group)
        return {partition: known.get(partition, 0) for partition in range(len(self._topics.of(topic)))}

    async def close(self) -> None:
        """Nothing is held."""
