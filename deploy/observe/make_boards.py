"""Write the Grafana boards in boards/ from the catalogue of metrics: `python deploy/observe/make_boards.py`.

A board is a list of metrics. Expression, unit, title and description of a panel follow from the metric's entry, so that
a new one needs a line here, and nothing else. Ids and order are stable: a change of one panel is a small difference.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from choreo.app.metrics import CATALOGUE, series

FOLDER = Path(__file__).parent / "boards"
DATASOURCE: Final = {"type": "prometheus", "uid": "$datasource"}
WIDTH, HEIGHT, COLUMNS = 8, 7, 3
LEFT_OUT = frozenset({"partition"})
"""Labels that a panel sums over: a line for each of a hundred partitions is no picture."""

BOARDS: Mapping[str, tuple[str, Mapping[str, Sequence[str]]]] = {
    "choreo-flows": (
        "choreo: flows",
        {
            "Runs": ("runs", "runs_started", "runs_ended", "run_duration_seconds", "runs_without_worker", "orphans"),
            "Open steps": ("expected_steps", "expected_oldest_age_seconds", "deadlines_passed"),
            "Effects": ("effects", "runs_unbalanced", "dead_letters"),
        },
    ),
    "choreo-services": (
        "choreo: services",
        {
            "Attempts": (
                "attempts",
                "attempt_duration_seconds",
                "attempt_queue_seconds",
                "attempts_in_flight",
                "attempts_retried",
                "attempts_held",
                "jobs",
                "jobs_failed",
                "dead_letters_written",
            ),
            "Groups": (
                "group_lag_records",
                "group_members",
                "group_changes",
                "group_last_progress_timestamp_seconds",
            ),
        },
    ),
    "choreo-machinery": (
        "choreo: tracker, read model, dependencies",
        {
            "Timers": ("timer_lateness_seconds", "timers_overdue", "timer_oldest_overdue_seconds", "tracker_timers"),
            "Tracker": (
                "tracker_events",
                "tracker_decisions",
                "tracker_rerouted",
                "tracker_published_again",
                "tracker_restarts",
                "tracker_folded_anew",
                "tracker_copies_set_aside",
            ),
            "Read model and bridge": ("read_model_lag_seconds", "projector_events", "bridge_events"),
            "Dependencies": (
                "dependency_unavailable",
                "dependency_unavailable_seconds",
                "storage_errors",
                "flows_unanswered",
                "clock_skew_seconds",
                "open_transaction_records",
                "build_info",
            ),
        },
    ),
}


def boards() -> dict[str, str]:
    """Return the text of each board by the name of its file."""
    return {f"{uid}.json": f"{json.dumps(board(uid), indent=1)}\n" for uid in BOARDS}


def board(uid: str) -> dict[str, Any]:
    """Return one board as Grafana imports it."""
    title, rows = BOARDS[uid]
    return {
        "uid": uid,
        "title": title,
        "tags": ["choreo"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [*_variables()]},
        "panels": [*_panels(rows)],
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    yield {
        "name": "flow",
        "label": "Flow",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": f"label_values({series('runs')}, flow)", "refId": "flows"},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }


def _panels(rows: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
    number, top = 0, 0
    for title, names in rows.items():
        number += 1
        at = {"x": 0, "y": top, "w": WIDTH * COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": at, "panels": []}
        top += 1
        for place, name in enumerate(names):
            number += 1
            at = {"x": place % COLUMNS * WIDTH, "y": top + place // COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT}
            yield _panel(number, name, at)
        top += -(-len(names) // COLUMNS) * HEIGHT


def _panel(number: int, name: str, at: Mapping[str, int]) -> dict[str, Any]:
    metric = CATALOGUE[name]
    words = name.removesuffix("_seconds").removesuffix("_timestamp").replace("_", " ")
    per_second = " a second" if metric.kind == "counter" else ""
    return {
        "id": number,
        "type": "timeseries",
        "title": f"{words.capitalize()}{per_second}",
        "description": metric.help,
        "datasource": DATASOURCE,
        "gridPos": dict(at),
        "fieldConfig": {"defaults": {"unit": _unit(name), "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": ref, "expr": expr, "legendFormat": legend, "datasource": DATASOURCE}
            for ref, (expr, legend) in zip("AB", _queries(name), strict=False)
        ],
    }


def _queries(name: str) -> Iterator[tuple[str, str]]:
    """Yield each expression of a metric's panel, with the legend of its lines."""
    metric, shown = CATALOGUE[name], series(name)
    labels = [label for label in metric.labels if label not in LEFT_OUT]
    by, legend = ", ".join(labels), " ".join(f"{{{{{label}}}}}" for label in labels)
    chosen = '{flow=~"$flow"}' if "flow" in labels else ""
    if metric.kind == "counter":
        yield f"sum by ({by}) (rate({shown}{chosen}[$__rate_interval]))", legend
    elif metric.kind == "histogram":
        for quantile in ("0.5", "0.99"):
            rate = f"rate({shown}_bucket{chosen}[$__rate_interval])"
            yield f"histogram_quantile({quantile}, sum by ({by}, le) ({rate}))", f"{legend} {quantile}"
    elif len(labels) < len(metric.labels):
        yield f"sum by ({by}) (max by ({', '.join(metric.labels)}) ({shown}{chosen}))", legend
    else:
        yield (f"max by ({by}) ({shown}{chosen})" if by else f"max({shown})"), legend


def _unit(name: str) -> str:
    if name.endswith("_timestamp_seconds"):
        return "dateTimeFromNow"
    if name.endswith("_seconds"):
        return "s"
    return "cps" if CATALOGUE[name].kind == "counter" else "short"


def main() -> None:
    """Write the files; remove those of boards that are no more."""
    FOLDER.mkdir(exist_ok=True)
    wanted = boards()
    for old in FOLDER.glob("*.json"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text)
    sys.stdout.write(f"{len(wanted)} boards in {FOLDER}\n")


if __name__ == "__main__":
    main()
