"""Questions that a member of a group asks about its topic, through other clients than the one it reads with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from choreo.adapters.kafka.cuts import Cuts
from choreo.adapters.kafka.log_clock import LogTime
from choreo.adapters.kafka.origin import Origin, OriginWatch
from choreo.ports.dependencies import Dependencies
from choreo.ports.log import Gained

Ends = Callable[[Collection[int]], Awaitable[Mapping[int, int]]]
"""Returns where these partitions end."""


class Lookups(NamedTuple):
    """Each asks the cluster; raises StorageError while it does not answer."""

    ends: Ends
    stable_ends: Ends
    """Up to where partitions can be read: an open transaction of another producer lies between this and the end."""
    stamp: Callable[[int, int], Awaitable[int]]
    """Returns the stamp that the record at this partition and offset is given."""
    probe: Callable[[str, Mapping[int, int]], Awaitable[None]]
    """Asks for a group's offsets and reads at one of these places; raises StorageError where that is refused."""
    log_time: LogTime
    origin: Origin
    """What the topic was when the member joined."""
    watch: OriginWatch
    """Whether it still is."""
    dependencies: Dependencies
    """Hears of what does not pass by itself."""
    cuts: Cuts
    """What the group has missed."""

    async def to_the_end(self, gained: Sequence[Gained]) -> list[Gained]:
        """Return these with the ends of the log, for a consumer knows stable ends only.

        What stands behind an open transaction is to be read as well before a partition is worked. Raises
        ReplacedLogError where the topic is another log than the member joined: nothing of it is to be read.
        """
        await self.watch.look()
        ends = await self.ends([one.partition for one in gained])
        return [replace(one, end=max(one.end, ends[one.partition])) for one in gained]
