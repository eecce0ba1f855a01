"""The log port over `Topics` and `MemoryGroups`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from choreo.adapters.consumer import GroupConsumer, admitted
from choreo.adapters.errors import admit
from choreo.adapters.memory.consumer_groups import MemoryGroups
from choreo.adapters.memory.topics import Topics
from choreo.core.events import Envelope, Position, Record
from choreo.ports.clock import Clock
from choreo.ports.log import Admits, GroupMember


class MemoryLog:
    """`choreo.ports.log.Log` in memory."""

    def __init__(self, topics: Topics, groups: MemoryGroups, clock: Clock) -> None:
        self._topics = topics
        self._groups = groups
        self._clock = clock
        self.bound = 0
        """Largest size of an event, as on a transport that has a bound."""

    @property
    def topics(self) -> Topics:
        """Return the records, for tests that place a record where no producer would."""
        return self._topics

    async def create(self, topic: str, partitions: int) -> None:
        """Create the topic unless it exists; raises SettingsError if it exists with another partition count."""
        self._topics.create(topic, partitions)

    async def partitions(self, topic: str) -> int:
        """Return the number of the topic's partitions; raises NotFoundError."""
        return len(self._topics.of(topic))

    async def bytes_max(self, topic: str) -> int:  # noqa: ARG002 - it is the same for all
        """Return the largest size of an event: `bound`."""
        return self.bound

    async def append(self, topic: str, events: Sequence[Envelope]) -> list[Position]:
        """Publish; raises ConflictError on an event without a key, and then none is published."""
        admit(topic, events)
        await asyncio.sleep(0)  # as a durable log does: a caller that appends in a loop lets other tasks run
        return self._topics.append(topic, events)

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return at most `limit` records from `offset` on; raises NotFoundError on an unknown topic or partition."""
        return self._topics.partition(topic, partition)[max(0, offset) : max(0, offset) + limit]

    async def scan(
        self,
        topic: str,
        partition: int,
        offset: int,
        limit: int,
        types: frozenset[str],
        admits: Admits | None = None,
    ) -> tuple[Sequence[Record], int]:
        """Return the admitted records of these types among the next `limit`, and the offset to continue from."""
        return admitted(*self._groups.scan(topic, partition, offset, limit, types), admits)

    async def end(self, topic: str, partition: int) -> int:
        """Return the offset of the next record; raises NotFoundError."""
        return len(self._topics.partition(topic, partition))

    async def stable_end(self, topic: str, partition: int) -> int:
        """Return the end: there are no open transactions of others in this log."""
        return await self.end(topic, partition)

    async def consumer(self, topic: str, group: str, name: str, types: frozenset[str] | None = None) -> GroupConsumer:
        """Join the group; an older member of the same name leaves it at once."""
        member_id = self._groups.join(topic, group, name)
        return GroupConsumer(self._groups, member_id, self._clock, types)

    async def committed(self, topic: str, group: str) -> dict[int, int]:
        """Return the group's committed offset by partition; 0 where it has none."""
        known = self._groups.committed(topic, group)
        return {partition: known.get(partition, 0) for partition in range(len(self._topics.of(topic)))}

    async def members(self, topic: str, group: str) -> list[GroupMember]:
        """Return the group's live members; raises NotFoundError on an unknown topic."""
        self._topics.of(topic)
        return self._groups.members(topic, group)

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""
