"""The results of a demo: how the runs of each flow ended, compared with what their kinds demand, and the audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from choreo.app.query.timeline import TimelineRow
from choreo.app.tracking.views import detail_of
from choreo.cli.demo.asking import asked
from choreo.cli.demo.plan import Demo, Placed
from choreo.ports.read_model import Filter, InstanceView
from choreo.wiring import App

_PAGE = 500


class Ending(msgspec.Struct):
    """How the runs of one kind ended."""

    kind: str
    expected: str
    orders: int
    ended: dict[str, int]

    @property
    def as_expected(self) -> bool:
        """Return whether each run ended as it must."""
        return self.ended == {self.expected: self.orders}


class FlowResult(msgspec.Struct):
    """The figures of one flow. The rate is completed runs a second until the last one; times are milliseconds."""

    placed: int
    completed: int
    compensated: int
    stuck: int
    dead_letters: int
    audit_ok: bool
    per_s: float
    p50_ms: float
    p99_ms: float
    outcomes: dict[str, int]
    """The number of keys by outcome, or by status where the flow has one outcome."""
    children: dict[str, dict[str, int]]
    """The number of child runs by flow and status."""


class FlowPlayed(msgspec.Struct):
    """One flow's result, with the data behind it."""

    flow: str
    unit: str
    books: str
    result: FlowResult
    endings: list[Ending]
    violations: list[str]
    shown: str
    """Key of one run, as an example to look at."""
    timeline: list[TimelineRow]
    """Of that run, if it is of the kind that the demo shows; else empty."""


class Played(msgspec.Struct):
    """All that was played, in the order of the demo's flows."""

    flows: list[FlowPlayed]

    @property
    def violations(self) -> list[str]:
        """Return the violations of all flows."""
        return [violation for played in self.flows for violation in played.violations]

    @property
    def result(self) -> dict[str, Any]:
        """Return the figures as one document.

        They are those of the first flow, under the name of its runs (`orders`, `trips`), the verdict on all flows, and
        the figures of each.
        """
        first, runs = self.flows[0].result, f"{self.flows[0].unit}s"
        return {
            runs: first.placed,
            "completed": first.completed,
            "compensated": first.compensated,
            "stuck": first.stuck,
            "dead_letters": first.dead_letters,
            "audit_ok": not self.violations,
            f"{runs}_per_s": first.per_s,
            "p50_ms": first.p50_ms,
            "p99_ms": first.p99_ms,
            "flows": {played.flow: played.result for played in self.flows},
        }


async def judge(app: App, demo: Demo, folder: Path, placed: Sequence[Placed]) -> FlowPlayed:
    """Compare the end of each run with its kind, and the books with all of them."""
    views, stuck = await _first_runs(app, demo.flow)
    by_key = {_key_of(app, demo, order): order for order in placed}
    statuses = {key: views[key].status if key in views else "lost" for key in by_key}
    outcomes = {key: _outcome(views[key]) if key in views else "lost" for key in by_key}
    endings = _endings(by_key, outcomes)
    violations = demo.audit(folder / "books", statuses)
    violations += [
        f"{e.orders} {demo.unit}s of kind {e.kind!r} must end {e.expected}, they ended {e.ended}"
        for e in endings
        if not e.as_expected
    ]
    completed = [view for view in views.values() if view.status == "completed"]
    took = sorted(view.changed_ms - view.started_ms for view in completed)
    first = min((view.started_ms for view in views.values()), default=0)
    last = max((view.changed_ms for view in completed), default=0)
    result = FlowResult(
        placed=len(placed),
        completed=len(completed),
        compensated=sum(status == "compensated" for status in statuses.values()),
        stuck=stuck,
        dead_letters=await asked(app, partial(app.queries.dead_letter_count, demo.flow)),
        audit_ok=not violations,
        per_s=round(len(completed) * 1_000 / max(1, last - first), 1),
        p50_ms=_percentile(took, 50),
        p99_ms=_percentile(took, 99),
        outcomes=dict(Counter(outcomes.values()).most_common()),
        children={name: await _closed(app, name) for name in app.flows[demo.flow].child_flows},
    )
    shown = next((key for key, o in by_key.items() if o.kind.name == demo.shows and o.kind.ends == outcomes[key]), "")
    timeline = await asked(app, partial(app.queries.timeline, demo.flow, shown)) if shown else []
    example = shown or next(iter(by_key))
    return FlowPlayed(demo.flow, demo.unit, demo.books, result, endings, violations, example, timeline)


async def _first_runs(app: App, flow: str) -> tuple[dict[str, InstanceView], int]:
    """Return the first run of each key, and the number of stuck runs."""
    views: dict[str, InstanceView] = {}
    stuck, cursor = 0, ""
    while True:
        page = await asked(app, partial(app.queries.instances, Filter(flow=flow), _PAGE, cursor))
        for view in page.items:
            views[view.key] = view  # newest first: the last one stored is the key's first run
            stuck += view.status == "stuck"
        cursor = page.cursor
        if not cursor:
            return views, stuck


async def _closed(app: App, flow: str) -> dict[str, int]:
    counts = await asked(app, partial(app.queries.counts, flow))
    return {status: number for status, number in counts.items() if number}


def _outcome(view: InstanceView) -> str:
    """Return the name of the outcome of a run that has completed, else its status."""
    return (detail_of(view).outcome if view.status == "completed" else "") or view.status


def _endings(by_key: Mapping[str, Placed], outcomes: Mapping[str, str]) -> list[Ending]:
    endings: dict[str, Ending] = {}
    ended: dict[str, Counter[str]] = {}
    for key, order in by_key.items():
        ending = endings.setdefault(order.kind.name, Ending(order.kind.name, order.kind.ends, 0, {}))
        ending.orders += 1
        ended.setdefault(order.kind.name, Counter())[outcomes[key]] += 1
    for name, ending in endings.items():
        ending.ended = dict(ended[name])
    return list(endings.values())


def _key_of(app: App, demo: Demo, order: Placed) -> str:
    value: Any = getattr(order.event, app.definitions[demo.flow].key)
    return str(value)


def _percentile(values: Sequence[float], percent: int) -> float:
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else 0.0
