"""All roles of the reference flow in this process, with their REST view: reports, and the ends of orders."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from choreo.core.errors import NotFoundError
from choreo.ports.clock import Clock
from choreo.settings import load
from choreo.wiring import App, everything, open_app, run
from tests.kafka.harness import FLOW, Harness
from tests.support.kafka import free_ports


class Everything:
    """One process that runs all of it."""

    def __init__(self, app: App, door: str, running: asyncio.Task[None]) -> None:
        self.app = app
        self._door = door
        self._running = running

    @property
    def is_running(self) -> bool:
        """Return whether no role has ended."""
        return not self._running.done()

    async def asked(self, path: str) -> tuple[int, str]:
        """Return the REST view's answer: status and body."""
        return await asyncio.to_thread(answer_at, self._door + path)

    async def unavailable(self) -> dict[str, dict[str, Any]]:
        """Return the dependencies that /readyz reports as unusable, by name."""
        status, body = await self.asked("/readyz")
        return {one["name"]: one for one in json.loads(body).get("dependencies", [])} if status == 503 else {}

    async def reports(self, name: str) -> bool:
        """Return whether /readyz names this one, while the process is alive."""
        assert self.is_running
        return name in await self.unavailable() and (await self.asked("/livez"))[0] == 200

    async def is_ready(self) -> bool:
        """Return whether /readyz has nothing to complain of."""
        assert self.is_running
        return (await self.asked("/readyz"))[0] == 200

    async def stand(self, keys: Iterable[str], status: str) -> bool:
        """Return whether the newest run of each of these keys is shown with this status."""
        assert self.is_running
        for key in keys:
            try:
                instance = await self.app.queries.instance(FLOW, key)
            except NotFoundError:
                return False
            if instance.row.status != status:
                return False
        return True

    async def is_caught_up(self) -> bool:
        """Return whether no group lags behind the log."""
        assert self.is_running
        return not any(lag.behind for lag in await self.app.queries.lags(FLOW))


@asynccontextmanager
async def running(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, clock: Clock | None = None
) -> AsyncIterator[Everything]:
    """Run all roles on the scene's servers until the block ends; `clock` is the machine's."""
    (port,) = free_ports(1)
    monkeypatch.setenv("CHOREO_PORT", str(port))
    async with open_app(load(), clock=clock) as app:
        stop = asyncio.Event()
        task = asyncio.create_task(run(app, everything(app), stop))
        everyone = Everything(app, f"http://127.0.0.1:{port}", task)
        try:
            await harness.until(everyone.is_ready, "all roles are ready")
            yield everyone
        finally:
            stop.set()
            await task


def answer_at(address: str) -> tuple[int, str]:
    """Return the answer of an address: status and body; status 0 without an answer."""
    try:
        with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 - the test's own server
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()
    except urllib.error.URLError as away:
        return 0, str(away)
