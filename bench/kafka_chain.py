"""One round of the order saga on Kafka, a process a role, as `choreo run ROLE` has it: `python -m bench.kafka_chain`.

Run by bench.kafka with the settings in the environment. It starts the four services, tracker and projector, places
orders and waits until the read model shows every one ended. Prints its figures as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import Process, create_subprocess_exec
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import TypeVar

from bench.figures import cpu_s, percentile
from bench.saga import OrderConfirmed, OrderPlaced, StockReleased, order, placed
from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.clock import SystemClock
from choreo.core import facts, ids
from choreo.core.errors import StorageError
from choreo.core.events import Envelope
from choreo.settings import load
from choreo.wiring import PROJECTOR, TRACKER, App, open_app

FLOW = order.name
ROLES = (*(service.name for service in order.services), TRACKER, PROJECTOR)
AT_ONCE = 500
"""Orders appended at once."""
ORDERS_A_SECOND = 10
LOOK_S = 0.005
"""Between looks at one order. Each costs client and Redis 1 ms of CPU: more of them would be what is measured."""
UNSEEN = 0.8
"""Of the shortest time an order has taken so far nobody looks at the next: it is hardly shown sooner."""
SEEK_S = 0.05
PATIENCE_S = 120
_ENDED = ("completed", "compensated")
Answer = TypeVar("Answer")
_LAST = (OrderConfirmed.event_type, StockReleased.event_type)
_READ = 1_000


@asynccontextmanager
async def working() -> AsyncIterator[dict[str, Process]]:
    """Every role in a process of its own, by name."""
    with ExitStack() as files:
        processes = {role: await _started(role, files) for role in ROLES}
        try:
            yield processes
        finally:
            for process in processes.values():
                if process.returncode is None:
                    process.terminate()
            await asyncio.gather(*(process.wait() for process in processes.values()))


async def _started(role: str, files: ExitStack) -> Process:
    """Its output is kept beside its data."""
    folder = load().data
    folder.mkdir(parents=True, exist_ok=True)
    said = files.enter_context((folder / f"{role}.log").open("w"))
    return await create_subprocess_exec(sys.executable, "-m", "choreo", "run", role, stdout=said, stderr=said)


def starts(codec: AvroCodec, orders: int, prefix: str) -> list[Envelope]:
    """Start events as a door or a producer of ours makes them: their ids are derived from the key."""
    now_ms, version, events = SystemClock().now_ms(), order.definition.version, []
    for number in range(orders):
        start = placed(number, prefix)
        id_ = ids.start(FLOW, start.order_id)
        events.append(
            Envelope(
                id=id_,
                type=OrderPlaced.event_type,
                key=start.order_id,
                flow=FLOW,
                run=id_,
                version=version,
                source="bench",
                time_ms=now_ms,
                content_type=codec.content_type,
                data=codec.encode(start),
            )
        )
    return events


async def saturated(app: App, orders: int, prefix: str) -> float:
    """Seconds from the first order placed, each encoded and acknowledged, until the read model shows all ended."""
    counted = await _ended(app)
    begun = time.perf_counter()
    for first in range(0, orders, AT_ONCE):
        events = starts(app.codec, min(AT_ONCE, orders - first), f"{prefix}-{first}")
        await app.backend.log.append(FLOW, events)
    until = time.monotonic() + PATIENCE_S
    while await _ended(app) < counted + orders:
        await asyncio.sleep(SEEK_S)
        if time.monotonic() > until:
            sys.exit(f"{await _ended(app) - counted} of {orders} orders ended within {PATIENCE_S} s")
    return time.perf_counter() - begun


async def _patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """The answer of a store that is asked again while it is too busy to give one."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await ask()
        except StorageError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(SEEK_S)


async def _ended(app: App) -> int:
    counts = await _patiently(lambda: app.backend.read_model.counts(FLOW))
    return sum(counts.get(status, 0) for status in _ENDED)


async def latencies(app: App, orders: int) -> dict[str, float]:
    """Milliseconds from calling the door until an order's last event and its end stand in the log, and are shown."""
    tasks, shown_s, begun = [], list[float](), time.perf_counter()
    for number in range(orders):
        tasks.append(asyncio.create_task(_one(app, number, shown_s)))
        await asyncio.sleep(max(0.0, begun + (number + 1) / ORDERS_A_SECOND - time.perf_counter()))
    taken = await asyncio.gather(*tasks)
    stood = await _stamps(app, {key for key, _, _ in taken})
    done = [stood[key, "done"] - placed_ms for key, placed_ms, _ in taken]
    ended = [stood[key, "ended"] - placed_ms for key, placed_ms, _ in taken]
    shown = [shown_ms for _, _, shown_ms in taken]
    named = {"": done, "ended_": ended, "shown_": shown}
    return {f"{name}p{p}_ms": percentile(values, p) for name, values in named.items() for p in (50, 99)}


async def _one(app: App, number: int, shown_s: list[float]) -> tuple[str, float, float]:
    """Key, when it was placed (epoch milliseconds), and how many milliseconds later its end was shown."""
    now_ms, begun = time.time() * 1_000, time.perf_counter()
    receipt = await app.publisher.publish(FLOW, placed(number, "slow"))
    await asyncio.sleep(UNSEEN * min(shown_s, default=0) - (time.perf_counter() - begun))
    while True:
        view = await _patiently(lambda: app.backend.read_model.instance(FLOW, receipt.key))
        if view is not None and view.status in _ENDED:
            shown_s.append(time.perf_counter() - begun)
            return receipt.key, now_ms, shown_s[-1] * 1_000
        await asyncio.sleep(LOOK_S)


async def _stamps(app: App, keys: set[str]) -> dict[tuple[str, str], float]:
    """By key, when its last event of a service (`done`) and the tracker's end (`ended`) stood: the broker's stamps."""
    moments: dict[tuple[str, str], float] = {}
    for partition in range(await app.backend.log.partitions(FLOW)):
        offset = 0
        while records := await app.backend.log.read(FLOW, partition, offset, _READ):
            offset = records[-1].offset + 1
            for record in records:
                if record.event.key in keys and record.event.type in (
                    OrderConfirmed.event_type,
                    StockReleased.event_type,
                ):
                    moments[record.event.key, "done"] = record.stamp_ms
                elif record.event.key in keys and record.event.type in facts.ENDS:
                    moments[record.event.key, "ended"] = record.stamp_ms
    return moments


async def flight(orders: int, slow_orders: int, warm_up: int, servers: dict[str, int]) -> dict[str, float]:
    """The figures of one round: saturation, then latencies, while nothing waits and all is warm."""
    async with open_app(load()) as app, working() as processes:
        pids = {**{role: process.pid for role, process in processes.items()}, **servers, "client": os.getpid()}
        await saturated(app, warm_up, "warm")
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        took_s = await saturated(app, orders, "fast")
        spent = {f"cpu_ms.{name}": (cpu_s(pid) - before[name]) * 1_000 / orders for name, pid in pids.items()}
        figures = await latencies(app, slow_orders)
    return {"orders_s": orders / took_s, **figures, **spent, "cpu_ms": sum(spent.values())}


def main() -> None:
    """Fly one round and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=6_000)
    parser.add_argument("--slow-orders", type=int, default=60, help="how many at 10 a second, for the latency")
    parser.add_argument("--warm-up", type=int, default=400, help="orders that are not measured")
    parser.add_argument("--servers", type=json.loads, default={}, help="JSON: process ids of servers by name")
    sys.stdout.write(json.dumps(asyncio.run(flight(**vars(parser.parse_args())))) + "\n")


if __name__ == "__main__":
    main()
