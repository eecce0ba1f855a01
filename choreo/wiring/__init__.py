"""The parts of a process, connected: `open_app` reads the flows, checks them and opens the backend; `run` starts roles.

The choice of a backend and of a host stands in `backends` and `hosting`.
"""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from choreo.adapters import frozen_flows
from choreo.adapters.clock import SystemClock
from choreo.app.dependencies import DependencyReports
from choreo.app.log_context import HOST
from choreo.app.metrics import Metrics
from choreo.app.operator.batches import Batches
from choreo.app.operator.operator import Operator
from choreo.app.pace import Pace
from choreo.app.publish.publisher import Publisher
from choreo.app.query.flows import Flows
from choreo.app.query.installation import Installation
from choreo.app.query.past import Pasts
from choreo.app.query.queries import Queries
from choreo.app.query.readers import attributes_of_flows, fields_of_flows
from choreo.core.declare.flow import Flow
from choreo.core.declare.steps import Service
from choreo.core.definition import FlowDefinition
from choreo.core.errors import NotFoundError
from choreo.core.parents import with_parents
from choreo.hosts.runners.port import RunnersFactory
from choreo.hosts.runners.runners import ThreadedRunners
from choreo.ports.backend import PROJECTOR, TRACKER, Backend
from choreo.ports.clock import Clock
from choreo.ports.codec import Codec
from choreo.ports.log import BRIDGE_GROUP
from choreo.ports.tracing import Tracing
from choreo.settings import Settings
from choreo.wiring.access import access_control
from choreo.wiring.any_loop import for_any_loop
from choreo.wiring.backends import open_backend
from choreo.wiring.dependencies import watch
from choreo.wiring.flows import load_flows
from choreo.wiring.group_watch import watch_groups
from choreo.wiring.hosting import Host, bridge_hosts, role_hosts, step_hosts, worker_name
from choreo.wiring.telemetry import open_tracing, send_metrics
from choreo.wiring.versions import with_frozen

__all__ = [
    "BRIDGE",
    "PROJECTOR",
    "REST",
    "TRACKER",
    "App",
    "Ownership",
    "app_of",
    "definitions_of",
    "everything",
    "hosts_of",
    "open_app",
    "run",
]

BRIDGE = BRIDGE_GROUP
REST = "rest"


def _new_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Ownership:
    """Parts that a process takes from the machine: chance, threads, idle waiting. A simulation gives others."""

    new_id: Callable[[], str] = _new_id
    """Makes the id of an event from outside."""
    worker_name: Callable[[str], str] = worker_name
    """Makes the name of a role's consumer, which is unique over restarts."""
    runners: RunnersFactory = ThreadedRunners
    """Makes the runners that call a service's handlers."""
    idle_s: float | None = None
    """The longest wait of a poll; None: each host's own."""


@dataclass
class App:
    """The opened parts of a process. Close it by leaving `open_app`."""

    settings: Settings
    flows: dict[str, Flow]
    definitions: dict[str, FlowDefinition]
    """The checked flows as plain data, durations divided by `settings.time_scale`."""
    backend: Backend
    codec: Codec
    clock: Clock
    publisher: Publisher
    """Publisher, queries and operator may be awaited on any loop, in any thread: also in handlers."""
    queries: Queries
    operator: Operator
    batches: Batches = field(kw_only=True)
    pasts: Pasts = field(kw_only=True)
    metrics: Metrics = field(default_factory=Metrics)
    dependencies: DependencyReports = field(kw_only=True)
    """Reports of adapters and hosts: all dependencies that this process cannot use now. `/readyz` shows them."""
    hosts: list[Host] = field(default_factory=list)
    """Hosts that run in this process, for its health."""
    owned: Ownership = field(default_factory=Ownership)
    tracing: Tracing | None = None
    """The spans of this process go there; None: nowhere."""

    @property
    def services(self) -> dict[str, Service]:
        """Return every service of every flow, by name, with all its steps."""
        return {service.name: service.whole for flow in self.flows.values() for service in flow.services}

    @property
    def beside(self) -> list[str]:
        """Return the roles that run beside the services; the last one fills the read model."""
        crosses = any(definition.crosses for definition in self.definitions.values())
        return [*([BRIDGE] if crosses else []), *self.backend.roles]

    def service(self, name: str) -> Service:
        """Return the service of this name. Raises NotFoundError with the known names."""
        try:
            return self.services[name]
        except KeyError:
            known = ", ".join([*self.services, *self.beside, REST])
            raise NotFoundError(f"no service {name!r}", where="this project", remedy=f"There are: {known}.") from None


LISTS_AT_ONCE = 3
"""Lists that run together where the stores are on a server: with 16 clients an order takes 0.97 of its time without
them, and they get half of the lists that they would without turns; with one at once a sixth (bench.lists --kafka)."""


@asynccontextmanager
async def open_app(
    settings: Settings, *, memory: bool = False, clock: Clock | None = None, tracing: Tracing | None = None
) -> AsyncIterator[App]:
    """Open the parts of one process; `memory=True` keeps log and stores in this process only.

    `tracing` takes the spans in place of the collector that the settings name.

    Raises DeclarationError on a wrong declaration of a flow, SettingsError and StorageError on a failed opening.
    """
    flows = load_flows(settings.flows)
    definitions = definitions_of(flows, settings)
    clock = clock or SystemClock()
    dependencies = DependencyReports(clock)
    metrics = Metrics()
    collector = open_tracing(settings) if tracing is None else None
    backend = await open_backend(settings, definitions, clock, dependencies, metrics.put, memory=memory)
    try:
        app = await app_of(settings, flows, definitions, backend, dependencies=dependencies, metrics=metrics)
        app.tracing = tracing or collector
        yield app
    finally:
        await backend.close()
        if collector is not None:
            await asyncio.to_thread(collector.close)


def definitions_of(flows: Mapping[str, Flow], settings: Settings) -> dict[str, FlowDefinition]:
    """Return the checked flows as plain data, with their frozen versions, durations divided by the time scale."""
    frozen = frozen_flows.read(settings.schemas)
    whole = {name: with_frozen(flow.definition, frozen, settings.schemas) for name, flow in flows.items()}
    return with_parents({name: each.scaled(settings.time_scale) for name, each in whole.items()})


async def app_of(
    settings: Settings,
    flows: dict[str, Flow],
    definitions: dict[str, FlowDefinition],
    backend: Backend,
    *,
    dependencies: DependencyReports,
    metrics: Metrics | None = None,
    owned: Ownership | None = None,
) -> App:
    """Return the connected parts of one process on an opened backend. Raises SchemaError, StorageError."""
    owned = owned or Ownership()
    codec = await backend.codec([cls for flow in flows.values() for cls in flow.event_classes.values()])
    known = Flows(definitions, {name: flow.event_classes for name, flow in flows.items()})
    build = settings.build
    reads = (known, backend.log, backend.read_model)
    publisher = Publisher(*reads, codec, backend.clock, new_id=owned.new_id, build=build)
    pace = Pace(backend.clock, at_once=1 if backend.shares_loop else LISTS_AT_ONCE)
    stores = (backend.log, backend.read_model, backend.dead_letters)
    steps = {name: flow.steps for name, flow in flows.items()}
    queries = Queries(known, *stores, codec, backend.clock, pace, steps=steps, build=build)
    operator = Operator(known, *stores, backend.clock, codec)
    return App(
        settings,
        flows,
        definitions,
        backend,
        codec,
        backend.clock,
        for_any_loop(publisher),
        for_any_loop(queries),
        for_any_loop(operator),
        metrics or Metrics(),
        pasts=Pasts(
            known,
            Installation(*stores, backend.clock, backend.place),
            codec,
            attributes_of_flows(codec, known),
            fields_of_flows(codec, known),
        ),
        batches=Batches(known, *stores, backend.notes, backend.clock, owned.new_id),
        dependencies=dependencies,
        owned=owned,
    )


def hosts_of(app: App, roles: Iterable[str]) -> list[Host]:
    """Return the hosts of these roles: service names, and those beside them; the REST view has none."""
    hosts: list[Host] = []
    for role in roles:
        if role in (TRACKER, PROJECTOR):
            hosts += role_hosts(app, role)
        elif role == BRIDGE:
            hosts += bridge_hosts(app)
        elif role != REST:
            hosts += step_hosts(app, role)
    return hosts


async def run(app: App, roles: Sequence[str], stop: asyncio.Event, announce: Callable[[], None] | None = None) -> None:
    """Run these roles (service names, `tracker`, `rest`) until `stop` is set, then drain and return.

    `announce` is called once the roles run and the REST view, where it is among them, can be asked. The first role that
    fails stops the others; its error is raised.
    """
    _collect_seldom()
    access = access_control(app.settings, app.clock) if REST in roles else None
    hosts = hosts_of(app, roles)
    app.hosts.extend(hosts)
    ready = asyncio.create_task(app.backend.ready(stop) if hosts else _always())
    tasks = [asyncio.create_task(_once(ready, host, stop)) for host in hosts]
    if REST in roles:
        from choreo.surfaces.rest.server import serve_app  # noqa: PLC0415 - an optional extra
        from choreo.surfaces.web import create_site  # noqa: PLC0415

        listens = (lambda _address: announce()) if announce else None
        tasks.append(asyncio.create_task(serve_app(app, stop, listens, access=access, create=create_site)))
        tasks.append(asyncio.create_task(app.batches.work(stop)))
        tasks.append(asyncio.create_task(watch_groups(app.queries, app.clock, stop)))
    if app.settings.health_port:
        from choreo.surfaces.rest.server import serve_health  # noqa: PLC0415 - an optional extra

        reads = bool({REST, app.beside[-1]} & set(roles))
        tasks.append(asyncio.create_task(serve_health(app, app.settings.health_port, stop, reads=reads)))
    tasks.append(asyncio.create_task(watch(app.backend, stop)))
    tasks.append(asyncio.create_task(send_metrics(app, stop)))
    stopping = asyncio.create_task(stop.wait())
    try:
        if announce and REST not in roles:
            announce()
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        app.dependencies.end()
        stop.set()
        stopping.cancel()
        # All must have ended before the backend is closed under them, also when one has failed.
        ends = await asyncio.gather(*(host.stop() for host in hosts), *tasks, ready, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end


async def _always() -> bool:
    return True


async def _once(ready: asyncio.Task[bool], host: Host, stop: asyncio.Event) -> None:
    if await asyncio.shield(ready) and not stop.is_set():
        HOST.set(host.metrics.labels)
        await host.run()


def _collect_seldom() -> None:
    """Let the garbage collector look as often as batches end, not as often as events come: a tenth of the CPU time.

    A batch of 500 events makes some 50,000 objects that reference counts free by themselves; cycles are rare.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 10)


def everything(app: App, *, rest: bool = True) -> list[str]:
    """Return all roles of the project, for one process."""
    return [*app.services, *app.beside, *([REST] if rest else [])]
