"""Runs that stand still: by the time in their present step against that step's usual time; orphans; overdue timers.

No declared deadline is needed: each step, wait and undo is measured by its own past.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from choreo.app.query.durations import Durations, Usual
from choreo.app.query.flows import Flows
from choreo.app.query.orphans import OrphanEvent, Orphans
from choreo.app.query.why.facts import work_ms
from choreo.app.tracking.views import detail_of, undo_of
from choreo.core.definition import StepDefinition, is_timer
from choreo.core.flow_table import FlowTable
from choreo.ports.clock import Clock
from choreo.ports.log import Log
from choreo.ports.read_model import InstanceView, Page, ReadModel

LEAST_MS = 30_000
"""A step that usually takes milliseconds is not called stalled before that time."""
GRACE_MS = 60_000
UNMEASURED_MS = 24 * 3_600_000
"""A wait without a measure: people answer within a day."""
LATE_MS = 5_000
"""A timer's fact is published within a second of its due time."""


class StalledRun(msgspec.Struct, frozen=True):
    """A run that stands longer in a step, wait or undo than runs usually do."""

    flow: str
    key: str
    run: str
    status: str
    partition: int
    place: str
    """The step; the wait by its name; or `undo STEP`."""
    since_ms: int
    age_ms: int
    limit_ms: int
    """The time after which it counts as stalled."""
    p99_ms: int
    """99 of 100 runs have left this place within that time; 0: not measured."""
    count: int
    """Durations behind the measure."""

    @property
    def ratio(self) -> float:
        """Return the age in limits: how far it is beyond its measure."""
        return self.age_ms / self.limit_ms


class DueRun(msgspec.Struct, frozen=True):
    """A run with its next due time."""

    flow: str
    key: str
    run: str
    status: str
    due_ms: int
    about: str
    late_ms: int
    """How long it has been due; 0: it is not."""


class DuePage(msgspec.Struct, frozen=True):
    """A page of runs by their next due time."""

    items: list[DueRun]
    cursor: str


class Stalled(msgspec.Struct, frozen=True):
    """Everything of a flow that stands still."""

    flow: str
    runs: list[StalledRun]
    """The one furthest beyond its measure first."""
    orphans: list[OrphanEvent]
    overdue: list[DueRun]
    as_of_ms: int


class Stalls:
    """Reads lists of runs that stand still. Methods raise NotFoundError on an unknown flow."""

    def __init__(self, flows: Flows, log: Log, read_model: ReadModel, clock: Clock) -> None:
        """Keep the parts; nothing is read yet."""
        self._flows = flows
        self._read_model = read_model
        self._clock = clock
        self._durations = Durations(log, clock)
        self._orphans = Orphans(log, read_model, clock)

    async def stalled(self, flow: str, limit: int) -> Stalled:
        """Return the runs that stand too long, at most `limit`, with orphans and overdue timers."""
        table = self._flows.table(flow)
        measured, orphans = await self._durations.of(table), await self._orphans.of(table)
        now_ms = self._clock.now_ms()
        found: list[StalledRun] = []
        for place, least_ms in places(table).items():
            usual = measured.get(place)
            limit_ms = max(LEAST_MS, usual.p99_ms) if usual else least_ms
            rows = await self._read_model.oldest(flow, place, limit, before_ms=now_ms - limit_ms)
            found += [_stalled(row, now_ms, limit_ms, usual) for row in rows]
        found.sort(key=lambda run: -run.ratio)
        overdue = await self._overdue(flow, limit, now_ms)
        return Stalled(flow, found[:limit], orphans, overdue, now_ms)

    async def held_up(self, flow: str, service: str, partition: int, limit: int) -> list[StalledRun]:
        """Return the runs that stand in a step or undo of this service in this partition, the longest first."""
        table = self._flows.table(flow)
        measured, now_ms = await self._durations.of(table), self._clock.now_ms()
        found: list[StalledRun] = []
        for step in _steps(table):
            if step.service == service:
                for place in (step.name, undo_of(step.name)):
                    rows = await self._read_model.oldest(flow, place, limit, partition=partition)
                    found += [_stalled(row, now_ms, LEAST_MS, measured.get(place)) for row in rows]
        return sorted(found, key=lambda run: run.since_ms)[:limit]

    async def timers(self, flow: str, limit: int, cursor: str = "") -> DuePage:
        """Return a page of runs by their next due time; raises NotFoundError on an invalid cursor."""
        self._flows.definition(flow)
        page: Page = await self._read_model.due(flow, limit, cursor)
        return DuePage([_due(row, self._clock.now_ms()) for row in page.items], page.cursor)

    async def oldest_ages(self, flow: str) -> dict[str, int]:
        """Return for each step, wait and undo the age of the run that stands there longest, in ms; for metrics."""
        now_ms, names = self._clock.now_ms(), list(places(self._flows.table(flow)))
        rows = await asyncio.gather(*(self._read_model.oldest(flow, name, 1) for name in names))
        return {name: now_ms - row[0].since_ms for name, row in zip(names, rows, strict=True) if row}

    async def overdue(self, flow: str, limit: int = 1_000) -> list[DueRun]:
        """Return runs with a due time that has passed and that no fact in the log has settled, at most `limit`."""
        self._flows.definition(flow)
        return await self._overdue(flow, limit, self._clock.now_ms())

    async def _overdue(self, flow: str, limit: int, now_ms: int) -> list[DueRun]:
        page = await self._read_model.due(flow, limit)
        return [_due(row, now_ms) for row in page.items if row.due_ms < now_ms - LATE_MS]


def places(table: FlowTable) -> dict[str, int]:
    """Return every step, wait and undo of a flow, with the time after which a run stands too long without a measure."""
    found: dict[str, int] = {}
    for step in _steps(table):
        found[step.name] = work_ms(step.timeout_ms, step.retry) + GRACE_MS
        if step.compensation:
            undo = step.compensation
            found[undo_of(step.name)] = work_ms(undo.timeout_ms, undo.retry) + GRACE_MS
    for each in (table, *table.versions.values()):
        found |= {wait.name: UNMEASURED_MS for wait in each.flow.waits if not is_timer(wait.name)}
    return found


def _steps(table: FlowTable) -> Iterable[StepDefinition]:
    """Return the steps of every version, each name once."""
    known = {step.name: step for each in (*table.versions.values(), table) for step in each.flow.steps}
    return known.values()


def _stalled(row: InstanceView, now_ms: int, limit_ms: int, usual: Usual | None) -> StalledRun:
    return StalledRun(
        row.flow,
        row.key,
        row.run,
        row.status,
        row.partition,
        row.place,
        row.since_ms,
        max(0, now_ms - row.since_ms),
        limit_ms,
        usual.p99_ms if usual else 0,
        usual.count if usual else 0,
    )


def _due(row: InstanceView, now_ms: int) -> DueRun:
    timers: Sequence[tuple[int, str]] = detail_of(row).timers
    about = next((about for due_ms, about in timers if due_ms == row.due_ms), "")
    return DueRun(row.flow, row.key, row.run, row.status, row.due_ms, about, max(0, now_ms - row.due_ms))
