"""Cost of lists for an order on Kafka and Redis, each role in a process of its own: `python -m bench.lists_on_kafka`.

Run by bench.lists with the settings in the environment. It fills the read model, starts every role and the REST view,
and prints its figures as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, create_subprocess_exec
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from bench.kafka_chain import FLOW, working
from bench.lists import ended_runs, measure_at
from bench.rest import answers
from choreo.ports.backend import ProjectedBackend
from choreo.ports.projections import Projected
from choreo.settings import load
from choreo.wiring import REST, open_app

AT_ONCE = 1_000
"""One script of Redis holds the server for some 10 ms."""


async def fill(runs: int) -> None:
    """Write this many ended runs into the read model, at the position where its projector begins."""
    async with open_app(load()) as app:
        projections = cast("ProjectedBackend", app.backend).projections
        for first in range(0, runs, AT_ONCE):
            views = ended_runs(first, min(runs, first + AT_ONCE))
            await projections.save(Projected(FLOW, 0, 0, 0, views=views))


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """Run the REST view in a process; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    environment = {**os.environ, "CHOREO_PORT": str(port)}
    command = (sys.executable, "-m", "choreo", "run", REST)
    process = await create_subprocess_exec(*command, env=environment, stdout=DEVNULL, stderr=DEVNULL)
    try:
        while not await answers(port):  # noqa: ASYNC110 - another process rings no bell
            await asyncio.sleep(0.05)
        yield port
    finally:
        process.terminate()
        await process.wait()


async def measure(runs: int, orders: int, rounds: int) -> dict[str, float]:
    """Return every figure."""
    await fill(runs)
    async with working(), served() as port:
        return await measure_at(port, orders, rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("runs", "orders", "rounds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    sys.stdout.write(json.dumps(asyncio.run(measure(**vars(parser.parse_args())))) + "\n")


if __name__ == "__main__":
    main()
