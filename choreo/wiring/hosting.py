"""The hosts of a process: the loops of its services, and those that its backend needs beside them, by kind.

Knows hosts and ports. A backend names the kind of host of each of its roles; this module makes each kind.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, cast

from choreo.app.bridge import rules
from choreo.app.metrics import Metrics
from choreo.app.query import readers
from choreo.app.tracking.fold import FieldsOf
from choreo.core.declare.flow import Flow
from choreo.core.errors import NotFoundError, SettingsError
from choreo.core.events import Envelope
from choreo.hosts.bridge import IDLE_S as BRIDGE_IDLE_S
from choreo.hosts.bridge import BridgeHost
from choreo.hosts.projector import IDLE_S as PROJECTOR_IDLE_S
from choreo.hosts.projector import LOOK_MS, ProjectorHost
from choreo.hosts.step.host import StepHost
from choreo.hosts.step.session import IDLE_S as STEP_IDLE_S
from choreo.hosts.tracker import IDLE_S as TRACKER_IDLE_S
from choreo.hosts.tracker import TrackerHost
from choreo.ports.backend import PROJECTOR, TRACKER, ProjectedBackend, StatefulBackend
from choreo.ports.log import BRIDGE_GROUP, service_group
from choreo.wiring.telemetry import attempt_traces, tracker_traces

if TYPE_CHECKING:
    from choreo.adapters.faust.group import FaustBackend
    from choreo.wiring import App

FAUST_IDLE_S = 1.0
"""The longest wait of a poll of the Faust tracker; new records end it. A thread of its own sends the heartbeats."""


POLLS_A_S = 25
"""So often the idle hosts of one role poll in all: a process with many flows lets each of them wait longer."""
IDLE_MOST_S = 2.0
"""The longest wait of a poll that many flows make longer: as long as the wait of a quiet consumer's thread."""
LOOKS_A_S = 5
"""So often the projectors of one process in all compare their positions with the store's."""


def calm_s(own_s: float, hosts: int) -> float:
    """Return the longest wait of a poll of each of so many hosts: `own_s`, the host's own, where they are few."""
    return max(own_s, min(IDLE_MOST_S, hosts / POLLS_A_S))


class Host(Protocol):
    """A loop that runs in a process."""

    @property
    def polled_ms(self) -> int:
        """Return when it last polled, or reported a dependency."""

    @property
    def metrics(self) -> Metrics:
        """Return the metrics that it adds to; their labels name it."""

    async def run(self) -> None:
        """Work until `stop`."""

    async def stop(self) -> None:
        """Let `run` end."""


def step_hosts(app: App, service: str) -> list[StepHost]:
    """Return the hosts of a service: one for each flow that it takes part in."""
    parts = {flow.name: part for flow in app.flows.values() for part in flow.services if part.name == service}
    if not parts:
        app.service(service)  # raises
    # The flows share an inbox: a row that one of them needs the others must not drop.
    linger_ms = max((app.definitions[flow].linger_ms for flow in parts), default=0)
    return [
        StepHost(
            part,
            app.definitions[flow],
            app.backend.log,
            app.backend.inbox(service_group(service, app.settings.build)),
            app.backend.dead_letters,
            app.codec,
            app.clock,
            name=app.owned.worker_name(service),
            concurrency=app.settings.concurrency,
            stop_s=app.settings.stop_s,
            tracebacks=app.settings.tracebacks,
            lease_s=app.backend.lease_s,
            metrics=app.metrics.labelled(flow=flow, service=part.name, role=part.name),
            dependencies=app.dependencies,
            log_clock=app.backend.deadline_clock,
            linger_ms=linger_ms,
            traces=attempt_traces(app, flow, part.name),
            runners=app.owned.runners,
            idle_s=app.owned.idle_s or calm_s(STEP_IDLE_S, len(parts)),
            build=app.settings.build,
        )
        for flow, part in parts.items()
    ]


def role_hosts(app: App, role: str) -> list[Host]:
    """Return the hosts of a role beside the services, one for each flow. Raises NotFoundError."""
    kind = app.backend.roles.get(role)
    if kind is None:
        known = ", ".join(app.backend.roles)
        raise NotFoundError(f"this backend has no {role}", where=f"role {role}", remedy=f"Its roles are: {known}.")
    return [KINDS[kind](app, flow) for flow in app.flows.values()]


def bridge_hosts(app: App) -> list[Host]:
    """Return the bridge's hosts, one for each flow that has something for other logs. Raises SettingsError."""
    found = rules(app.flows, app.definitions, app.codec)
    if not found:
        raise SettingsError(
            "no flow of this project has anything for another one's log",
            where=f"role {BRIDGE_GROUP}",
            remedy="Declare it with flow.carries(Event, to=other) or @service.children, or leave this role out.",
        )
    return [
        BridgeHost(
            flow,
            of_flow,
            app.backend.log,
            app.clock,
            name=app.owned.worker_name(BRIDGE_GROUP),
            metrics=app.metrics.labelled(flow=flow, role=BRIDGE_GROUP),
            dependencies=app.dependencies,
            idle_s=app.owned.idle_s or calm_s(BRIDGE_IDLE_S, len(found)),
        )
        for flow, of_flow in found.items()
    ]


def worker_name(role: str) -> str:
    """Return a consumer's name, unique on this machine and over restarts."""
    return f"{role}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _tracker(app: App, flow: Flow) -> Host:
    """Return a tracker that writes its states in the transaction of its commits."""
    backend = cast("StatefulBackend", app.backend)
    return TrackerHost(
        app.definitions[flow.name],
        backend.log,
        backend.states,
        app.clock,
        name=app.owned.worker_name(TRACKER),
        attributes_of=attributes_reader(app, flow),
        fields_of=fields_reader(app, flow),
        read_model=backend.read_model,
        traces=tracker_traces(app, flow.name),
        metrics=app.metrics.labelled(flow=flow.name, role=TRACKER),
        dependencies=app.dependencies,
        idle_s=app.owned.idle_s or TRACKER_IDLE_S,
    )


def _faust_tracker(app: App, flow: Flow) -> Host:
    """Return a tracker that gets its records and states by Faust."""
    from choreo.adapters.faust.group import FaustGroup  # noqa: PLC0415 - optional extras
    from choreo.adapters.faust.options import FaustOptions  # noqa: PLC0415

    backend = cast("FaustBackend", app.backend)
    options = FaustOptions(
        backend.bootstrap,
        backend.data,
        prefix=backend.options.prefix,
        settings=dict(backend.options.settings),
        flows=len(app.definitions),
    )
    group = FaustGroup(
        flow.name,
        backend.log,
        backend.dead_letters,
        app.clock,
        options=options,
        read=backend.event_of,
        observe=backend.log.log_time.read,
        count=app.metrics.labelled(flow=flow.name, role=TRACKER).add,
        dependencies=app.dependencies,
    )
    return TrackerHost(
        app.definitions[flow.name],
        backend.log,
        group,
        app.clock,
        name=app.owned.worker_name(TRACKER),
        fields_of=fields_reader(app, flow),
        metrics=app.metrics.labelled(flow=flow.name, role=TRACKER),
        dependencies=app.dependencies,
        traces=tracker_traces(app, flow.name),
        join=group.join,
        is_waiting=group.is_waiting,
        idle_s=calm_s(FAUST_IDLE_S, len(app.flows)),
    )


def _projector(app: App, flow: Flow) -> Host:
    """Return a projector, which fills the read model from the log."""
    backend = cast("ProjectedBackend", app.backend)
    return ProjectorHost(
        app.definitions[flow.name],
        backend.log,
        backend.projections,
        app.clock,
        name=app.owned.worker_name(PROJECTOR),
        attributes_of=attributes_reader(app, flow),
        fields_of=fields_reader(app, flow),
        metrics=app.metrics.labelled(flow=flow.name, role=PROJECTOR),
        dependencies=app.dependencies,
        idle_s=app.owned.idle_s or calm_s(PROJECTOR_IDLE_S, len(app.flows)),
        look_ms=max(LOOK_MS, 1_000 * len(app.flows) // LOOKS_A_S),
    )


KINDS: Mapping[str, Callable[[App, Flow], Host]] = {
    "log": _tracker,
    "faust": _faust_tracker,
    "projector": _projector,
}
"""The function that makes each kind of host in `Backend.roles`."""


def attributes_reader(app: App, flow: Flow) -> Callable[[Envelope], Mapping[str, str]]:
    """Return a function that gives the filterable fields of a start event; none of an unreadable one."""
    return readers.attributes_reader(app.codec, flow.event_classes[app.definitions[flow.name].starts])


def fields_reader(app: App, flow: Flow) -> FieldsOf:
    """Return a function that gives the fields of an event of this flow as Python values, for its conditions."""
    return readers.fields_reader(app.codec, flow.event_classes)
