"""Serving the REST view inside a running loop: uvicorn without its signal handlers, on a socket that is bound first."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from typing import Any, NamedTuple, Protocol

import uvicorn
from fastapi import FastAPI

from choreo.app.counters import Counters
from choreo.app.operate import Operator
from choreo.app.publish import Publisher
from choreo.app.query import Queries
from choreo.core.errors import SettingsError
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies
from choreo.surfaces.rest.app import create_app, create_health_app
from choreo.surfaces.rest.connections import Connection, Limits
from choreo.surfaces.rest.doors import Doors

BACKLOG = 512
"""Connections the kernel keeps waiting, and that are taken in one turn of the loop: a burst of clients, no flood."""
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

    @property
    def health_port(self) -> int:
        """0: there is none."""
        ...

    @property
    def allow_remote(self) -> bool:
        """Whether other machines may reach the REST view."""
        ...

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """The names it is called by, beside the loopback's."""
        ...


class Opened(Protocol):
    """The opened parts of a process, as wiring has them."""

    publisher: Publisher
    queries: Queries
    operator: Operator
    clock: Clock
    counters: Counters

    @property
    def dependencies(self) -> Dependencies:
        """Says what this process cannot use now."""
        ...

    @property
    def settings(self) -> Address:
        """Says where to listen."""
        ...

    @property
    def hosts(self) -> Sequence[Host]:
        """What runs in this process now."""
        ...


class Door(NamedTuple):
    """What is opened, and by which settings, for who must choose others."""

    name: str
    port_setting: str
    zero: str
    """What port 0 means."""
    share: float
    """Of the descriptors that the process may have; storage, logs and brokers need some, too."""
    host_setting: str = ""
    """None where it listens on every address."""


EVERYWHERE = "0.0.0.0"  # noqa: S104 - a probe asks from outside
REST_VIEW = Door("REST view", "CHOREO_PORT", "takes any that is free", 1 / 2, "CHOREO_HOST")
HEALTH = Door("health and metrics", "CHOREO_HEALTH_PORT", "opens none", 1 / 8)


class _Server(uvicorn.Server):
    """The loop is not ours alone: whoever owns it owns the signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def serve_app(opened: Opened, stop: asyncio.Event, ready: Callable[[str], None] | None = None) -> None:
    """Serve the parts of an opened process until `stop` is set; raises SettingsError where it cannot listen."""
    settings = opened.settings
    _refuse_remote(settings)
    await serve(create_app(doors_of(opened)), settings.host, settings.port, stop=stop, ready=ready)


async def serve_health(opened: Opened, port: int, stop: asyncio.Event, *, reads: bool) -> None:
    """Serve health and metrics on every address until `stop` is set; raises SettingsError where it cannot listen.

    `reads`: whether this process serves or fills the read model.
    """
    app = create_health_app(replace(doors_of(opened), reads=reads))
    await serve(app, EVERYWHERE, port, stop=stop, door=HEALTH)


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
        allowed_hosts=(*opened.settings.allowed_hosts, opened.settings.host),
        dependencies=opened.dependencies,
    )


async def serve(
    app: FastAPI,
    host: str,
    port: int,
    *,
    stop: asyncio.Event,
    ready: Callable[[str], None] | None = None,
    door: Door = REST_VIEW,
    limits: Limits | None = None,
) -> None:
    """Serve until `stop` is set, then let requests under way end; `ready` gets the address once it answers.

    Raises SettingsError where the address cannot be taken.
    """
    listener = listen(host, port, door)
    config = uvicorn.Config(
        app,
        http=partial(Connection, limits=limits or Limits.of_process(door.share)),  # type: ignore[arg-type] # makes one
        ws="none",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=DRAIN_S,
        server_header=False,
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


def listen(host: str, port: int, door: Door = REST_VIEW) -> socket.socket:
    """A socket that listens there; raises SettingsError with the remedy."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        where = f"{door.name}, {_shown(host)}:{port}"
        raise SettingsError(_why(error), where=where, remedy=_remedy(error, door, port)) from error
    # Connections inherit it; asyncio sets it on its own sockets only. Without it an answer waits 40 ms for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def try_doors(settings: Address, *, rest: bool) -> None:
    """See that a process may open its doors, before anything runs; raises SettingsError."""
    if rest:
        _refuse_remote(settings)
        listen(settings.host, settings.port).close()
    if settings.health_port:
        listen(EVERYWHERE, settings.health_port, HEALTH).close()


def _refuse_remote(settings: Address) -> None:
    """Raise SettingsError where other machines could reach the REST view and nobody has said that they may."""
    if settings.allow_remote:
        return
    with listen(settings.host, 0) as bound:
        address = bound.getsockname()[0]
    if not ip_address(address).is_loopback:
        raise SettingsError(
            f"whoever reaches {address} could act through it, for it asks nobody who they are",
            where=f"{REST_VIEW.name}, setting host",
            remedy="Set CHOREO_HOST=127.0.0.1; or, where only those can reach it who may, CHOREO_ALLOW_REMOTE=true "
            "and, in CHOREO_ALLOWED_HOSTS, the names it is called by.",
        )


def _why(error: Exception) -> str:
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return "the port is in use"
    return f"cannot listen there: {getattr(error, 'strerror', None) or error}"


def _remedy(error: Exception, door: Door, port: int) -> str:
    other = f"{door.port_setting}={port % 65_535 + 1} (0 {door.zero})"
    causes: dict[Any, str] = {
        errno.EADDRINUSE: f"Stop what listens there, or choose another: {other}.",
        errno.EACCES: f"Choose a port above 1023: {door.port_setting}=8080.",
    }
    remedy = causes.get(getattr(error, "errno", None))
    here = f"{door.host_setting}=127.0.0.1, " if door.host_setting else ""
    return remedy or f"Choose an address of this machine: {here}{door.port_setting}=8080."


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
