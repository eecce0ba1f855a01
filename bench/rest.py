"""Measure the cost of a start through the REST view: `python -m bench.rest`. CPU time of the serving process, by start.

Only the door runs (`choreo run rest` on one file); clients keep their connections and send the next start when the one
before is answered. Publishing, with its check for a start that was published before, and the write to disk are in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, Process, create_subprocess_exec
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.figures import cpu_s, medians, say
from bench.saga import OrderPlaced, placed

CLIENTS = 64
WARM_UP = 500
ROOT = Path(__file__).parents[1]


@asynccontextmanager
async def started(folder: Path, synchronous: str, *command: str, port: int = 0) -> AsyncIterator[Process]:
    """Run a command of choreo's on a file in this folder."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CHOREO_")},
        "PYTHONPATH": str(ROOT),
        "CHOREO_FLOWS": "bench.saga:order",
        "CHOREO_DATABASE": str(folder / "log.db"),
        "CHOREO_SYNCHRONOUS": synchronous,
        "CHOREO_PORT": str(port),
    }
    called = (sys.executable, "-m", "choreo", *command)
    process = await create_subprocess_exec(*called, cwd=folder, env=environment, stdout=DEVNULL)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def served(folder: Path, synchronous: str, *command: str) -> AsyncIterator[tuple[int, Process]]:
    """Run a command that serves the REST view, on a file in this folder; yields its port once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    async with started(folder, synchronous, *command, port=port) as process:
        while not await answers(port):
            if process.returncode is not None:
                message = f"`choreo {' '.join(command)}` ended with code {process.returncode} before it served"
                raise RuntimeError(message)
            await asyncio.sleep(0.05)
        yield port, process


async def answers(port: int) -> bool:
    """Return whether a server listens at this port of this machine."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    writer.close()
    return True


async def place(port: int, numbers: Iterator[int], prefix: str) -> None:
    """Start a run for each of these numbers, one after the other, on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in numbers:
        await start(reader, writer, number, prefix)
    writer.close()


async def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, prefix: str) -> str:
    """Start one run; returns the position that was answered."""
    body = json.dumps({"type": OrderPlaced.event_type, "fields": placed(number, prefix).model_dump()}).encode()
    writer.write(
        b"POST /flows/order/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    head = await reader.readuntil(b"\r\n\r\n")
    answer = await reader.readexactly(int(header(head, b"content-length")))
    if not head.startswith(b"HTTP/1.1 201"):
        message = f"the start was not taken: {answer.decode()}"
        raise RuntimeError(message)
    return header(head, b"choreo-position")


def header(head: bytes, name: bytes) -> str:
    """The value of a header of an answer."""
    return head.lower().partition(b"\r\n" + name + b":")[2].partition(b"\r\n")[0].strip().decode()


async def starts(synchronous: str, orders: int) -> dict[str, float]:
    """One round."""
    with tempfile.TemporaryDirectory(prefix="choreo-bench-") as folder:
        async with served(Path(folder), synchronous, "run", "rest") as (port, process):
            await place_all(port, WARM_UP, "warm")
            before_s, begun_s = cpu_s(process.pid), time.perf_counter()
            await place_all(port, orders, "o")
            took_s, cpu = time.perf_counter() - begun_s, cpu_s(process.pid) - before_s
    return {"starts_s": orders / took_s, "starts_a_cpu_s": orders / cpu, "cpu_us_a_start": cpu / orders * 1e6}


async def place_all(port: int, orders: int, prefix: str) -> None:
    """Start that many runs, from as many clients as there are."""
    numbers = iter(range(orders))
    await asyncio.gather(*(place(port, numbers, prefix) for _ in range(CLIENTS)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--orders", type=int, default=5_000)
    parser.add_argument("--synchronous", choices=("FULL", "NORMAL"), default="FULL")
    chosen = parser.parse_args()
    rounds = [asyncio.run(starts(chosen.synchronous, chosen.orders)) for _ in range(chosen.rounds)]
    figures = medians(rounds)
    say({"orders": chosen.orders, "clients": CLIENTS, **figures}, as_json=chosen.json)


if __name__ == "__main__":
    main()
