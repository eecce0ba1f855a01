"""Consumer groups for people: members, owners of partitions, lag with the time it will take, changes over time.

Every answer is also an observation: the memory of the process makes rates and changes of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from choreo.app.query.flows import Flows
from choreo.app.query.group_memory import GroupChange, GroupMemory, SeenGroup
from choreo.core.errors import NotFoundError
from choreo.core.wording import did_you_mean
from choreo.ports.clock import Clock
from choreo.ports.log import BRIDGE_GROUP, TRACKER_GROUP, GroupMember, Log, service_group


class GroupPartition(msgspec.Struct, frozen=True):
    """A group in one partition. Rates are records a second."""

    partition: int
    owner: str
    """Name of the member that owns it; "" if none does."""
    host: str
    client: str
    committed: int
    end: int
    lag: int
    rate: float | None
    """Records that the group finishes, in the last minute; None: not known yet."""
    arrivals: float | None
    eta_s: float | None
    """Until the lag is gone at the present rates; None where it does not go, or is not known."""
    progress_ms: int
    """When its offset was last seen to move; 0: not since `Group.since_ms`."""


class Group(msgspec.Struct, frozen=True):
    """A consumer group on the log of a flow."""

    flow: str
    name: str
    members: Sequence[GroupMember]
    partitions: Sequence[GroupPartition]
    changes: Sequence[GroupChange]
    """Changes that this process has seen in the last five minutes, oldest first."""
    contested: Sequence[str]
    """Instances of static members that were taken over again and again: processes share them, or one restarts."""
    changed: int
    """All changes that this process has seen: it only grows, for a counter."""
    since_ms: int
    """When this process began to observe the group."""
    as_of_ms: int

    @property
    def lag(self) -> int:
        """Return the records that the group has not finished."""
        return sum(each.lag for each in self.partitions)

    @property
    def unowned(self) -> list[int]:
        """Return the partitions without an owner."""
        return [each.partition for each in self.partitions if not each.owner]

    @property
    def eta_s(self) -> float | None:
        """Return the seconds until the slowest partition has no lag; None if one of them is not known."""
        etas = [each.eta_s for each in self.partitions]
        known = [eta for eta in etas if eta is not None]
        return max(known, default=0.0) if len(known) == len(etas) else None

    @property
    def progress_ms(self) -> int:
        """Return when an offset of the group was last seen to move; 0: not since `since_ms`."""
        return max((each.progress_ms for each in self.partitions), default=0)


class Groups:
    """Reads groups. Methods raise NotFoundError on an unknown flow, StorageError where the log does not answer."""

    def __init__(
        self, flows: Flows, log: Log, clock: Clock, memory: GroupMemory | None = None, build: str = ""
    ) -> None:
        """Keep the parts; `memory` is the process's, and `build` that of the services whose groups are read."""
        self._build = build
        self._flows = flows
        self._log = log
        self._clock = clock
        self._memory = memory or GroupMemory()

    def names(self, flow: str) -> list[str]:
        """Return the names of the groups on a flow's log: the tracker, its services, the bridge if it reads there."""
        whole = self._flows.definition(flow)
        services = {step.service for definition in (whole, *whole.frozen) for step in definition.steps}
        groups = [service_group(service, self._build) for service in sorted(services)]
        return [TRACKER_GROUP, *groups, *([BRIDGE_GROUP] if whole.crosses else [])]

    async def groups(self, flow: str) -> list[Group]:
        """Return every group of a flow."""
        ends = await self._ends(flow)
        return [await self._group(flow, name, ends) for name in self.names(flow)]

    async def group(self, flow: str, name: str) -> Group:
        """Return one group of a flow; raises NotFoundError."""
        self.require(flow, name)
        return await self._group(flow, name, await self._ends(flow))

    def require(self, flow: str, name: str) -> None:
        """Raise NotFoundError unless the flow has this group."""
        known = self.names(flow)
        if name not in known:
            raise NotFoundError(
                f"there is no group {name!r}",
                where=f"flow {flow}",
                remedy=f"{did_you_mean(name, known)}Its groups are: {', '.join(known)}.",
            )

    def seen(self, flow: str, name: str) -> SeenGroup:
        """Return the memory of a group."""
        return self._memory.seen(flow, name, self._clock.now_ms())

    async def _ends(self, flow: str) -> dict[int, int]:
        """Return the offsets up to which records can be read: those behind an open transaction are no lag."""
        numbers = range(await self._log.partitions(flow))
        return {number: await self._log.stable_end(flow, number) for number in numbers}

    async def _group(self, flow: str, name: str, ends: dict[int, int]) -> Group:
        committed, members = await asyncio.gather(self._log.committed(flow, name), self._log.members(flow, name))
        now_ms = self._clock.now_ms()
        seen = self._memory.seen(flow, name, now_ms)
        seen.add(now_ms, members, committed, ends)
        owners = {number: member for member in members for number in member.partitions}
        partitions = [
            _partition(number, owners.get(number), committed.get(number, 0), end, seen) for number, end in ends.items()
        ]
        return Group(
            flow,
            name,
            members,
            partitions,
            seen.recent(now_ms),
            [*seen.contested(now_ms)],
            seen.changed,
            seen.since_ms,
            now_ms,
        )


def _partition(number: int, owner: GroupMember | None, committed: int, end: int, seen: SeenGroup) -> GroupPartition:
    lag, progress = max(0, end - committed), seen.progress(number)
    return GroupPartition(
        number,
        owner.name if owner else "",
        owner.host if owner else "",
        owner.client if owner else "",
        committed,
        end,
        lag,
        progress.rate,
        progress.arrivals,
        progress.eta_s(lag),
        progress.moved_ms,
    )
