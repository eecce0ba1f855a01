"""One round of the order saga where clients use HTTP: everything in one process, or the REST view in one of its own.

At saturation 64 clients start orders; the round ends when the REST view counts every order as ended. For the latency a
client starts an order and follows its events: until it receives the end, as a peer's client does with its answer.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from bench.figures import cpu_s, percentile
from bench.flight import ENDED, ORDERS_A_SECOND, slow_key
from bench.rest import header, place_all, served, start, started

HTTP_LAYOUTS = {"http": ("dev",), "http two": ("dev --no-rest", "run rest")}
"""Commands by process; the last one serves."""


async def http_flight(layout: str, synchronous: str, orders: int, slow_orders: int, warm_up: int) -> dict[str, float]:
    """Return the figures of one round: latencies first, while the file is small."""
    *others, serving = (command.split() for command in HTTP_LAYOUTS[layout])
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as folder:
        async with AsyncExitStack() as running:
            processes = []
            for other in others:
                beside = started(Path(folder), synchronous, *other)
                processes.append(await running.enter_async_context(beside))
            port, process = await running.enter_async_context(served(Path(folder), synchronous, *serving))
            pids = [process.pid, *(other.pid for other in processes)]
            await _saturated(port, warm_up, "warm")
            known_ms = await _latencies(port, slow_orders)
            cpu_before = sum(map(cpu_s, pids))
            took_s = await _saturated(port, orders, "fast")
            cpu = sum(map(cpu_s, pids)) - cpu_before
    return {
        "orders_s": orders / took_s,
        "cpu_us_an_order": cpu / orders * 1e6,
        "p50_ms": percentile(known_ms, 50),
        "p99_ms": percentile(known_ms, 99),
    }


async def _saturated(port: int, orders: int, prefix: str) -> float:
    """Seconds from the first start until all are counted as ended."""
    before = await _ended(port)
    begun_s = time.perf_counter()
    await place_all(port, orders, prefix)
    while await _ended(port) < before + orders:  # noqa: ASYNC110 - the other process sends no signal
        await asyncio.sleep(0.02)
    return time.perf_counter() - begun_s


async def _ended(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /flows HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    (flow,) = json.loads(await reader.readexactly(int(header(head, b"content-length"))))["items"]
    writer.close()
    return sum(flow["counts"].get(status, 0) for status in ENDED)


async def _latencies(port: int, orders: int) -> list[float]:
    """Milliseconds from asking for the start until the client receives the end, of orders at ten a second."""
    first_s, following = time.monotonic(), []
    for number in range(orders):
        following.append(asyncio.create_task(_followed(port, number)))
        await asyncio.sleep(max(0.0, first_s + (number + 1) / ORDERS_A_SECOND - time.monotonic()))
    return list(await asyncio.gather(*following))


async def _followed(port: int, number: int) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun_s = time.perf_counter()
    position = await start(reader, writer, number, "slow")
    writer.write(
        f"GET /flows/order/instances/{slow_key(number)}/events HTTP/1.1\r\nHost: localhost\r\n"
        f"Choreo-Position: {position}\r\n\r\n".encode()
    )
    await reader.readuntil(b"event: choreo.StreamEnded")
    ended_s = time.perf_counter()
    writer.close()
    return (ended_s - begun_s) * 1e3
