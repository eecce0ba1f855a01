"""Numbers of one flow for `/metrics`: of its open runs, timers, groups and read model.

They are gathered when they are asked for, and nothing is counted for an event: each number comes from an indexed,
bounded read, and is kept for some seconds.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from choreo.app.query.open_steps import EXPECTED, OPEN, open_steps
from choreo.app.query.queries import Queries
from choreo.app.tracking.views import Detail, detail_of
from choreo.core.state import COMPENSATED, COMPENSATING, UNSETTLED
from choreo.ports.read_model import Filter

KEPT_MS = 10_000
"""A scrape is every 15 or 30 s: two servers that scrape, or a person's reload, cost one read."""
OPEN_READ = 500
"""Open runs of one status that are looked at for effects, the newest: 500 details are decoded within some 10 ms."""
ENDED_READ = 100
"""Compensated runs that are looked at for effects that stand, the newest."""
IN_DOUBT = "in_doubt"


class Number(NamedTuple):
    """A number of the catalogue with its labels."""

    name: str
    labels: Mapping[str, str]
    value: float


class Gauges:
    """Reads the numbers of flows; remembers them for `KEPT_MS`."""

    def __init__(self, queries: Queries) -> None:
        """Keep the use cases; nothing is read yet."""
        self._queries = queries
        self._known: dict[str, tuple[int, list[Number]]] = {}

    async def of(self, flow: str) -> list[Number]:
        """Return the numbers of a flow. Raises NotFoundError, StorageError."""
        now_ms = self._queries.now_ms
        known = self._known.get(flow)
        if known is not None and abs(now_ms - known[0]) < KEPT_MS:
            return known[1]
        parts = await asyncio.gather(self._runs(flow), self._times(flow), self._groups(flow))
        numbers = [number for part in parts for number in part]
        self._known[flow] = now_ms, numbers
        return numbers

    async def _runs(self, flow: str) -> list[Number]:
        """Count places and effects of open runs, and effects that stand though their run was compensated."""
        counts = await self._queries.counts(flow)
        effects: Counter[tuple[str, str]] = Counter()
        unserved: Counter[str] = Counter()
        for status in OPEN:
            if counts.get(status, 0):
                page = await self._queries.instances(Filter(flow, status), OPEN_READ)
                for row in page.items:
                    detail = detail_of(row)
                    effects.update(_effects(detail))
                    unserved.update([str(detail.version)] if self._queries.unserved(flow, detail.version) else [])
        stand = await open_steps(self._queries, self._queries.flows.definition(flow))
        expected = {step: does[EXPECTED] for step, does in stand.items() if EXPECTED in does}
        numbers = [Number("expected_steps", {"flow": flow, "step": step}, n) for step, n in expected.items()]
        numbers += [
            Number("effects", {"flow": flow, "step": step, "state": state}, n) for (step, state), n in effects.items()
        ]
        numbers += [
            Number("runs_without_worker", {"flow": flow, "version": version}, n) for version, n in unserved.items()
        ]
        return [*numbers, Number("runs_unbalanced", {"flow": flow}, await self._unbalanced(flow))]

    async def _unbalanced(self, flow: str) -> int:
        page = await self._queries.instances(Filter(flow, COMPENSATED), ENDED_READ)
        details = (detail_of(row) for row in page.items)
        stand = (any(effect.state in UNSETTLED for effect in detail.ledger) for detail in details if detail.ended_ms)
        return sum(stand)

    async def _times(self, flow: str) -> list[Number]:
        """Return ages of steps and waits, timers that are overdue, and how far the read model lags."""
        ages, overdue, shown = await asyncio.gather(
            self._queries.oldest_ages(flow), self._queries.overdue(flow), self._queries.freshness(flow)
        )
        of_flow = {"flow": flow}
        numbers = [
            Number("expected_oldest_age_seconds", {"flow": flow, "step": place}, max(0, age_ms) / 1_000)
            for place, age_ms in ages.items()
        ]
        late_ms = max((run.late_ms for run in overdue), default=0)
        return [
            *numbers,
            Number("timers_overdue", of_flow, len(overdue)),
            Number("timer_oldest_overdue_seconds", of_flow, late_ms / 1_000),
            Number("read_model_lag_seconds", of_flow, shown.behind_ms / 1_000),
        ]

    async def _groups(self, flow: str) -> list[Number]:
        numbers: list[Number] = []
        for group in await self._queries.groups(flow):
            labels = {"flow": flow, "group": group.name}
            moved_ms = group.progress_ms or group.since_ms
            numbers += [
                Number("group_members", labels, len(group.members)),
                Number("group_changes", labels, len(group.changes)),
                Number("group_last_progress_timestamp_seconds", labels, moved_ms / 1_000),
            ]
        return numbers


def _effects(detail: Detail) -> Iterator[tuple[str, str]]:
    """Yield step and state of each effect; one in doubt counts as such, too."""
    for effect in detail.ledger:
        yield effect.step, effect.state
        if effect.in_doubt and effect.state in UNSETTLED and detail.status != COMPENSATING:
            yield effect.step, IN_DOUBT
