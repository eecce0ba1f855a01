"""The place of each open run: counts of the steps, waits and undos in which runs stand, and lists filtered by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from choreo.app.tracking.views import Detail, detail_of, failed_undo_of, undo_of
from choreo.core.definition import FlowDefinition
from choreo.core.state import COMPENSATING, FAILED, PAUSED, REQUESTED, RUNNING, STUCK
from choreo.ports.read_model import Filter, InstanceView, Page

OPEN = (RUNNING, PAUSED, COMPENSATING, STUCK)
"""Statuses of runs that have not ended."""
READ_AT_ONCE = 100
READS_MAX = 10
"""Reads for one page of those at a step: a seldom step costs 1,000 runs, and no more, for a page."""

EXPECTED, WAITING, UNDOING, UNDO_FAILED = "expected", "waits", "being undone", "undo failed"


class Lists(Protocol):
    """The queries that this needs."""

    async def instances(self, wanted: Filter, limit: int, cursor: str = "") -> Page:
        """Return a page of runs, newest first."""
        ...

    async def standing(self, flow: str, places: Sequence[str]) -> dict[str, int]:
        """Return the number of runs in each place."""
        ...


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


async def open_steps(queries: Lists, flow: FlowDefinition) -> dict[str, dict[str, int]]:
    """Return the number of open runs by step or wait, and by their activity there.

    A run is counted once: where it waits longest. Runs that are held are counted nowhere.
    """
    names = {step.name: (step.name, EXPECTED) for step in flow.steps}
    names |= {undo_of(step.name): (step.name, UNDOING) for step in flow.steps}
    names |= {failed_undo_of(step.name): (step.name, UNDO_FAILED) for step in flow.steps}
    names |= {wait.name: (wait.name, WAITING) for wait in flow.waits}
    found: dict[str, dict[str, int]] = {}
    for name, number in (await queries.standing(flow.name, list(names))).items():
        place, does = names[name]
        found.setdefault(place, {})[does] = number
    return found


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
