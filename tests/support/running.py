"""Every role of a project in this process, for as long as a test needs it."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

from choreo import Flow
from choreo.core.events import Position, Record
from choreo.settings import Settings
from choreo.wiring import App, everything, open_app, run
from tests.support.patience import PATIENCE_S


@asynccontextmanager
async def running(settings: Settings, *, memory: bool = False, without: Collection[str] = ()) -> AsyncIterator[App]:
    """Run every role but the REST view, and but those named, until the block ends; missing topics are made first."""
    async with open_app(settings, memory=memory) as app:
        await app.backend.create_topics()
        stop = asyncio.Event()
        roles = [role for role in everything(app, rest=False) if role not in without]
        parts = asyncio.create_task(run(app, roles, stop))
        try:
            yield app
        finally:
            stop.set()
            await parts


async def until(app: App, done: Callable[[], Any], flow: str = "order", patience_s: float | None = None) -> Any:
    """Return the first truthy answer of `done`; it is asked anew whenever the flow's log has news.

    Without `patience_s` the test's own timeout bounds the wait.
    """
    watch = await app.backend.log.consumer(flow, f"watch-{uuid.uuid4().hex[:8]}", "test")
    try:
        async with asyncio.timeout(patience_s):
            while not (answer := await done()):
                await watch.poll(1_000, 0.25)
    finally:
        await watch.close()
    return answer


async def events(app: App, flow: str, type_: str) -> dict[str, dict[str, Record]]:
    """Return the first record of each event of this type in the flow's log, by key and id."""
    found: dict[str, dict[str, Record]] = {}
    for number in range(await app.backend.log.partitions(flow)):
        for record in await app.backend.log.read(flow, number, 0, 100_000):
            if record.event.type == type_:
                found.setdefault(record.event.key, {}).setdefault(record.event.id, record)
    return found


def importable(module: str, **flows: Flow) -> None:
    """Let settings name these flows as `module:name`; another call replaces them, as a deployment does."""
    vars(sys.modules.setdefault(module, ModuleType(module))).update(flows)


async def ended(app: App, position: Position, key: str, flow: str = "order") -> str:
    """Return the status of the key's newest run when it has ended; its start stands at this position."""
    await app.queries.reached(position, PATIENCE_S)
    async for _ in app.queries.follow(flow, key):
        pass
    return (await app.queries.instance(flow, key)).row.status
