"""The world of a simulation: a loop, a cluster, and the processes of a project, which are started, frozen and killed.

Each process has a lane of the loop, a network, a clock and a part of the project's roles, run by the real hosts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from choreo.adapters.avro.codec import AvroCodec
from choreo.app.dependencies import DependencyReports
from choreo.core.declare.flow import Flow
from choreo.core.definition import FlowDefinition
from choreo.core.errors import described
from choreo.hosts.runners.port import Runners
from choreo.ports.tracing import Tracing
from choreo.settings import Settings
from choreo.testing.simulation.backend import ProcessBackend
from choreo.testing.simulation.cluster import SESSION_S, Cluster
from choreo.testing.simulation.lanes import Lane
from choreo.testing.simulation.loop import SimulationLoop, spawn
from choreo.testing.simulation.network import Network
from choreo.testing.simulation.ownership import owned
from choreo.testing.simulation.runners import Meddler, SimulatedRunners
from choreo.wiring import App, Ownership, app_of, everything, hosts_of
from choreo.wiring.hosting import Host

_T = TypeVar("_T")

IDLE_S: float = 43_200.0
"""The longest wait of an idle poll: every event and every timer ends it, and each poll costs turns of the loop."""
CLIENT: str = "client"
"""The process of the clients: it publishes, asks and operates."""


class Project:
    """The flows to be simulated, checked, with the settings of their processes."""

    def __init__(
        self,
        flows: dict[str, Flow],
        definitions: dict[str, FlowDefinition],
        settings: Settings,
        schemas: Path | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Take checked flows; `schemas` is the folder of frozen event classes, `tracing` takes the spans."""
        self.tracing: Tracing | None = tracing
        self.flows: dict[str, Flow] = flows
        self.definitions: dict[str, FlowDefinition] = definitions
        self.settings: Settings = settings
        self.codec: AvroCodec = AvroCodec(schemas)

    @property
    def linger_ms(self) -> int:
        """Return the longest time for which a flow keeps an ended run."""
        return max(flow.linger_ms for flow in self.definitions.values())


class Process:
    """One simulated process."""

    def __init__(self, name: str, roles: Sequence[str], network: Network) -> None:
        """Belong to no world yet."""
        self.name: str = name
        self.roles: Sequence[str] = roles
        self.network: Network = network
        self.lane: Lane = Lane(name)
        self.backend: ProcessBackend
        self.app: App
        self.hosts: list[Host] = []
        self.task: asyncio.Task[None]
        self.is_over: bool = False
        """Whether it was killed, or has ended."""


class World:
    """A cluster and its processes."""

    def __init__(
        self,
        project: Project,
        *,
        seed: object = 0,
        partitions: int = 1,
        is_atomic: bool = False,
        choose_lane: Callable[[int], int] | None = None,
        choose_latency: Callable[[int], int] | None = None,
    ) -> None:
        """Create the topics, with so many partitions each. `choose_...(n)` return numbers below n."""
        self.project: Project = project
        self.seed: object = seed
        self.loop: SimulationLoop = SimulationLoop(choose_lane)
        topics = dict.fromkeys(project.flows, partitions)
        self.cluster: Cluster = Cluster(self.loop, topics, linger_ms=project.linger_ms, is_atomic=is_atomic)
        self.processes: list[Process] = []
        """Every process that was ever started; dead ones are kept, so that nothing of them ends by itself."""
        self.meddler: Callable[[Process], Meddler | None] = lambda _: None
        """Makes the meddler of a process."""
        self.failures: list[str] = []
        """Processes that ended with an error."""
        self._choose_latency = choose_latency
        self._numbers: dict[str, Iterator[int]] = {}
        self._ids = Random(f"ids of {seed}")  # noqa: S311 - chosen by the seed, not secret
        self.client: Process = self.start(CLIENT, ())

    def drive(self, work: Awaitable[_T]) -> _T:
        """Run the world until this is over; return its result."""
        with owned(self.loop, self.seed):
            return self.loop.run_until_complete(work)

    def close(self) -> None:
        """End every process."""
        with owned(self.loop, self.seed):
            self.loop.bury()

    @property
    def alive(self) -> list[Process]:
        """Return the processes with roles that run, or are frozen."""
        return [process for process in self.processes if process.roles and not process.is_over]

    def is_alive(self, name: str) -> bool:
        """Return whether the process of this name was not killed, and has not ended."""
        return any(process.name == name and not process.is_over for process in self.processes)

    def start_all(self) -> None:
        """Start one process for each role of the project."""
        for role in everything(self.client.app, rest=False):
            self.start(role, (role,))

    def start(self, name: str, roles: Sequence[str]) -> Process:
        """Start a process; its name gets a number, which no other of that name has."""
        number = next(self._numbers.setdefault(name, count(1)))
        full_name = f"{name}-{number}" if roles else name
        network = Network(full_name, self._choose_latency) if roles and self._choose_latency else Network(full_name)
        process = Process(full_name, roles, network)
        process.backend = ProcessBackend(self.cluster, network, self.project.codec)
        self.processes.append(process)
        with self._as_outer():
            process.app = _ready(self._app(process))
        if roles:
            process.hosts = []
            process.task = spawn(self.loop, process.lane, self._work(process))
            self.cluster.note(full_name, "started")
        return process

    def kill(self, process: Process) -> None:
        """End a process at once: nothing of it runs any more, and nobody says goodbye to the brokers."""
        process.is_over = True
        self.loop.kill(process.lane)
        self.cluster.note(process.name, "killed")
        self.later(SESSION_S, self.cluster.groups.expel, process.name)

    def freeze(self, process: Process, duration_s: float) -> None:
        """Stop a process for a while, as a machine that swaps does; the brokers may expel it meanwhile."""
        self.loop.freeze(process.lane)
        self.cluster.note(process.name, f"frozen for {duration_s:g} s")
        self.later(SESSION_S, self._expel_frozen, process)
        self.later(duration_s, self._thaw, process)

    async def stop(self, process: Process) -> None:
        """Let a process drain and leave, as an operator does."""
        self.cluster.note(process.name, "asked to stop")
        for host in process.hosts:
            spawn(self.loop, process.lane, host.stop())
        await asyncio.wait((process.task,))

    def later(self, delay_s: float, act: Callable[..., object], *values: Any) -> None:
        """Do something after a while, whatever becomes of the process that asks for it."""
        self.loop.call_later(delay_s, act, *values, context=Context())

    def _expel_frozen(self, process: Process) -> None:
        if process.lane.frozen:
            self.cluster.groups.expel(process.name)

    def _thaw(self, process: Process) -> None:
        if not process.is_over:
            self.cluster.groups.restore(process.name)
            self.loop.thaw(process.lane)
            self.cluster.note(process.name, "goes on")

    async def _app(self, process: Process) -> App:
        names = count(1)

        def runners(_name: str, _concurrency: int, wake: Callable[[], None]) -> Runners:
            return SimulatedRunners(self.meddler(process), wake)

        ownership = Ownership(
            new_id=lambda: f"{self._ids.getrandbits(128):032x}",
            worker_name=lambda role: f"{process.name}/{role}-{next(names)}",
            runners=runners,
            idle_s=IDLE_S,
        )
        project, backend = self.project, process.backend
        reports = DependencyReports(backend.clock)
        app = await app_of(
            project.settings, project.flows, project.definitions, backend, dependencies=reports, owned=ownership
        )
        app.tracing = project.tracing
        return app

    async def _work(self, process: Process) -> None:
        try:
            process.hosts = hosts_of(process.app, process.roles)
            await asyncio.gather(*(host.run() for host in process.hosts))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - kept: a check reports it
            self.failures.append(f"process {process.name} has ended with {described(error)}")
            self.cluster.note(process.name, f"ended with {described(error)}")
        process.is_over = True

    @contextmanager
    def _as_outer(self) -> Iterator[None]:
        """Let parts be made that take the running loop, also between two runs of it."""
        outer = asyncio._get_running_loop()  # noqa: SLF001 - the public one raises where there is none
        asyncio._set_running_loop(self.loop)  # noqa: SLF001 - as "Extending asyncio" says
        try:
            yield
        finally:
            asyncio._set_running_loop(outer)  # noqa: SLF001 - as above


def _ready(work: Awaitable[_T]) -> _T:
    """Return the result of a coroutine that waits for nothing."""
    try:
        work.__await__().send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    message = "the codec of a simulation waits for nothing"
    raise AssertionError(message)


def project_of(flows: Mapping[str, Flow], settings: Settings, tracing: Tracing | None = None) -> Project:
    """Return flows as a project, by their present declaration alone: without frozen versions."""
    from choreo.core.parents import with_parents  # noqa: PLC0415

    definitions = with_parents({name: flow.definition for name, flow in flows.items()})
    return Project(dict(flows), definitions, settings, tracing=tracing)
