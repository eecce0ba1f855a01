"""Records that were deleted before a group had read them: seen by a member, reported for as long as the process lives.

A consumer whose position is gone goes on from the first record there is, and says nothing. Jumps in offsets are not
enough to tell: marks of transactions and aborted records leave some too, so the log's first offset is asked for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from choreo.adapters.kafka.subscription import Found
from choreo.core.errors import NotFoundError, StorageError
from choreo.ports.dependencies import Dependencies

AGAIN_S = 1.0
"""Between two questions for first offsets: foreign transactions make a jump with each commit."""
_log = logging.getLogger(__name__)
Begins = Callable[[Collection[int]], Awaitable[Mapping[int, int]]]


class Cuts:
    """What one group on one topic has missed, as far as this process knows."""

    def __init__(self, topic: str, group: str, begins: Begins, dependencies: Dependencies) -> None:
        """`begins` asks for the first offsets of partitions; it may raise StorageError."""
        self._topic = topic
        self._group = group
        self._begins = begins
        self._dependencies = dependencies
        self._missed: dict[int, tuple[int, int]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._asked_s = 0.0

    def gained(self, found: Sequence[Found]) -> None:
        """These partitions were given: see whether the group's positions are gone."""
        for one in found:
            if one.position < one.gained.committed:
                self.missed(one.gained.partition, one.position, one.gained.committed)

    def missed(self, partition: int, first: int, end: int) -> None:
        """Report that the records from `first` up to, not including, `end` are gone, and were not read."""
        known = self._missed.get(partition)
        self._missed[partition] = (min(first, known[0]), max(end, known[1])) if known else (first, end)
        ranges = ", ".join(f"offsets {a} to {b - 1} of partition {p}" for p, (a, b) in sorted(self._missed.items()))
        self._dependencies.report(
            f"records of {self._topic} for {self._group}",
            f"records were deleted before they were read: {ranges}",
            "Find what was not done (`choreo list`), start or cancel it; a restart of the process ends this report.",
        )

    def jumped(self, jumps: Mapping[int, tuple[int, int]]) -> None:
        """Between these offsets of partitions nothing was brought: see whether records are gone."""
        if jumps and self._asking is None and time.monotonic() - self._asked_s >= AGAIN_S:
            self._asked_s = time.monotonic()
            self._asking = asyncio.create_task(self._ask(dict(jumps)))

    async def _ask(self, jumps: Mapping[int, tuple[int, int]]) -> None:
        try:
            begins = await self._begins(jumps)
        except (StorageError, NotFoundError) as error:
            _log.info("unknown whether records of %s are gone: %s", self._topic, error)
        else:
            for partition, (expected, brought) in jumps.items():
                if begins[partition] > expected:
                    self.missed(partition, expected, min(begins[partition], brought))
        finally:
            self._asking = None
