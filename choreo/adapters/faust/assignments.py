"""The partitions that a session was assigned: how far each is delivered, acknowledged and committed.

An offset may be committed only when the changelog writes and the published facts up to it are acknowledged: that offset
is `safe`. Knows neither Faust nor Kafka.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from choreo.core.errors import LeaseLostError, SkippedError
from choreo.ports.log import Assigned, Log


class Assignment(msgspec.Struct):
    """One partition since it was assigned. Offsets are those of the next record."""

    assigned: Assigned
    delivered: int
    """All records before it were returned by a poll."""
    safe: int
    """All that follows from the records before it is acknowledged."""
    committed: int
    is_revoked: bool = False


class Assignments:
    """All partitions of a session; the poller learns of changes when it takes them."""

    def __init__(self) -> None:
        self._current: dict[int, Assignment] = {}
        self._known: dict[int, Assignment] = {}
        """The assignments as the poller knows them; some may be revoked meanwhile."""
        self._changed: dict[int, set[str]] = {}
        """Of every partition that the poller has known: the keys restored since."""
        self._passed: dict[int, int] = {}

    def assign(self, assigned: Iterable[Assigned], committed: Mapping[int, int]) -> None:
        """Replace all assignments by these."""
        self.revoke()
        for each in assigned:
            number = each.partition
            self._current[number] = Assignment(each, each.committed, each.committed, committed.get(number, 0))

    def revoke(self) -> None:
        """End all assignments. Work under way may still end, and moves no offset."""
        for assignment in self._current.values():
            assignment.is_revoked = True
        self._current = {}
        self._passed = {}

    def restored(self, partition: int, keys: Iterable[bytes]) -> None:
        """Note that states of these keys were restored into the local copy."""
        changed = self._changed.get(partition)
        if changed is not None:
            changed.update(key.decode() for key in keys)

    @property
    def has_news(self) -> bool:
        """Return whether the poller does not know all changes."""
        return any(self._known.get(number) is not each for number, each in self._current.items()) or any(
            each.is_revoked for each in self._known.values()
        )

    def take_news(self) -> tuple[list[Assigned], list[int]]:
        """Return the assigned and the revoked partitions of which the poller does not know yet."""
        lost = [number for number, each in self._known.items() if each.is_revoked]
        for number in lost:
            del self._known[number]
        assigned = []
        for number, each in sorted(self._current.items()):
            if number not in self._known:
                self._known[number] = each
                changed = sorted(self._changed[number]) if number in self._changed else None
                self._changed[number] = set()
                assigned.append(msgspec.structs.replace(each.assigned, changed=changed))
        return assigned, lost

    def polled(self) -> Mapping[int, Assignment]:
        """Return the assignments that the poller knows and that are not revoked."""
        return {number: each for number, each in self._known.items() if not each.is_revoked}

    def require(self, partitions: Collection[int]) -> None:
        """Raise LeaseLostError unless all of these are the poller's."""
        lost = sorted(set(partitions) - self.polled().keys())
        if lost:
            raise LeaseLostError(
                f"partitions {lost} were revoked before their states were written",
                where="the tracker's group",
                remedy="The new owner reads these records again.",
            )

    def mark(self) -> Callable[[Mapping[int, int]], None]:
        """Return a function that notes, for the assignments of now, that all before some offsets is acknowledged."""
        assignments = self.polled()

        def acknowledged(done: Mapping[int, int]) -> None:
            for number, assignment in assignments.items():
                assignment.safe = max(assignment.safe, done.get(number, 0))

        return acknowledged

    async def check_progress(self, before: Mapping[int, int], log: Log, topic: str) -> dict[int, int]:
        """Return the delivered offsets, to be passed to the next check. Raises SkippedError if none has moved.

        Raises it only where records stand in the log. Also passes over entries that are no records, such as the markers
        of a foreign transaction: they are no lag.
        """
        delivered = {number: each.delivered for number, each in self.polled().items()}
        still = [(number, each) for number, each in self.polled().items() if before.get(number) == delivered[number]]
        ends = await asyncio.gather(*(log.stable_end(topic, number) for number, _ in still))
        for (number, each), stable in zip(still, ends, strict=True):
            offset = delivered[number]
            if stable <= offset or each.delivered != offset:
                continue
            if not await log.read(topic, number, offset, 1):
                if each.delivered == offset and not each.is_revoked:
                    each.delivered = self._passed[number] = stable
            elif delivered == before:
                raise SkippedError(
                    f"nothing was delivered from offset {offset} on, where records stand",
                    where=f"topic {topic}, partition {number}",
                    remedy="Nothing: a new consumer is opened.",
                )
        return delivered

    def take_passed(self) -> dict[int, int]:
        """Return the partitions in which entries were passed over, with the next offset to read."""
        passed, self._passed = self._passed, {}
        return {number: offset for number, offset in passed.items() if number in self.polled()}

    def end_of(self, partition: int) -> int | None:
        """Return the log's end when the partition was assigned; None: it is not."""
        assignment = self._current.get(partition)
        return assignment.assigned.end if assignment else None

    def to_commit(self) -> dict[int, int]:
        """Return the safe offset of each partition where it has moved since it was committed."""
        return {number: each.safe for number, each in self._current.items() if each.safe != each.committed}

    def committed(self, offsets: Mapping[int, int]) -> None:
        """Note that these offsets are committed."""
        for number, offset in offsets.items():
            if number in self._current:
                self._current[number].committed = offset


def first_jump(expected: int, offsets: Sequence[int]) -> int | None:
    """Return the first offset from `expected` on that is left out; None if none is."""
    for offset in offsets:
        if offset > expected:
            return expected
        expected = max(expected, offset + 1)
    return None
