"""Which adapter stands behind which port, and what runs in a process. The only module that chooses.

`open_app` reads the flows, checks them, opens the home and makes sure the topics exist; `run` starts parts of it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.clock import SteadyClock, SystemClock
from choreo.app.counters import Counters
from choreo.app.dependencies import DependencyReports
from choreo.app.operate import Operator
from choreo.app.pace import Pace
from choreo.app.publish import Publisher
from choreo.app.query import Queries
from choreo.app.query_flows import Flows
from choreo.app.views import attributes_of
from choreo.core.declare import Flow, Service
from choreo.core.definition import FlowDefinition
from choreo.core.errors import ChoreoError, NotFoundError, SettingsError
from choreo.core.events import Envelope
from choreo.hosts.projector import ProjectorHost
from choreo.hosts.step import StepHost
from choreo.hosts.tracker import TrackerHost
from choreo.ports.clock import Clock
from choreo.settings import Settings
from choreo.wiring.any_loop import for_any_loop
from choreo.wiring.dependencies import watch
from choreo.wiring.flows import load_flows

if TYPE_CHECKING:
    from choreo.adapters.memory.home import MemoryHome
    from choreo.adapters.sqlite.home import SqliteHome
    from choreo.wiring.on_kafka import KafkaHome

TRACKER = "tracker"
PROJECTOR = "projector"
REST = "rest"


class Host(Protocol):
    """A loop that runs in a process."""

    polled_ms: int

    async def run(self) -> None:
        """Work until `stop`."""

    async def stop(self) -> None:
        """Let `run` end."""


@dataclass
class App:
    """Everything a process needs, opened. Close it by leaving `open_app`."""

    settings: Settings
    flows: dict[str, Flow]
    definitions: dict[str, FlowDefinition]
    """The checked flows as plain data, durations divided by `settings.time_scale`."""
    home: SqliteHome | MemoryHome | KafkaHome
    codec: AvroCodec
    clock: Clock
    publisher: Publisher
    """This and the next two may be awaited on any loop, in any thread: also in handlers."""
    queries: Queries
    operator: Operator
    counters: Counters = field(default_factory=Counters)
    dependencies: DependencyReports = field(kw_only=True)
    """What this process cannot use now; adapters and hosts report to it, `/readyz` shows it."""
    hosts: list[Host] = field(default_factory=list)
    """What runs in this process, for its health."""
    kafka: KafkaHome | None = None
    """The home, where it is the one on Kafka."""

    @property
    def services(self) -> dict[str, Service]:
        """Every service of every flow, by name."""
        return {service.name: service for flow in self.flows.values() for service in flow.services}

    @property
    def beside(self) -> list[str]:
        """What runs beside the services: the tracker, and on Kafka the projector."""
        return [TRACKER, PROJECTOR] if self.kafka else [TRACKER]

    @property
    def embedded(self) -> SqliteHome | MemoryHome:
        """The home, where it is an embedded one; raises SettingsError."""
        if self.kafka is not None:
            raise SettingsError("this needs the embedded home", where="setting kafka", remedy="Unset CHOREO_KAFKA.")
        return cast("SqliteHome | MemoryHome", self.home)

    def service(self, name: str) -> Service:
        """The service of this name; raises NotFoundError with the names there are."""
        try:
            return self.services[name]
        except KeyError:
            known = ", ".join([*self.services, *self.beside, REST])
            raise NotFoundError(f"no service {name!r}", where="this project", remedy=f"There are: {known}.") from None


@asynccontextmanager
async def open_app(settings: Settings, *, memory: bool = False, clock: Clock | None = None) -> AsyncIterator[App]:
    """The opened parts of one process; `memory=True` keeps log and stores in this process only.

    Raises DeclarationError on a flow that is declared wrong, SettingsError and StorageError on what cannot be opened.
    """
    flows = load_flows(settings.flows)
    definitions = {name: flow.definition.scaled(settings.time_scale) for name, flow in flows.items()}
    clock = clock or SystemClock()
    dependencies = DependencyReports(clock)
    if settings.kafka and not memory:
        from choreo.wiring.on_kafka import open_kafka  # noqa: PLC0415 - optional extras

        kafka = open_kafka(settings, definitions, clock, dependencies)
        try:
            classes = [cls for flow in flows.values() for cls in flow.event_classes.values()]
            codec = await kafka.codec(classes)
            app = _assemble(settings, flows, definitions, kafka, codec, kafka.clock, dependencies)
            app.kafka, app.counters = kafka, kafka.counters
            yield app
        finally:
            await kafka.close()
        return
    from choreo.wiring.embedded import open_embedded  # noqa: PLC0415 - a process on Kafka needs none of it

    steady = SteadyClock(clock)
    home = await open_embedded(settings, definitions, steady, dependencies, memory=memory)
    try:
        codec = AvroCodec(settings.schemas if settings.schemas.is_dir() else None)
        yield _assemble(settings, flows, definitions, home, codec, steady, dependencies)
    finally:
        await home.close()


def _assemble(
    settings: Settings,
    flows: dict[str, Flow],
    definitions: dict[str, FlowDefinition],
    home: SqliteHome | MemoryHome | KafkaHome,
    codec: AvroCodec,
    clock: Clock,
    dependencies: DependencyReports,
) -> App:
    known = Flows(definitions, {name: flow.event_classes for name, flow in flows.items()})
    publisher = Publisher(known, home.log, home.read_model, codec, clock, new_id=lambda: str(uuid.uuid4()))
    # Embedded, lists and work share a loop and a file; on Kafka they meet nowhere.
    pace = None if settings.kafka else Pace(clock)
    queries = Queries(known, home.log, home.read_model, home.dead_letters, codec, clock, pace)
    operator = Operator(known, home.log, home.read_model, home.dead_letters, clock)
    return App(
        settings,
        flows,
        definitions,
        home,
        codec,
        clock,
        for_any_loop(publisher),
        for_any_loop(queries),
        for_any_loop(operator),
        dependencies=dependencies,
    )


def step_hosts(app: App, service: str) -> list[StepHost]:
    """The hosts of a service: one in each flow it takes part in."""
    declared = app.service(service)
    return [
        StepHost(
            declared,
            app.definitions[flow.name],
            app.home.log,
            app.home.inbox(service),
            app.home.dead_letters,
            app.codec,
            app.clock,
            name=worker_name(service),
            concurrency=app.settings.concurrency,
            stop_s=app.settings.stop_s,
            tracebacks=app.settings.tracebacks,
            hold_s=app.kafka.session_s if app.kafka else app.settings.lease_s,
            counters=app.counters,
            dependencies=app.dependencies,
            log_clock=app.kafka.patient_clock if app.kafka else None,
        )
        for flow in app.flows.values()
        if declared in flow.services
    ]


def tracker_hosts(app: App) -> list[Host]:
    """The tracker of each flow."""
    if app.kafka is not None:
        return [app.kafka.tracker(app.definitions[flow], app.counters) for flow in app.flows]
    home = app.embedded
    return [
        TrackerHost(
            app.definitions[flow.name],
            home.log,
            home.states,
            app.clock,
            name=worker_name(TRACKER),
            attributes_of=_attributes_reader(app, flow),
            counters=app.counters,
            dependencies=app.dependencies,
        )
        for flow in app.flows.values()
    ]


def projector_hosts(app: App) -> list[Host]:
    """The projector of each flow, on Kafka; raises NotFoundError on an embedded home, whose tracker does its work."""
    if app.kafka is None:
        raise NotFoundError(
            "the embedded home has no projector", where="role projector", remedy="Its tracker fills the read model."
        )
    return [
        ProjectorHost(
            app.definitions[flow.name],
            app.home.log,
            app.kafka.projections,
            app.clock,
            name=worker_name(PROJECTOR),
            attributes_of=_attributes_reader(app, flow),
            counters=app.counters,
            dependencies=app.dependencies,
        )
        for flow in app.flows.values()
    ]


async def forget_views(app: App, flow: str) -> None:
    """Drop what folding the log again makes anew: at home states and views, on Kafka the views in Redis."""
    if app.kafka is None:
        await app.embedded.states.drop(flow)
    await app.home.read_model.drop(flow)


def worker_name(role: str) -> str:
    """A member's name: unique on this machine and over restarts."""
    return f"{role}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _attributes_reader(app: App, flow: Flow) -> Callable[[Envelope], Mapping[str, str]]:
    start_class: type[Any] = flow.event_classes[app.definitions[flow.name].starts]

    def read(event: Envelope) -> Mapping[str, str]:
        try:
            return attributes_of(app.codec.fields(start_class, event.content_type, event.data))
        except ChoreoError:
            return {}  # the steps that need it say what is wrong with it, as a dead letter

    return read


async def run(app: App, roles: Iterable[str], stop: asyncio.Event) -> None:
    """Run these parts (service names, `tracker`, `rest`) until `stop` is set, then drain and return.

    The first part that fails stops the others; its error is raised.
    """
    _collect_seldom()
    hosts: list[Host] = []
    for role in roles:
        if role == TRACKER:
            hosts += tracker_hosts(app)
        elif role == PROJECTOR:
            hosts += projector_hosts(app)
        elif role != REST:
            hosts += step_hosts(app, role)
    app.hosts.extend(hosts)
    fit = asyncio.create_task(app.kafka.fit(stop) if app.kafka and hosts else _always())
    tasks = [asyncio.create_task(_once(fit, host, stop)) for host in hosts]
    if REST in roles:
        from choreo.surfaces.rest.server import serve_app  # noqa: PLC0415 - an optional extra

        tasks.append(asyncio.create_task(serve_app(app, stop)))
    if app.settings.health_port:
        from choreo.surfaces.rest.server import serve_health  # noqa: PLC0415 - an optional extra

        reads = bool({REST, PROJECTOR if app.kafka else TRACKER} & set(roles))
        tasks.append(asyncio.create_task(serve_health(app, app.settings.health_port, stop, reads=reads)))
    tasks.append(asyncio.create_task(watch(app.home, stop)))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        stopping.cancel()
        # All must have ended before the home is closed under them, also when one has failed.
        ends = await asyncio.gather(*(host.stop() for host in hosts), *tasks, fit, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end


async def _always() -> bool:
    return True


async def _once(fit: asyncio.Task[bool], host: Host, stop: asyncio.Event) -> None:
    if await asyncio.shield(fit) and not stop.is_set():
        await host.run()


def _collect_seldom() -> None:
    """Let the garbage collector look as often as batches end, not as often as events come: a tenth of the CPU time.

    A batch of 500 events makes some 50,000 objects that reference counts free by themselves; cycles are rare.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 10)


def everything(app: App, *, rest: bool = True) -> list[str]:
    """All roles of the project, for one process."""
    return [*app.services, *app.beside, *([REST] if rest else [])]
