"""Lists of runs that stand still, due times, and `why`: `python -m bench.stalled [--runs N] [--json]`.

A file with many open runs in two steps, beside orders that were really worked. Each call is timed alone, as a person's.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast

from bench.figures import percentile, rounded, say
from bench.flight import FLOW, PARTITIONS, settings_of
from bench.saga import placed
from choreo.adapters.sqlite import SqliteBackend
from choreo.ports.read_model import InstanceView
from choreo.wiring import App, everything, open_app, run

AT_ONCE = 5_000
DAY_MS = 86_400_000
PATIENCE_S = 60


def open_runs(first: int, after: int, now_ms: int) -> list[InstanceView]:
    """The views of open runs with these numbers, which have stood in a step for up to a day."""
    started, detail = now_ms - DAY_MS, b'["running","",1,0,0,0,0,false,false,false,[],[],[]]'
    steps = ("payment.charge", "shipping.ship")
    return [
        InstanceView(
            FLOW,
            f"open-{number}",
            f"r-{number}",
            "running",
            "",
            started,
            started,
            number % PARTITIONS,
            0,
            {},
            detail,
            {},
            steps[number % 2],
            now_ms - number * 7_919 % DAY_MS,
            now_ms + 1 + number * 104_729 % DAY_MS,
        )
        for number in range(first, after)
    ]


async def timed(asks: Iterator[Callable[[], Awaitable[Any]]]) -> dict[str, float]:
    """The first call, and median and 95th percentile of the others, in ms."""
    taken = []
    for ask in asks:
        begun_s = time.perf_counter()
        await ask()
        taken.append((time.perf_counter() - begun_s) * 1_000)
    first, *others = taken
    return {
        "first_ms": rounded(first),
        "p50_ms": rounded(percentile(others, 50)),
        "p95_ms": rounded(percentile(others, 95)),
    }


async def worked(app: App, orders: int) -> list[str]:
    """Work some orders; return their keys."""
    stop = asyncio.Event()
    roles = asyncio.create_task(run(app, everything(app, rest=False), stop))
    events = [placed(number, "bench") for number in range(orders)]
    receipts = [await app.publisher.publish(FLOW, event) for event in events]
    for receipt in receipts:
        await app.queries.reached(receipt.position, PATIENCE_S)
        async for _ in app.queries.follow(FLOW, receipt.key):
            pass
    stop.set()
    await roles
    return [event.order_id for event in events]


async def measure(runs: int, orders: int, times: int) -> dict[str, Any]:
    """Every figure."""
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as folder:
        async with open_app(settings_of(Path(folder), "NORMAL")) as app:
            await app.backend.create_topics()
            backend, now_ms = cast("SqliteBackend", app.backend), app.clock.now_ms()
            for first in range(0, runs, AT_ONCE):
                views = open_runs(first, min(runs, first + AT_ONCE), now_ms)
                await backend.writer.write(lambda views=views: backend.read_model.write(views))  # type: ignore[misc]
            keys = await worked(app, orders)
            queries = app.queries
            some = range(times)
            return {
                "stalled": await timed(lambda: queries.stalled(FLOW, 50) for _ in some),
                "held_up": await timed(lambda: queries.held_up(FLOW, "payment", 3, 50) for _ in some),
                "timers": await timed(lambda: queries.timers(FLOW, 50) for _ in some),
                "groups": await timed(lambda: queries.groups(FLOW) for _ in some),
                "catalogue": await timed(lambda: queries.catalogue(FLOW) for _ in some),
                "why": await timed((lambda key=key: queries.why(FLOW, key)) for key in keys[:1_000]),
                "why_open": await timed((lambda n=n: queries.why(FLOW, f"open-{n}")) for n in some),
            }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--orders", type=int, default=1_000)
    parser.add_argument("--times", type=int, default=50)
    chosen = parser.parse_args()
    figures = asyncio.run(measure(chosen.runs, chosen.orders, chosen.times))
    say({"runs": chosen.runs, **figures}, as_json=chosen.json)


if __name__ == "__main__":
    main()
