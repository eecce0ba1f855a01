"""Measure the cost of one event in the step host, by part: `python -m bench.step [--json] [--events N]`.

A service of one step handles N events that stand in the log, over the SQLite home, synchronous=FULL. CPU time of the
host's thread by part: read (poll and plan), decode (the payload, and counting the attempt in the inbox), dispatch (to
the handlers' loop and back), encode (the outcome), write (commits). The whole is wall time and CPU of the process.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from bench.figures import medians, say
from bench.flight import FLOW, settings_of
from bench.saga import inventory, order, placed
from choreo import wiring
from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.consumer import GroupConsumer
from choreo.adapters.sqlite.writer import Writer
from choreo.app.steps.outcomes import OutcomeFactory
from choreo.core import ids
from choreo.core.events import Envelope
from choreo.hosts.runners.runners import HandlerLoop, ThreadedRunners
from choreo.hosts.step.dispatch import JobMaker

APPEND_AT_ONCE = 1_000
PARTS: dict[str, tuple[tuple[type, str], ...]] = {
    "read": ((GroupConsumer, "_collect"), (JobMaker, "_triggered")),
    "decode": ((AvroCodec, "decode"),),
    "dispatch": ((ThreadedRunners, "start"), (ThreadedRunners, "results"), (HandlerLoop, "_pump")),
    "encode": ((OutcomeFactory, "events"),),
    "write": ((Writer, "_transact"),),
}
"""Functions timed, by part. They do not call each other, so that no time is counted twice."""


class Meter:
    """Adds up the CPU time of functions while it is on, by part."""

    def __init__(self) -> None:
        self.spent_s: dict[str, float] = defaultdict(float)
        self._originals: list[tuple[type, str, Any]] = []

    def __enter__(self) -> Self:
        for part, functions in PARTS.items():
            for owner, name in functions:
                original = getattr(owner, name)
                self._originals.append((owner, name, original))
                setattr(owner, name, self._timed(part, original))
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, original in self._originals:
            setattr(owner, name, original)

    def _timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        spent_s, now_s = self.spent_s, time.thread_time

        def timed(*given: Any, **named: Any) -> Any:
            begun_s = now_s()
            try:
                return function(*given, **named)
            finally:
                spent_s[part] += now_s() - begun_s

        return timed


async def handled(events: int, *, metered: bool) -> dict[str, float]:
    """One round: microseconds an event. Metering itself costs, so the whole is measured in rounds without it."""
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as folder:
        async with wiring.open_app(settings_of(Path(folder), "FULL")) as app:
            await _published(app, events)
            stop, meter = asyncio.Event(), Meter()
            if metered:
                meter.__enter__()
            begun_s, cpu_s = time.perf_counter(), time.process_time()
            task = asyncio.create_task(wiring.run(app, [inventory.name], stop))
            try:
                while app.metrics.read().get("jobs", 0) < events:  # noqa: ASYNC110 - a counter rings no bell
                    await asyncio.sleep(0.002)
                took_s, used_s = time.perf_counter() - begun_s, time.process_time() - cpu_s
            finally:
                meter.__exit__()
                stop.set()
                await task
    spent = meter.spent_s if metered else {"wall": took_s, "cpu": used_s}
    return {f"{name}_us": spent_s / events * 1e6 for name, spent_s in spent.items()}


async def _published(app: wiring.App, events: int) -> None:
    """Start events, as the door would write them."""
    codec = AvroCodec()
    type_ = order.definition.starts  # a definition is derived and checked each time it is asked for
    starts = []
    for number in range(events):
        start = placed(number)
        id_ = ids.start(FLOW, start.order_id)
        starts.append(
            Envelope(
                id=id_,
                type=type_,
                key=start.order_id,
                flow=FLOW,
                run=id_,
                content_type=codec.content_type,
                data=codec.encode(start),
            )
        )
    for first in range(0, events, APPEND_AT_ONCE):
        await app.backend.log.append(FLOW, starts[first : first + APPEND_AT_ONCE])


def measure(events: int, rounds: int) -> dict[str, Any]:
    """Medians of the rounds; `other_us` is what the host does besides the parts, with the process's other threads."""
    whole = medians([asyncio.run(handled(events, metered=False)) for _ in range(rounds)])
    parts = medians([asyncio.run(handled(events, metered=True)) for _ in range(rounds)])
    other_us = max(0.0, round(whole["cpu_us"] - sum(parts.values()), 3))
    return {
        "events": events,
        "events_s": round(1e6 / whole["wall_us"]),
        **whole,
        "parts_us": {**{f"{part}_us": parts[f"{part}_us"] for part in PARTS}, "other_us": other_us},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    say(measure(chosen.events, chosen.rounds), as_json=chosen.json)


if __name__ == "__main__":
    main()
