"""Which adapter stands behind which port, and what runs in a process. The only module that chooses.

`open_app` reads the flows, checks them, opens the home and makes sure the topics exist; `run` starts parts of it.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.clock import SystemClock
from choreo.adapters.memory.home import MemoryHome
from choreo.adapters.sqlite.home import SqliteHome
from choreo.adapters.topics_yaml import load_topics
from choreo.app.counters import Counters
from choreo.app.operate import Operator
from choreo.app.publish import Publisher
from choreo.app.query import Queries
from choreo.app.query_flows import Flows
from choreo.app.views import attributes_of
from choreo.core.declare import Flow, Service
from choreo.core.definition import FlowDefinition
from choreo.core.errors import ChoreoError, NotFoundError, SettingsError
from choreo.core.events import Envelope
from choreo.hosts.step import StepHost
from choreo.hosts.tracker import TrackerHost
from choreo.ports.clock import Clock
from choreo.settings import Settings

TRACKER = "tracker"
REST = "rest"


@dataclass
class App:
    """Everything a process needs, opened. Close it by leaving `open_app`."""

    settings: Settings
    flows: dict[str, Flow]
    definitions: dict[str, FlowDefinition]
    """The checked flows as plain data, durations divided by `settings.time_scale`."""
    home: SqliteHome | MemoryHome
    codec: AvroCodec
    clock: Clock
    publisher: Publisher
    queries: Queries
    operator: Operator
    counters: Counters = field(default_factory=Counters)
    hosts: list[StepHost | TrackerHost] = field(default_factory=list)
    """What runs in this process, for its health."""

    @property
    def services(self) -> dict[str, Service]:
        """Every service of every flow, by name."""
        return {service.name: service for flow in self.flows.values() for service in flow.services}

    def service(self, name: str) -> Service:
        """The service of this name; raises NotFoundError with the names there are."""
        try:
            return self.services[name]
        except KeyError:
            known = ", ".join([*self.services, TRACKER, REST])
            raise NotFoundError(f"no service {name!r}", where="this project", remedy=f"There are: {known}.") from None


def load_flows(names: Iterable[str]) -> dict[str, Flow]:
    """Import the flows named `module:name`, relative to the current folder; raises SettingsError with the remedy."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    flows: dict[str, Flow] = {}
    for name in names:
        flow = _load_flow(name)
        if flow.name in flows:
            raise SettingsError(
                f"two flows are called {flow.name!r}", where="setting flows", remedy="Give each flow a name of its own."
            )
        flows[flow.name] = flow
    if not flows:
        raise SettingsError(
            "no flow is named",
            where="setting flows",
            remedy="Run this in a project's folder (`choreo new shop` makes one), or name one: "
            'flows = ["module:name"] under [tool.choreo] in pyproject.toml.',
        )
    return flows


def _load_flow(name: str) -> Flow:
    module_name, _, attribute = name.partition(":")
    where, remedy = f"setting flows, {name!r}", "Write module:name, as in services.order_flow:order."
    if not module_name or not attribute:
        raise SettingsError("it names no flow", where=where, remedy=remedy)
    try:
        flow = getattr(importlib.import_module(module_name), attribute)
    except ChoreoError:
        raise
    except ImportError as error:
        raise SettingsError(f"it cannot be imported: {error}", where=where, remedy=remedy) from error
    except AttributeError as error:
        raise SettingsError(f"{module_name} has no {attribute!r}", where=where, remedy=remedy) from error
    if not isinstance(flow, Flow):
        raise SettingsError(f"it is a {type(flow).__name__}, not a Flow", where=where, remedy=remedy)
    return flow


@asynccontextmanager
async def open_app(settings: Settings, *, memory: bool = False, clock: Clock | None = None) -> AsyncIterator[App]:
    """The opened parts of one process; `memory=True` keeps log and stores in this process only.

    Raises DeclarationError on a flow that is declared wrong, SettingsError and StorageError on what cannot be opened.
    """
    flows = load_flows(settings.flows)
    definitions = {name: flow.definition.scaled(settings.time_scale) for name, flow in flows.items()}
    clock = clock or SystemClock()
    home = (
        MemoryHome(clock, lease_s=settings.lease_s)
        if memory
        else await SqliteHome.open(
            settings.database, synchronous=settings.synchronous, clock=clock, lease_s=settings.lease_s
        )
    )
    try:
        await _create_topics(settings, home, definitions)
        codec = AvroCodec(settings.schemas if settings.schemas.is_dir() else None)
        yield _assemble(settings, flows, definitions, home, codec, clock)
    finally:
        await home.close()


async def _create_topics(
    settings: Settings, home: SqliteHome | MemoryHome, definitions: Mapping[str, FlowDefinition]
) -> None:
    topics = load_topics(settings.topics) if settings.topics.is_dir() else {}
    for name in definitions:
        await home.log.create(name, topics[name].partitions if name in topics else settings.partitions)


def _assemble(
    settings: Settings,
    flows: dict[str, Flow],
    definitions: dict[str, FlowDefinition],
    home: SqliteHome | MemoryHome,
    codec: AvroCodec,
    clock: Clock,
) -> App:
    known = Flows(definitions, {name: flow.event_classes for name, flow in flows.items()})
    publisher = Publisher(known, home.log, home.read_model, codec, clock, new_id=lambda: str(uuid.uuid4()))
    queries = Queries(known, home.log, home.read_model, home.dead_letters, codec, clock)
    operator = Operator(known, home.log, home.read_model, home.dead_letters, clock)
    return App(settings, flows, definitions, home, codec, clock, publisher, queries, operator)


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
            counters=app.counters,
        )
        for flow in app.flows.values()
        if declared in flow.services
    ]


def tracker_hosts(app: App) -> list[TrackerHost]:
    """The tracker of each flow."""
    return [
        TrackerHost(
            app.definitions[flow.name],
            app.home.log,
            app.home.states,
            app.clock,
            name=worker_name(TRACKER),
            attributes_of=_attributes_reader(app, flow),
            counters=app.counters,
        )
        for flow in app.flows.values()
    ]


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
    hosts: list[StepHost | TrackerHost] = []
    for role in roles:
        if role == TRACKER:
            hosts += tracker_hosts(app)
        elif role != REST:
            hosts += step_hosts(app, role)
    app.hosts.extend(hosts)
    tasks = [asyncio.create_task(host.run()) for host in hosts]
    if REST in roles:
        from choreo.surfaces.rest.server import serve_app  # noqa: PLC0415 - an optional extra

        tasks.append(asyncio.create_task(serve_app(app, stop)))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        stopping.cancel()
        # All must have ended before the home is closed under them, also when one has failed.
        ends = await asyncio.gather(*(host.stop() for host in hosts), *tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end


def _collect_seldom() -> None:
    """Let the garbage collector look as often as batches end, not as often as events come: a tenth of the CPU time.

    A batch of 500 events makes some 50,000 objects that reference counts free by themselves; cycles are rare.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 10)


def everything(app: App, *, rest: bool = True) -> list[str]:
    """All roles of the project, for one process."""
    return [*app.services, TRACKER, *([REST] if rest else [])]
