"""The Faust tracker with a million open instances: `python -m bench.kafka_million [--json] [--open N]`.

Everything goes through a real log: orders over an empty store; N starts, folded like any event; then, over the full
store, the same orders under other keys, and one event more for open instances that lie all over it. Each time the log
is written first and the worker, a process of its own, started after: what it folds a second is its own speed. Its
restarts are measured: warm (its folder kept) and cold (deleted: all states come from the changelog).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from bench.core import history
from bench.figures import rounded, say
from bench.kafka_harness import FLOW, PARTITIONS, Harness, harness
from bench.kafka_raw import pour
from bench.saga import order
from choreo.adapters.kafka.records import message_of
from choreo.core import ids
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.hosts.tracker import TrackerHost
from choreo.settings import load
from choreo.wiring import TRACKER, open_app
from choreo.wiring.hosting import role_hosts

LOOK_S = 0.02
PATIENCE_S = 400
TABLE = FlowTable(order.definition)


async def worker(goals: list[int]) -> list[dict[str, float]]:
    """One life of the tracker: when it had its states, then when it had folded each of these numbers of events."""
    begun_s = time.perf_counter()
    async with open_app(load()) as app:
        host = role_hosts(app, TRACKER)[0]
        if not isinstance(host, TrackerHost) or app.backend.roles[TRACKER] != "faust":
            raise TypeError("the settings name no Kafka")
        task = asyncio.create_task(host.run())
        marks = []
        until = time.monotonic() + PATIENCE_S
        for goal in [0, 1, *goals]:
            while app.metrics.read().get("tracker_events", 0) < goal or not host.is_ready:
                await asyncio.sleep(LOOK_S)
                if time.monotonic() > until or task.done():
                    sys.exit(f"{app.metrics.read()} of {goal} events within {PATIENCE_S} s")
            events = app.metrics.read().get("tracker_events", 0)
            marks.append({"s": time.perf_counter() - begun_s, "events": events, "rss_mb": _rss_mb()})
        await host.stop()
        await task
    return marks


def _rss_mb() -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) / 1024 if found else float("nan")


def log_of(prefix: str, orders: int) -> Iterator[Envelope]:
    """Everything that stands in the log of so many orders, 200 of them at once."""
    for first in range(0, orders, 200):
        logs = [history(TABLE, f"{prefix}-{place}", place) for place in range(first, min(first + 200, orders))]
        for place in range(max(map(len, logs))):
            yield from (log[place].event for log in logs if place < len(log))


def _starts(number: int) -> Iterator[Envelope]:
    for place in range(number):
        key = f"open-{place}"
        yield Envelope(id=ids.start(FLOW, key), type=TABLE.flow.starts, key=key, flow=FLOW)


def _seconds(number: int, apart: int) -> Iterator[Envelope]:
    """Return the first step's outcomes of open instances, spread evenly."""
    for place in range(number):
        yield history(TABLE, f"open-{place * apart}", 0)[1].event


def lived(servers: Harness, prefix: str, *goals: int) -> list[dict[str, float]]:
    """Return the marks of one life of the tracker in a process of its own; see `worker`."""
    said = servers.run_module(prefix, "bench.kafka_million", "--worker", *map(str, goals))
    marks: list[dict[str, float]] = json.loads(said.splitlines()[-1])
    return marks


def rate(before: dict[str, float], after: dict[str, float]) -> float:
    """Return the events a second between two marks."""
    # At sizes that measure nothing one batch reaches both marks.
    return max(1, after["events"] - before["events"]) / max(LOOK_S, after["s"] - before["s"])


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Every figure."""
    with harness(chosen.bootstrap) as servers:
        prefix = servers.own("million")
        servers.prepare(prefix)

        def poured(events: Iterable[Envelope]) -> int:
            before = count()
            pour(servers, prefix + FLOW, (message_of(event) for event, _ in zip(events, before, strict=False)))
            return next(before)

        orders = poured(log_of("first", chosen.orders))
        _, first, last = lived(servers, prefix, orders)
        empty = rate(first, last)
        poured(_starts(chosen.open))
        quarters = [max(2, chosen.open * part // 4) for part in range(1, 5)]
        _, *filling = lived(servers, prefix, *quarters)
        orders = poured(log_of("second", chosen.orders))
        spread = poured(_seconds(chosen.spread, max(1, chosen.open // chosen.spread)))
        warm, first, *worked = lived(servers, prefix, orders, orders + spread)
        shutil.rmtree(servers.folder / prefix)
        poured(log_of("third", 1))
        cold, *_ = lived(servers, prefix)
    return {
        "open_instances": chosen.open,
        "partitions": PARTITIONS,
        "events_s_empty": rounded(empty),
        "events_s_full": rounded(rate(first, worked[0])),
        "full_over_empty": rounded(rate(first, worked[0]) / empty),
        "events_s_full_spread_keys": rounded(rate(worked[0], worked[1])),
        "events_s_filling_by_quarter": [rounded(rate(*pair)) for pair in pairwise(filling)],
        "rss_mb_filled": rounded(filling[-1]["rss_mb"]),
        "rss_mb_warm": rounded(worked[-1]["rss_mb"]),
        "restart_warm_s": rounded(warm["s"]),
        "restart_cold_s": rounded(cold["s"]),
    }


def main() -> None:
    """Measure and print; as a worker, live and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--bootstrap", default="", help="a broker that is there; one is started otherwise")
    parser.add_argument("--open", type=int, default=1_000_000, help="open instances")
    parser.add_argument(
        "--orders", type=int, default=5_000, help="whole orders folded over the empty and the full store"
    )
    parser.add_argument("--spread", type=int, default=20_000, help="open instances of which one more event is folded")
    parser.add_argument("--worker", nargs="*", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker is not None:
        print(json.dumps(asyncio.run(worker(chosen.worker))))
    else:
        say(measure(chosen), as_json=chosen.json)


if __name__ == "__main__":
    main()
