"""Cost of lists for an order: `python -m bench.lists [--json]`. Its time with and without clients that list all along.

One process runs the flow and the REST view over a file with many runs; with `--kafka` each role is a process, on a
broker and a Redis of the benchmark's own. An order's time ends when its client has read that it is completed. Both are
measured in turns on the same processes: the figure is their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

from bench.figures import percentile, rounded, say
from bench.rest import place, served
from bench.saga import placed
from choreo.adapters.clock import SystemClock
from choreo.adapters.sqlite import SqliteBackend
from choreo.ports.read_model import InstanceView

CLIENTS = 16
AT_ONCE = 5_000
FIRST_MS = 1_700_000_000_000
LOOK_S = 0.002
LISTS = (
    "/flows/order/instances?limit=50",
    "/flows/order/instances?limit=50&status=completed",
    "/flows",
)


async def fill(path: Path, runs: int) -> None:
    """Write this many ended runs into the read model."""
    backend = await SqliteBackend.open(path, clock=SystemClock(), synchronous="NORMAL")
    await backend.log.create("order", 8)
    for first in range(0, runs, AT_ONCE):
        views = ended_runs(first, min(runs, first + AT_ONCE))
        await backend.writer.write(lambda views=views: backend.read_model.write(views))  # type: ignore[misc]
    await backend.close()


def ended_runs(first: int, after: int) -> list[InstanceView]:
    """Return the views of completed runs with these numbers."""
    return [
        InstanceView("order", f"old-{number}", f"r-{number}", "completed", "", FIRST_MS + number, 0, 0, 0, {})
        for number in range(first, after)
    ]


class Client:
    """One connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return int(head.split(b" ", 2)[1]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Let it go."""
        self._writer.close()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    """A client of the server at this port."""
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    try:
        yield client
    finally:
        client.close()


async def order_ms(port: int, client: Client, number: int) -> float:
    """Return how long one order takes until its client knows its end."""
    begun_s = time.perf_counter()
    await place(port, iter([number]), "new")
    path = f"/flows/order/instances/{placed(number, 'new').order_id}"
    while True:
        status, body = await client.get(path)
        if status == 200 and json.loads(body)["status"] in ("completed", "compensated"):
            return (time.perf_counter() - begun_s) * 1_000
        await asyncio.sleep(LOOK_S)


async def listing(port: int, listed: list[int]) -> None:
    """List again and again, until cancelled."""
    async with connected(port) as client:
        for number in count():
            status, _ = await client.get(LISTS[number % len(LISTS)])
            if status != 200:
                message = f"a list was answered with {status}"
                raise RuntimeError(message)
            listed.append(number)


async def measure(runs: int, orders: int, rounds: int) -> dict[str, float]:
    """Return every figure over one file."""
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as folder:
        await fill(Path(folder) / "log.db", runs)
        async with served(Path(folder), "FULL", "dev") as (port, _):
            return await measure_at(port, orders, rounds)


async def measure_at(port: int, orders: int, rounds: int) -> dict[str, float]:
    """Return every figure of the REST view at this port."""
    numbers, alone, beside = count(), list[float](), list[float]()
    listed: list[int] = []
    spent_s = 0.0
    async with connected(port) as client:
        await _some(port, client, numbers, orders)
        for _ in range(rounds):
            alone += await _some(port, client, numbers, orders)
            begun_s = time.perf_counter()
            clients = [asyncio.create_task(listing(port, listed)) for _ in range(CLIENTS)]
            beside += await _some(port, client, numbers, orders)
            spent_s += time.perf_counter() - begun_s
            for task in clients:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
    p50, p50_beside = percentile(alone, 50), percentile(beside, 50)
    return {
        "alone_p50_ms": rounded(p50),
        "beside_lists_p50_ms": rounded(p50_beside),
        "beside_over_alone": rounded(p50_beside / p50),
        "beside_lists_p99_ms": rounded(percentile(beside, 99)),
        "lists_s": rounded(len(listed) / spent_s),
    }


async def _some(port: int, client: Client, numbers: Iterator[int], orders: int) -> list[float]:
    return [await order_ms(port, client, number) for number, _ in zip(numbers, range(orders), strict=False)]


def on_kafka(bootstrap: str, runs: int, orders: int, rounds: int) -> dict[str, float]:
    """Return every figure on Kafka and Redis."""
    from bench.kafka_harness import harness  # noqa: PLC0415 - needs the extras of Kafka

    with harness(bootstrap) as place:
        prefix = place.own("lists")
        place.prepare(prefix)
        sizes = {"--runs": runs, "--orders": orders, "--rounds": rounds}
        arguments = [text for name, number in sizes.items() for text in (name, str(number))]
        return place.figures(prefix, "bench.lists_on_kafka", *arguments)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--orders", type=int, default=30)
    parser.add_argument("--runs", type=int, default=300_000)
    parser.add_argument("--kafka", action="store_true", help="on a broker and a Redis of its own, a process a role")
    parser.add_argument("--bootstrap", default="", help="HOST:PORT of a broker that is there, with --kafka")
    chosen = parser.parse_args()
    if chosen.kafka or chosen.bootstrap:
        figures = on_kafka(chosen.bootstrap, chosen.runs, chosen.orders, chosen.rounds)
    else:
        figures = asyncio.run(measure(chosen.runs, chosen.orders, chosen.rounds))
    say({"runs": chosen.runs, "clients": CLIENTS, "orders": chosen.orders, **figures}, as_json=chosen.json)


if __name__ == "__main__":
    main()
