"""The place of each open run: its expected steps, its waits and its undos, counted and filtered by step.

Reads the newest open runs of the read model, within bounds: with more open runs the counts say of how many they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Protocol

import msgspec

from choreo.app.tracking.views import Detail, detail_of
from choreo.core.state import COMPENSATING, FAILED, PAUSED, REQUESTED, RUNNING, STUCK
from choreo.ports.read_model import Filter, InstanceView, Page

OPEN = (RUNNING, PAUSED, COMPENSATING, STUCK)
"""Statuses of runs that have not ended."""
READ_MAX = 500
"""Runs of one status that are read: 500 details are decoded within some 10 ms."""
READ_AT_ONCE = 100
READS_MAX = 10
"""Reads for one page of those at a step: a seldom step costs 1,000 runs, and no more, for a page."""

EXPECTED, WAITING, UNDOING, UNDO_FAILED = "expected", "waits", "being undone", "undo failed"


class Lists(Protocol):
    """The queries that this needs."""

    async def instances(self, wanted: Filter, limit: int, cursor: str = "") -> Page:
        """Return a page of runs, newest first."""
        ...

    async def counts(self, flow: str) -> dict[str, int]:
        """Return the number of runs by status."""
        ...


class OpenSteps(msgspec.Struct, frozen=True):
    """Open runs by step or wait, and by their activity there."""

    counts: Mapping[str, Mapping[str, int]]
    looked_at: int
    open: int

    @property
    def is_whole(self) -> bool:
        """Return whether every open run was looked at."""
        return self.looked_at >= self.open


def places(detail: Detail) -> Iterator[tuple[str, str]]:
    """Yield each place of a run: a step or a wait, and the run's activity there."""
    for step in {expected.step for expected in detail.expected}:
        yield step, EXPECTED
    for name in {wait.name for wait in detail.waits}:
        yield name, WAITING
    for effect in detail.ledger:
        if effect.state == REQUESTED:
            yield effect.step, UNDOING
        elif effect.state == FAILED:
            yield effect.step, UNDO_FAILED


async def open_steps(queries: Lists, flow: str) -> OpenSteps:
    """Count the open runs of a flow by place."""
    found: dict[str, Counter[str]] = {}
    looked_at, counts = 0, await queries.counts(flow)
    for status in OPEN:
        if counts.get(status, 0):
            page = await queries.instances(Filter(flow, status), READ_MAX)
            looked_at += len(page.items)
            for row in page.items:
                for place, does in places(detail_of(row)):
                    found.setdefault(place, Counter())[does] += 1
    return OpenSteps(found, looked_at, sum(counts.get(status, 0) for status in OPEN))


async def at_step(queries: Lists, wanted: Filter, step: str, limit: int, cursor: str = "") -> Page:
    """Return runs at a step, newest first: some `limit`; the list may still go on at the cursor of a short page."""
    found: list[InstanceView] = []
    for _ in range(READS_MAX):
        page = await queries.instances(wanted, READ_AT_ONCE, cursor)
        found += [row for row in page.items if step in dict(places(detail_of(row)))]
        cursor = page.cursor
        if not cursor or len(found) >= limit:
            break
    return Page(found, cursor)
