"""Detect records that were deleted before a group had read them, and report the ranges until an operator confirms.

A consumer whose offset is deleted goes on from the first existing record, without an error. Jumps in offsets are not
enough to detect this: markers of transactions and aborted records leave jumps too, so the log's first offset is
requested. The notes of the group's commits hold the ranges, so that the next owner of a partition reports them as
well.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from choreo.adapters.kafka.cluster.log_identity import read_note
from choreo.adapters.kafka.groups.thread import Found
from choreo.core.errors import NotFoundError, StorageError
from choreo.ports.dependencies import Dependencies

AGAIN_S = 1.0
"""Between two requests for first offsets: foreign transactions make a jump with each commit."""
_MISSING = " missing "
_log = logging.getLogger(__name__)
Begins = Callable[[Collection[int]], Awaitable[Mapping[int, int]]]


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

    def __init__(self, topic: str, group: str, begins: Begins, dependencies: Dependencies) -> None:
        """Begin without ranges. `begins` requests the first offsets of partitions; it may raise StorageError."""
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
