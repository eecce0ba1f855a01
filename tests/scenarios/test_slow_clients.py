"""400 half requests on the REST view and as many on the health port: an order goes its way meanwhile."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.kafka import free_ports

ROOT = Path(__file__).parents[2]
CLIENTS = 400
HALF = b"POST /flows/desk/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Le"
DESK = ROOT / "tests" / "cli" / "desk"


@pytest.fixture
def descriptors() -> None:
    """Raise the limit of descriptors: this process holds the other end of every connection."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, hard) if hard > 0 else 4_096, hard))


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[int, int]]:
    """Run `choreo dev` of a small project with few descriptors; yield its two ports."""
    rest, health = free_ports(2)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "CHOREO_DATABASE": str(folder / "choreo.db"),
        "CHOREO_PORT": str(rest),
        "CHOREO_HEALTH_PORT": str(health),
    }
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", 'ulimit -n 512; exec "$0" -m choreo dev --log-level info', sys.executable,
        cwd=DESK, env=environment, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stderr is not None
    seen = 0
    while seen < 2:
        line = await process.stderr.readline()
        assert line, "it ended"
        seen += b"answering HTTP on" in line
    drained = asyncio.create_task(process.stderr.read())
    try:
        yield rest, health
    finally:
        process.terminate()
        await process.wait()
        said = (await drained).decode(errors="replace")
        assert "Traceback" not in said, said


async def published(client: httpx.AsyncClient, type_: str) -> None:
    """Publish an event, and wait until its run can be followed."""
    answer = await client.post("/flows/desk/events", json={"type": type_, "fields": {"ticket_id": "t-1"}})
    assert answer.status_code == 201
    seen = {"Choreo-Position": answer.headers["Choreo-Position"], "Prefer": "wait=30"}
    assert (await client.get("/flows/desk/instances/t-1", headers=seen)).status_code == 200


@pytest.mark.usefixtures("descriptors")
async def test_an_order_is_placed_and_completes_beside_400_half_requests(tmp_path: Path) -> None:
    """Neither its descriptors nor its loop are used up by clients with unfinished requests."""
    async with running(tmp_path) as (rest, health):
        wires = []
        for port in (rest, health):
            for _ in range(CLIENTS):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(HALF)
                wires.append(writer)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{rest}", timeout=60) as client:
            await published(client, "TicketOpened")
            story = "/flows/desk/instances/t-1/events"
            async with client.stream("GET", story) as stream:
                async for line in stream.aiter_lines():
                    if line == "event: SeatTaken":
                        await published(client, "TicketClosed")
                    if line == "event: choreo.FlowCompleted":
                        break
                else:
                    pytest.fail("it did not complete")
            assert (await client.get(f"http://127.0.0.1:{health}/livez")).status_code == 200
        for writer in wires:
            writer.close()
