"""An ASGI application on a port of this machine, for as long as a test needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from choreo.surfaces.rest.connections import Limits
from choreo.surfaces.rest.server import serve


@asynccontextmanager
async def served(app: Any, limits: Limits | None = None) -> AsyncIterator[int]:
    """Serve the app as the REST view is served; yields its port."""
    stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(app, "127.0.0.1", 0, stop=stop, ready=address.set_result, limits=limits))
    try:
        yield int((await address).rpartition(":")[2])
    finally:
        stop.set()
        await task
