"""Requests of a group's member about its topic, through other clients than its consumer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from choreo.adapters.kafka.cluster.log_identity import Origin, OriginWatch
from choreo.adapters.kafka.groups.static_membership import StaticMembership
from choreo.adapters.kafka.groups.truncation import Truncation
from choreo.adapters.log_clock import LogTime
from choreo.ports.dependencies import Dependencies
from choreo.ports.log import Assigned

Ends = Callable[[Collection[int]], Awaitable[Mapping[int, int]]]
"""Returns where these partitions end."""


class Lookups(NamedTuple):
    """Each asks the cluster; raises StorageError while it does not answer."""

    ends: Ends
    stable_ends: Ends
    """Returns the offsets up to which partitions can be read: an open transaction lies between this and the end."""
    stamp: Callable[[int, int], Awaitable[int]]
    """Returns the log's time of the record at this partition and offset."""
    probe: Callable[[str, Mapping[int, int]], Awaitable[None]]
    """Requests a group's offsets and reads at one of these places; raises StorageError where that is refused."""
    log_time: LogTime
    origin: Origin
    """The topic's identity when the member joined."""
    watch: OriginWatch
    """Checks that the topic still has this identity."""
    dependencies: Dependencies
    """Takes reports of conditions that do not pass by themselves."""
    cuts: Truncation
    """The records that the group has missed."""
    static: StaticMembership
    """This process's use of its instance in the group."""

    async def to_the_end(self, assigned: Sequence[Assigned]) -> list[Assigned]:
        """Return these partitions with the ends of the log; a consumer has stable ends only.

        Records behind an open transaction are read as well before a partition is worked. Raises ReplacedLogError,
        before any read, where the topic is another log than the member joined.
        """
        await self.watch.look()
        ends = await self.ends([one.partition for one in assigned])
        return [replace(one, end=max(one.end, ends[one.partition])) for one in assigned]
