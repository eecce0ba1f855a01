"""Observe the consumer groups of every flow, so that a process that answers questions knows their past minutes."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from choreo.app.query.queries import Queries
from choreo.core.errors import NotFoundError, StorageError, UnavailableError
from choreo.ports.clock import Clock

LOOK_S = 5.0
SHARE = 0.02
"""The most of its time that a process observes: on a cluster a question about a group takes some ten milliseconds."""

_log = logging.getLogger(__name__)


async def watch_groups(queries: Queries, clock: Clock, stop: asyncio.Event, look_s: float = LOOK_S) -> None:
    """Observe every flow's groups each `look_s`, more seldom where that takes long, until `stop` is set."""
    while not stop.is_set():
        begun_ms = clock.elapsed_ms()
        for flow in queries.flows.names:
            try:
                await queries.groups(flow)
            except (StorageError, UnavailableError, NotFoundError) as error:
                _log.debug("groups of %s: %s", flow, error)  # the next look may succeed
        took_s = (clock.elapsed_ms() - begun_ms) / 1_000
        with suppress(TimeoutError):
            async with asyncio.timeout(max(look_s, took_s / SHARE)):
                await stop.wait()
