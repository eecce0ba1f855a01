"""Serving the REST view inside a running loop: uvicorn without its signal handlers, on a socket that is bound first."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import uvicorn
from fastapi import FastAPI

from choreo.app.counters import Counters
from choreo.app.operate import Operator
from choreo.app.publish import Publisher
from choreo.app.query import Queries
from choreo.core.errors import SettingsError
from choreo.ports.clock import Clock
from choreo.surfaces.rest.app import create_app, create_health_app
from choreo.surfaces.rest.doors import Doors

BACKLOG = 2_048
"""Connections the kernel keeps waiting: uvicorn's own default."""
DRAIN_S = 5
"""How long a stop waits for requests under way; streams end at once."""

_log = logging.getLogger(__name__)


class Host(Protocol):
    """What runs in this process, as far as health goes."""

    polled_ms: int


class Address(Protocol):
    """Where to listen."""

    @property
    def host(self) -> str:
        """A name or address of this machine."""
        ...

    @property
    def port(self) -> int:
        """0 takes any that is free."""
        ...


class Opened(Protocol):
    """The opened parts of a process, as wiring has them."""

    publisher: Publisher
    queries: Queries
    operator: Operator
    clock: Clock
    counters: Counters

    @property
    def settings(self) -> Address:
        """Says where to listen."""
        ...

    @property
    def hosts(self) -> Sequence[Host]:
        """What runs in this process now."""
        ...


class _Server(uvicorn.Server):
    """The loop is not ours alone: whoever owns it owns the signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def serve_app(opened: Opened, stop: asyncio.Event, ready: Callable[[str], None] | None = None) -> None:
    """Serve the parts of an opened process until `stop` is set; raises SettingsError where it cannot listen."""
    app = create_app(doors_of(opened))
    await serve(app, opened.settings.host, opened.settings.port, stop=stop, ready=ready)


async def serve_health(opened: Opened, port: int, stop: asyncio.Event) -> None:
    """Serve health and metrics on every address until `stop` is set; raises SettingsError where it cannot listen."""
    await serve(create_health_app(doors_of(opened)), "0.0.0.0", port, stop=stop)  # noqa: S104 - a probe asks from outside


def doors_of(opened: Opened) -> Doors:
    """The doors over an opened process."""
    begun_ms = opened.clock.now_ms()

    def heartbeats() -> Mapping[str, int]:
        # A host that has not polled yet is as old as the server: it, too, may hang.
        return {
            f"{type(host).__name__} {number}": max(host.polled_ms, begun_ms) for number, host in enumerate(opened.hosts)
        }

    return Doors(
        flows=opened.queries.flows,
        publisher=opened.publisher,
        operator=opened.operator,
        queries=opened.queries,
        clock=opened.clock,
        heartbeats=heartbeats,
        counters=opened.counters.read,
    )


async def serve(
    app: FastAPI, host: str, port: int, *, stop: asyncio.Event, ready: Callable[[str], None] | None = None
) -> None:
    """Serve until `stop` is set, then let requests under way end; `ready` gets the address once it answers.

    Raises SettingsError where the address cannot be taken.
    """
    listener = listen(host, port)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=DRAIN_S, server_header=False
    )
    server = _Server(config)
    address = f"http://{_shown(host)}:{listener.getsockname()[1]}"
    _log.info("answering HTTP on %s", address)
    if ready:
        ready(address)
    stopping = asyncio.create_task(_stop_it(server, app, stop))
    try:
        await server.serve(sockets=[listener])
    finally:
        stopping.cancel()
        listener.close()


async def _stop_it(server: uvicorn.Server, app: FastAPI, stop: asyncio.Event) -> None:
    await stop.wait()
    doors: Doors = app.state.doors
    doors.closing.set()
    server.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; raises SettingsError with the remedy."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise SettingsError(_why(error), where=f"REST view, {_shown(host)}:{port}", remedy=_remedy(error)) from error
    # Connections inherit it; asyncio sets it on its own sockets only. Without it an answer waits 40 ms for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _why(error: Exception) -> str:
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return "the port is in use"
    return f"cannot listen there: {getattr(error, 'strerror', None) or error}"


def _remedy(error: Exception) -> str:
    causes: dict[Any, str] = {
        errno.EADDRINUSE: "Stop what listens there, or choose another: CHOREO_PORT=8081 (0 takes any that is free).",
        errno.EACCES: "Choose a port above 1023: CHOREO_PORT=8080.",
    }
    remedy = causes.get(getattr(error, "errno", None))
    return remedy or "Choose an address of this machine: CHOREO_HOST=127.0.0.1, CHOREO_PORT=8080."


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
