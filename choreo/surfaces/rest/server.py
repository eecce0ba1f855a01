"""Serve the REST view inside a running loop: uvicorn without its signal handlers, on a socket that is bound first."""

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

from choreo.app.metrics import Metrics
from choreo.app.operator.batches import Batches
from choreo.app.operator.operator import Operator
from choreo.app.publish.publisher import Publisher
from choreo.app.query.past import Pasts
from choreo.app.query.queries import Queries
from choreo.core.errors import SettingsError
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies
from choreo.surfaces.rest.access_control import AccessControl
from choreo.surfaces.rest.app import create_app, create_health_app
from choreo.surfaces.rest.connections import BACKLOG, Connection, Limits
from choreo.surfaces.rest.use_cases import UseCases

DRAIN_S = 5
"""How long a stop waits for open requests; streams end at once."""

_log = logging.getLogger(__name__)


class Host(Protocol):
    """A host of this process, for its health."""

    @property
    def polled_ms(self) -> int:
        """Return when it last polled."""


class Address(Protocol):
    """The address to listen on."""

    @property
    def host(self) -> str:
        """Return a name or address of this machine."""
        ...

    @property
    def port(self) -> int:
        """Return the port; 0 takes any that is free."""
        ...

    @property
    def health_port(self) -> int:
        """Return the port of health and metrics; 0: none."""
        ...

    @property
    def allow_remote(self) -> bool:
        """Return whether other machines may reach the REST view."""
        ...

    @property
    def has_access_control(self) -> bool:
        """Return whether every request needs a key or a token."""
        ...

    @property
    def allowed_hosts(self) -> tuple[str, ...]:
        """Return the host names of this process, beside the loopback's."""
        ...


class Opened(Protocol):
    """The opened parts of a process, from wiring."""

    publisher: Publisher
    queries: Queries
    operator: Operator
    batches: Batches
    pasts: Pasts
    clock: Clock
    metrics: Metrics

    @property
    def dependencies(self) -> Dependencies:
        """Return the reports of dependencies that this process cannot use now."""
        ...

    @property
    def settings(self) -> Address:
        """Return the address to listen on."""
        ...

    @property
    def hosts(self) -> Sequence[Host]:
        """Return the hosts that run in this process now."""
        ...


class ListenerSettings(NamedTuple):
    """A listener: its name, the settings of its address, and its share of descriptors."""

    name: str
    port_setting: str
    zero: str
    """Meaning of port 0."""
    share: float
    """Share of the process's descriptors; storage, logs and brokers need some, too."""
    host_setting: str = ""
    """Setting of the host; empty where it listens on every address."""


EVERYWHERE = "0.0.0.0"  # noqa: S104 - a probe asks from outside
REST_VIEW = ListenerSettings("REST view", "CHOREO_PORT", "takes any that is free", 1 / 2, "CHOREO_HOST")
HEALTH = ListenerSettings("health and metrics", "CHOREO_HEALTH_PORT", "opens none", 1 / 8)


class _Server(uvicorn.Server):
    """uvicorn's server without signal handlers: the owner of the loop handles signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def serve_app(
    opened: Opened,
    stop: asyncio.Event,
    ready: Callable[[str], None] | None = None,
    *,
    access: AccessControl | None = None,
    create: Callable[[UseCases], FastAPI] = create_app,
) -> None:
    """Serve the parts of an opened process until `stop` is set; raises SettingsError where it cannot listen.

    `access` decides on each request; None: everybody who reaches the address may do everything. `create` makes the
    application: the REST view alone, or with the page.
    """
    settings = opened.settings
    _refuse_remote(settings)
    await serve(
        create(replace(use_cases_of(opened), access=access)), settings.host, settings.port, stop=stop, ready=ready
    )


async def serve_health(opened: Opened, port: int, stop: asyncio.Event, *, reads: bool) -> None:
    """Serve health and metrics on every address until `stop` is set; raises SettingsError where it cannot listen.

    `reads`: whether this process serves or fills the read model.
    """
    app = create_health_app(replace(use_cases_of(opened), reads=reads))
    await serve(app, EVERYWHERE, port, stop=stop, settings_of_listener=HEALTH)


def use_cases_of(opened: Opened) -> UseCases:
    """Return the use cases over an opened process."""
    begun_ms = opened.clock.now_ms()

    def heartbeats() -> Mapping[str, int]:
        # A host that has not polled yet counts as old as the server: it, too, may hang.
        return {
            f"{type(host).__name__} {number}": max(host.polled_ms, begun_ms) for number, host in enumerate(opened.hosts)
        }

    return UseCases(
        flows=opened.queries.flows,
        publisher=opened.publisher,
        operator=opened.operator,
        queries=opened.queries,
        batches=opened.batches,
        pasts=opened.pasts,
        clock=opened.clock,
        heartbeats=heartbeats,
        metrics=opened.metrics,
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
    settings_of_listener: ListenerSettings = REST_VIEW,
    limits: Limits | None = None,
) -> None:
    """Serve until `stop` is set, then let open requests finish; `ready` gets the address once the server answers.

    Raises SettingsError where the address cannot be taken.
    """
    listener = listen(host, port, settings_of_listener)
    limits = limits or Limits.of_process(settings_of_listener.share)
    config = uvicorn.Config(
        app,
        http=partial(Connection, limits=limits),  # type: ignore[arg-type] # makes one
        ws="none",
        backlog=limits.backlog,
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
    use_cases: UseCases = app.state.use_cases
    use_cases.closing.set()
    server.should_exit = True


def listen(host: str, port: int, settings_of_listener: ListenerSettings = REST_VIEW) -> socket.socket:
    """Return a socket that listens there; raises SettingsError with the remedy."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        where = f"{settings_of_listener.name}, {_shown(host)}:{port}"
        raise SettingsError(_why(error), where=where, remedy=_remedy(error, settings_of_listener, port)) from error
    # Connections inherit it; asyncio sets it on its own sockets only. Without it an answer waits 40 ms for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def try_listeners(settings: Address, *, rest: bool) -> None:
    """Try to bind the process's addresses before anything runs; raises SettingsError."""
    if rest:
        _refuse_remote(settings)
        listen(settings.host, settings.port).close()
    if settings.health_port:
        listen(EVERYWHERE, settings.health_port, HEALTH).close()


def _refuse_remote(settings: Address) -> None:
    """Raise SettingsError where other machines could reach the REST view without access control."""
    if settings.allow_remote or settings.has_access_control:
        return
    with listen(settings.host, 0) as bound:
        address = bound.getsockname()[0]
    if not ip_address(address).is_loopback:
        raise SettingsError(
            f"anybody with access to {address} could act through it, because no access control is set",
            where=f"{REST_VIEW.name}, setting host",
            remedy="Set CHOREO_HOST=127.0.0.1; or make keys (choreo keys create) and set CHOREO_API_KEYS; or, where "
            "only permitted clients can reach it, CHOREO_ALLOW_REMOTE=true; and CHOREO_ALLOWED_HOSTS, its host names.",
        )


def _why(error: Exception) -> str:
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return "the port is in use"
    return f"cannot listen there: {getattr(error, 'strerror', None) or error}"


def _remedy(error: Exception, settings_of_listener: ListenerSettings, port: int) -> str:
    other = f"{settings_of_listener.port_setting}={port % 65_535 + 1} (0 {settings_of_listener.zero})"
    causes: dict[Any, str] = {
        errno.EADDRINUSE: f"Stop the program that listens there, or choose another: {other}.",
        errno.EACCES: f"Choose a port above 1023: {settings_of_listener.port_setting}=8080.",
    }
    remedy = causes.get(getattr(error, "errno", None))
    here = f"{settings_of_listener.host_setting}=127.0.0.1, " if settings_of_listener.host_setting else ""
    return remedy or f"Choose an address of this machine: {here}{settings_of_listener.port_setting}=8080."


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
