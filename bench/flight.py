"""One round of the order saga on the embedded log: `python -m bench.flight --layout one --synchronous FULL`.

A process of its own, so that no round inherits the memory of another. It runs some roles itself, starts processes for
the others, publishes, and waits until the read model shows every order ended. Prints its figures as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from asyncio.subprocess import Process, create_subprocess_exec
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.figures import cpu_s, percentile
from bench.saga import declined, order, placed
from choreo.settings import Settings, load
from choreo.wiring import TRACKER, App, open_app, run

FLOW = order.name
PARTITIONS = 8
WARM_UP = 200
AT_ONCE = 500
"""Orders published at once: as many clients as wait for an answer."""
ORDERS_A_SECOND = 10
_SLOW = "slow"

_SERVICES = tuple(service.name for service in order.services)
LAYOUTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "one": ((*_SERVICES, TRACKER),),
    "two": ((TRACKER,), _SERVICES),
    "three": ((TRACKER,), _SERVICES[:2], _SERVICES[2:]),
}
"""Roles by process; the first process also publishes and watches."""
_EVENTS, _EVENTS_OF_DECLINED = 6, 7
"""Records of one order: what its steps say, and what the tracker decides."""
ENDED = ("completed", "compensated")


def settings_of(folder: Path, synchronous: str) -> Settings:
    """One file in this folder, and nothing of the project around."""
    return load(
        flows=("bench.saga:order",),
        database=folder / "log.db",
        synchronous=synchronous,
        schemas=folder / "schemas",
        topics=folder / "topics",
        partitions=PARTITIONS,
    )


@asynccontextmanager
async def flying(folder: Path, synchronous: str, layout: str) -> AsyncIterator[tuple[App, list[int]]]:
    """The roles at work; yields the app of this process and the ids of all."""
    here, *elsewhere = LAYOUTS[layout]
    async with open_app(settings_of(folder, synchronous)) as app:
        stop = asyncio.Event()
        task = asyncio.create_task(run(app, here, stop))
        others = [await _started(folder, synchronous, roles) for roles in elsewhere]
        try:
            yield app, [os.getpid(), *(process.pid for process in others)]
        finally:
            for process in others:
                process.terminate()
            await asyncio.gather(*(process.wait() for process in others))
            stop.set()
            await task


async def _started(folder: Path, synchronous: str, roles: Sequence[str]) -> Process:
    return await create_subprocess_exec(
        *(sys.executable, "-m", "bench.flight_part", str(folder), synchronous, *roles), stdin=asyncio.subprocess.PIPE
    )


async def publish(app: App, numbers: Iterator[int], prefix: str, until: int) -> None:
    """Place orders as fast as the door takes them, one after the other; several of these run at once."""
    for number in numbers:
        await app.publisher.publish(FLOW, placed(number, prefix))
        if number >= until:
            return


async def saturated(app: App, orders: int, prefix: str) -> float:
    """Seconds from the first order placed until the read model shows all of them ended."""
    before, counted = await _read(app), await _ended(app)
    events = sum(_EVENTS_OF_DECLINED if declined(number) else _EVENTS for number in range(orders))
    numbers = iter(range(orders))
    begun = time.perf_counter()
    await asyncio.gather(*(publish(app, numbers, prefix, orders) for _ in range(min(AT_ONCE, orders))))
    while await _read(app) < before + events:  # noqa: ASYNC110 - a file rings no bell
        await asyncio.sleep(0.01)
    while await _ended(app) < counted + orders:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return time.perf_counter() - begun


async def _read(app: App) -> int:
    """How many records the read model has folded."""
    return sum((await app.backend.read_model.positions(FLOW)).values())


async def _ended(app: App) -> int:
    counts = await app.backend.read_model.counts(FLOW)
    return sum(counts.get(status, 0) for status in ENDED)


async def latencies(app: App, folder: Path, synchronous: str, orders: int) -> tuple[list[float], list[float]]:
    """Milliseconds from calling the door until another process can read an order as confirmed, and as ended."""
    command = (sys.executable, "-m", "bench.flight_watch", str(folder), synchronous, str(orders))
    watcher = await create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    if watcher.stdout is None or await watcher.stdout.readline() != b"ready\n":
        message = "the process that watches the orders did not start; see what it said above"
        raise RuntimeError(message)
    placed_s, first_s = [], time.monotonic()
    for number in range(orders):
        placed_s.append(time.monotonic())
        await app.publisher.publish(FLOW, placed(number, _SLOW))
        await asyncio.sleep(max(0.0, first_s + (number + 1) / ORDERS_A_SECOND - time.monotonic()))
    pairs = zip(placed_s, json.loads(await watcher.stdout.read()), strict=True)
    spans = [(confirmed_s - begun_s, ended_s - begun_s) for begun_s, (confirmed_s, ended_s) in pairs]
    await watcher.wait()
    return [confirmed_s * 1e3 for confirmed_s, _ in spans if confirmed_s > 0], [ended_s * 1e3 for _, ended_s in spans]


def slow_key(number: int) -> str:
    """The key of an order whose latency is measured."""
    return placed(number, _SLOW).order_id


async def flight(synchronous: str, layout: str, orders: int, slow_orders: int, warm_up: int) -> dict[str, float]:
    """The figures of one round: latencies first, while the file is small, then saturation."""
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as folder:
        async with flying(Path(folder), synchronous, layout) as (app, pids):
            await saturated(app, warm_up, "warm")
            confirmed_ms, ended_ms = await latencies(app, Path(folder), synchronous, slow_orders)
            cpu_before = sum(map(cpu_s, pids))
            took_s = await saturated(app, orders, "fast")
            cpu = sum(map(cpu_s, pids)) - cpu_before
    return {
        "orders_s": orders / took_s,
        "cpu_us_an_order": cpu / orders * 1e6,
        "p50_ms": percentile(ended_ms, 50),
        "p99_ms": percentile(ended_ms, 99),
        "confirmed_p50_ms": percentile(confirmed_ms, 50),
        "confirmed_p99_ms": percentile(confirmed_ms, 99),
    }


def main() -> None:
    """Fly one round and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", choices=LAYOUTS, default="one")
    parser.add_argument("--synchronous", choices=("FULL", "NORMAL"), default="FULL")
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--slow-orders", type=int, default=50, help="how many at 10 a second, for the latency")
    parser.add_argument("--warm-up", type=int, default=WARM_UP, help="orders that are not measured")
    chosen = parser.parse_args()
    figures = asyncio.run(flight(**vars(chosen)))
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
