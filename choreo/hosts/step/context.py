"""Context of one step host: the service and flow, the ports, and its memory of runs, gates and deferred retries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from choreo.app.metrics import Metrics
from choreo.app.steps.deferred_retries import DeferredRetries
from choreo.app.steps.gate_choice import gates_of
from choreo.app.steps.gates import GateBook
from choreo.app.steps.handlers import Handlers
from choreo.app.steps.outcomes import OutcomeFactory, StepRules
from choreo.app.steps.runs import Runs
from choreo.app.tracing import AttemptTraces
from choreo.core.declare.steps import Service
from choreo.core.definition import FlowDefinition
from choreo.core.flow_table import FlowTable
from choreo.ports.clock import Clock
from choreo.ports.codec import Codec
from choreo.ports.dead_letters import DeadLetters
from choreo.ports.dependencies import Dependencies
from choreo.ports.inbox import AttemptLease, Inbox
from choreo.ports.log import Log, service_group


class Ports(NamedTuple):
    """The ports of a step host; the inbox is the service's."""

    log: Log
    inbox: Inbox
    dead_letters: DeadLetters
    codec: Codec
    clock: Clock
    log_clock: Clock
    """Judges whether a deadline has passed before an attempt begins."""


@dataclass(frozen=True)
class HostContext:
    """One service in one flow, in one process. Set once; only `runs`, `gates` and `deferred` learn from records."""

    service: Service
    table: FlowTable
    ports: Ports
    lease: AttemptLease
    """The lease that this host's attempts are begun with."""
    metrics: Metrics
    dependencies: Dependencies
    handlers: Handlers
    runs: Runs
    gates: GateBook
    deferred: DeferredRetries
    factory: OutcomeFactory
    rules: StepRules
    linger_ms: int
    """How long the inbox keeps a run after its end: it belongs to the service, which may be in several flows."""
    traces: AttemptTraces | None = None
    """Makes the spans of attempts; None without tracing."""
    build: str = ""
    """The build whose runs this host takes; it skips all others."""

    @property
    def topic(self) -> str:
        """Return the flow's topic."""
        return self.table.flow.name

    @property
    def group(self) -> str:
        """Return the consumer group: the hosts of each build have one of their own."""
        return service_group(self.service.name, self.build)


def context_of(
    service: Service,
    flow: FlowDefinition,
    ports: Ports,
    lease: AttemptLease,
    metrics: Metrics,
    dependencies: Dependencies,
    *,
    tracebacks: bool,
    linger_ms: int = 0,
    traces: AttemptTraces | None = None,
    build: str = "",
) -> HostContext:
    """Return the context of a service's host in a flow, which may be scaled. `tracebacks`: see `OutcomeFactory`."""
    table = FlowTable(flow)
    handlers = Handlers(service, table)
    factory = OutcomeFactory(flow.name, service.name, ports.codec, key=flow.key, tracebacks=tracebacks)
    return HostContext(
        service=service,
        table=table,
        ports=ports,
        lease=lease,
        metrics=metrics,
        dependencies=dependencies,
        handlers=handlers,
        runs=Runs(),
        gates=gates_of(table, handlers, ports.inbox),
        deferred=DeferredRetries(),
        factory=factory,
        rules=StepRules(factory),
        linger_ms=max(flow.linger_ms, linger_ms),
        traces=traces,
        build=build,
    )
