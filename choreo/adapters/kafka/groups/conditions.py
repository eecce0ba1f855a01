"""Conditions of a group's member that it reports until they have passed, or an operator has decided.

`Truncation`: records were deleted before the group had read them. A consumer whose offset is deleted goes on from the
first existing record, without an error. Jumps in offsets are not enough to detect this: markers of transactions and
aborted records leave jumps too, so the log's first offset is requested. The notes of the group's commits hold the
ranges, so that the next owner of a partition reports them as well. `StallWatchdog`: a consumer is connected and gets
nothing of the records in the log. `StaticMembership`: two processes share one `group.instance.id`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from choreo.adapters.assignment import MemberId
from choreo.adapters.kafka.cluster.log_identity import read_note
from choreo.adapters.kafka.groups.thread import Found
from choreo.adapters.kafka.options import ENVIRONMENT
from choreo.core.backoff import Backoff
from choreo.core.errors import LeaseLostError, NotFoundError, StorageError
from choreo.ports.dependencies import Dependencies

AGAIN_S = 1.0
"""Between two requests for first offsets: foreign transactions make a jump with each commit."""
_MISSING = " missing "
_log = logging.getLogger(__name__)
ALONE_S = 30.0
"""A member that was not fenced for so long is alone: two that compete fence each other within a heartbeat."""
YIELD_FIRST_S, YIELD_MOST_S = 1.0, 10.0
"""The longest delays before the first and the later returns of a member that was fenced."""
Offsets = Callable[[Collection[int]], Awaitable[Mapping[int, int]]]
"""Returns one offset of each of these partitions; raises StorageError while the cluster does not answer."""
Places = Callable[[], tuple[Mapping[int, int], Collection[int]]]
"""Returns the next offset of each partition, and the partitions without fetched messages that wait."""
REMEDY = (
    "The consumer is replaced by a new one. If that does not help: see that every broker answers this process, above "
    "all the leaders of these partitions."
)


class Missing(NamedTuple):
    """A range of offsets that were deleted unread; `end` is exclusive."""

    first: int
    end: int


def with_missing(more: str, missing: Missing | None) -> str:
    """Return the rest of a note with this range added."""
    return f"{more}{_MISSING}{missing.first}-{missing.end}" if missing else more


def missing_in(more: str) -> tuple[str, Missing | None]:
    """Return the rest of a note without the range that was added to it, and the range."""
    head, mark, text = more.rpartition(_MISSING)
    first, dash, end = text.partition("-")
    if not (mark and dash and first.isdecimal() and end.isdecimal()):
        return more, None
    return head, Missing(int(first), int(end))


class Truncation:
    """The ranges that one group on one topic has missed in the partitions that this process has or had."""

    def __init__(self, topic: str, group: str, begins: Offsets, dependencies: Dependencies) -> None:
        """Begin without ranges. `begins` requests the first offsets of partitions."""
        self._topic = topic
        self._name = f"records of {topic} for {group}"
        self._begins = begins
        self._dependencies = dependencies
        self._missed: dict[int, Missing] = {}
        self._owned: set[int] = set()
        self._asking: asyncio.Task[None] | None = None
        self._asked_s = 0.0

    def of(self, partition: int) -> Missing | None:
        """Return the missing range to note beside the partition's offset, also after the partition was revoked."""
        return self._missed.get(partition)

    def assigned(self, found: Sequence[Found]) -> None:
        """Take over the ranges that earlier owners noted, and compare the group's offsets with the log."""
        for one in found:
            partition = one.assigned.partition
            self._owned.add(partition)
            self._missed.pop(partition, None)
            noted = missing_in(read_note(one.note)[1])[1] if one.note is not None else None
            if noted is not None:
                self._add(partition, noted)
            if one.position < one.assigned.committed:
                self._add(partition, Missing(one.position, one.assigned.committed))
        self._report()

    def revoked(self, partitions: Collection[int]) -> None:
        """Report these partitions no more: their next owner does."""
        self._owned.difference_update(partitions)
        self._report()

    def jumped(self, jumps: Mapping[int, tuple[int, int]]) -> None:
        """Check whether records are deleted in these jumps: between the offset due and the one that came."""
        if jumps and self._asking is None and time.monotonic() - self._asked_s >= AGAIN_S:
            self._asked_s = time.monotonic()
            self._asking = asyncio.create_task(self._ask(dict(jumps)))

    def _add(self, partition: int, missing: Missing) -> None:
        known = self._missed.get(partition, missing)
        self._missed[partition] = Missing(min(missing.first, known.first), max(missing.end, known.end))

    def _report(self) -> None:
        ranges = [
            f"offsets {missing.first} to {missing.end - 1} of partition {partition}"
            for partition, missing in sorted(self._missed.items())
            if partition in self._owned
        ]
        if not ranges:
            self._dependencies.clear(self._name)
            return
        self._dependencies.report(
            self._name,
            f"records were deleted before they were read: {', '.join(ranges)}",
            "Find what was not done (`choreo list`), start or cancel it. With every role stopped, `choreo topics adopt "
            f"{self._topic} --same-records` confirms that this is done.",
        )

    async def _ask(self, jumps: Mapping[int, tuple[int, int]]) -> None:
        try:
            begins = await self._begins(jumps)
        except (StorageError, NotFoundError) as error:
            _log.info("unknown whether records of %s are deleted: %s", self._topic, error)
        else:
            for partition, (expected, brought) in jumps.items():
                if begins[partition] > expected:
                    self._add(partition, Missing(expected, min(begins[partition], brought)))
                    self._report()
        finally:
            self._asking = None


class StallWatchdog:
    """The watchdog of one member. Make it on the loop that polls the member."""

    def __init__(
        self, member_id: MemberId, ends: Offsets, places: Places, look_s: float, dependencies: Dependencies
    ) -> None:
        """Begin to watch.

        `ends` are stable ends, for records behind an open transaction do not arrive.

        `look_s`: seconds between checks, and how long records may stand there while nothing at all is fetched.
        """
        self._member_id = member_id
        self._name = f"consumer of {member_id.topic} for {member_id.group}"
        self._ends = ends
        self._places = places
        self._look_s = look_s
        self._dependencies = dependencies
        self._found: dict[int, int] = {}
        self._polled = False
        self._looking = asyncio.create_task(self._look())

    def check(self) -> None:
        """Note a poll. Raises LeaseLostError where the member receives nothing, for a new client may work."""
        self._polled = True
        if self._found:
            places = ", ".join(f"offset {offset} of partition {number}" for number, offset in self._found.items())
            cause = f"records stand at {places}, and none has come for {self._look_s:g} s"
            self._dependencies.report(self._name, cause, REMEDY)
            raise LeaseLostError(cause, where=self._member_id.place, remedy=REMEDY)

    def close(self) -> None:
        """Stop the checks."""
        self._looking.cancel()

    async def _look(self) -> None:
        """Compare two checks.

        The report of an earlier member ends when this one receives records, or none stand there.
        """
        before: Mapping[int, int] = {}
        behind: dict[int, int] | None = {}
        while not self._found:
            await asyncio.sleep(self._look_s)
            polled, self._polled = self._polled, False
            places, empty = self._places()
            if behind and polled and places == before:
                self._found = {number: offset for number, offset in behind.items() if number in empty}
            gets_on = any(before.get(number, offset) < offset for number, offset in places.items())
            before, behind = places, await self._behind({number: places[number] for number in empty})
            if gets_on or (polled and places and behind == {}):
                self._dependencies.clear(self._name)

    async def _behind(self, places: Mapping[int, int]) -> dict[int, int] | None:
        """Return the offsets behind which records stand; None while the cluster does not answer."""
        if not places:
            return {}
        try:
            ends = await self._ends(places)
        except StorageError:  # reported by the member's own requests
            return None
        return {number: offset for number, offset in places.items() if offset < ends[number]}


class StaticMembership:
    """One process's use of its instance in one group, through all its members there.

    Two processes of one instance fence each other. If each came back at once, neither would be there long enough to
    do any work: so each delays its return, for longer each time, and the other works meanwhile.
    """

    def __init__(self, instance: str, topic: str, group: str, dependencies: Dependencies) -> None:
        """Do nothing where `instance` is empty: then the process shares it with nobody."""
        self._instance = instance
        self._name = f"instance of {group}"
        self._place = f"group {group!r} on topic {topic!r}"
        self._dependencies = dependencies
        self._backoff = Backoff(YIELD_FIRST_S, YIELD_MOST_S)
        self._return_s = 0.0
        self._alone_s = 0.0

    async def wait_to_join(self) -> None:
        """Wait until this process may join again after it was fenced."""
        await asyncio.sleep(max(0.0, self._return_s - time.monotonic()))
        self._alone_s = time.monotonic() + ALONE_S

    def put_out(self) -> None:
        """Report that another process has joined under this instance; again for the same member changes nothing."""
        if self._instance and time.monotonic() >= self._return_s:
            self._alone_s = 0.0
            # Half of the delay is random: else two processes that began together would stay in step.
            self._return_s = time.monotonic() + self._backoff.next_s() * random.uniform(0.5, 1.0)  # noqa: S311
            self._dependencies.report(
                self._name,
                f"{self._place}: another process has joined under the instance {self._instance!r}, and owns the "
                "partitions of this one",
                f"Stop one of them, or give each process a {ENVIRONMENT}GROUP_INSTANCE_ID of its own.",
            )

    def goes_on(self) -> None:
        """Clear the report once this process was alone long enough."""
        if self._alone_s and time.monotonic() >= self._alone_s:
            self._alone_s = 0.0
            self._backoff.reset()
            self._dependencies.clear(self._name)
