"""Memory of consumer groups over time: changes of their members, and how far each partition got.

Pure and bounded: it is given observations with their time. Knows no log, no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from choreo.ports.log import GroupMember

WINDOW_MS = 300_000
"""Changes are counted over five minutes: a planned restart is over by then, a loop has gone round several times."""
CHANGES_KEPT = 50
RATE_MS = 60_000
"""Rates are those of the last minute: shorter ones jump with every batch."""
SAMPLE_MS = 1_000
SAMPLES_KEPT = 64
TAKEOVERS_MIN = 3
GROUPS_KEPT = 2_000
"""Some 20 KB each at most; the one observed longest ago is forgotten."""


class GroupChange(msgspec.Struct, frozen=True):
    """A change of a group's members or of the owners of its partitions, between two observations."""

    at_ms: int
    joined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    moved: tuple[int, ...] = ()
    """Partitions that another member owns since."""


class Progress(msgspec.Struct, frozen=True):
    """The progress of a group in one partition. Rates are records a second; None: they are not known yet."""

    moved_ms: int = 0
    """When its offset was last seen to move; 0: not since the first observation."""
    rate: float | None = None
    """Records that the group finishes."""
    arrivals: float | None = None
    """Records that come."""

    def eta_s(self, lag: int) -> float | None:
        """Return the seconds until the lag is gone at the present rates; None where it never is, or is not known."""
        if not lag:
            return 0.0
        if self.rate is None or self.arrivals is None or self.rate <= self.arrivals:
            return None
        return lag / (self.rate - self.arrivals)


class _Partition:
    """Samples of one partition: time, committed offset, end."""

    def __init__(self, now_ms: int, committed: int, end: int) -> None:
        self.moved_ms = 0
        self.samples = deque([(now_ms, committed, end)], SAMPLES_KEPT)

    def add(self, now_ms: int, committed: int, end: int) -> None:
        before = self.samples[-1][1]
        if committed != before:
            self.moved_ms = now_ms
        if committed < before:  # set back by hand, or another log
            self.samples.clear()
        elif len(self.samples) > 1 and now_ms - self.samples[-2][0] < SAMPLE_MS:
            self.samples.pop()  # asked more often than that: the newer one takes its place
        self.samples.append((now_ms, committed, end))

    def progress(self) -> Progress:
        last_ms, committed, end = self.samples[-1]
        first_ms, begun, first_end = next(each for each in self.samples if each[0] >= last_ms - RATE_MS)
        span_s = (last_ms - first_ms) / 1_000
        if span_s <= 0:
            return Progress(self.moved_ms)
        return Progress(self.moved_ms, (committed - begun) / span_s, max(0.0, (end - first_end) / span_s))


class SeenGroup:
    """The observations of one group."""

    def __init__(self, now_ms: int) -> None:
        """Begin at this time, without an observation."""
        self.since_ms: int = now_ms
        self.changes: deque[GroupChange] = deque(maxlen=CHANGES_KEPT)
        self.changed: int = 0
        """All changes that were seen, also those that are forgotten."""
        self._members: dict[str, GroupMember] | None = None
        self._owners: dict[int, str] = {}
        self._partitions: dict[int, _Partition] = {}
        self._instances: dict[str, str] = {}
        self._takeovers: dict[str, deque[int]] = {}

    def add(
        self, now_ms: int, members: Sequence[GroupMember], committed: Mapping[int, int], ends: Mapping[int, int]
    ) -> None:
        """Take an observation."""
        found = {member.id or member.name: member for member in members}
        owners = {number: id_ for id_, member in found.items() for number in member.partitions}
        known = self._members
        if known is not None:
            moved = tuple(sorted(n for n, id_ in owners.items() if self._owners.get(n, id_) != id_))
            joined = tuple(sorted(member.name for id_, member in found.items() if id_ not in known))
            left = tuple(sorted(member.name for id_, member in known.items() if id_ not in found))
            if moved or joined or left:
                self.changes.append(GroupChange(now_ms, joined, left, moved))
                self.changed += 1
        self._members = found
        self._owners |= owners  # a partition without an owner for a moment has not moved
        self._note_takeovers(now_ms, found)
        for number, end in ends.items():
            offset = committed.get(number, 0)
            if number in self._partitions:
                self._partitions[number].add(now_ms, offset, end)
            else:
                self._partitions[number] = _Partition(now_ms, offset, end)

    def progress(self, partition: int) -> Progress:
        """Return the progress in a partition."""
        known = self._partitions.get(partition)
        return known.progress() if known else Progress()

    def recent(self, now_ms: int) -> list[GroupChange]:
        """Return the changes of the last five minutes."""
        return [change for change in self.changes if change.at_ms > now_ms - WINDOW_MS]

    def contested(self, now_ms: int) -> dict[str, int]:
        """Return the instances that were taken over again and again in the last five minutes, with how often.

        A broker keeps the client's name and address of an instance's first member, so that the processes cannot be told
        apart: a process that restarts as often looks the same. One restart is one takeover.
        """
        times = {name: sum(at_ms > now_ms - WINDOW_MS for at_ms in taken) for name, taken in self._takeovers.items()}
        return {name: number for name, number in times.items() if number >= TAKEOVERS_MIN}

    def _note_takeovers(self, now_ms: int, found: Mapping[str, GroupMember]) -> None:
        """Note each instance whose member is another one than at the last look, without having been away."""
        ids = {member.name: id_ for id_, member in found.items() if member.name != member.client}
        for name, id_ in ids.items():
            if self._instances.get(name, id_) != id_:
                self._takeovers.setdefault(name, deque(maxlen=CHANGES_KEPT)).append(now_ms)
        self._instances = ids
        while len(self._takeovers) > CHANGES_KEPT:
            del self._takeovers[next(iter(self._takeovers))]


class GroupMemory:
    """The observations of one process, by flow and group."""

    def __init__(self) -> None:
        """Begin empty."""
        self._groups: dict[tuple[str, str], SeenGroup] = {}

    def seen(self, flow: str, group: str, now_ms: int) -> SeenGroup:
        """Return the memory of a group, which begins now if it is new."""
        known = self._groups.pop((flow, group), None) or SeenGroup(now_ms)
        self._groups[flow, group] = known
        while len(self._groups) > GROUPS_KEPT:
            del self._groups[next(iter(self._groups))]
        return known
