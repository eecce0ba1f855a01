"""The parts that the REST view needs: the use cases, and the data for the health of the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from choreo.app.metrics import Metrics
from choreo.app.operator.batch_plans import Planner
from choreo.app.operator.batches import Batches
from choreo.app.operator.operator import Operator
from choreo.app.publish.publisher import Publisher
from choreo.app.query.flows import Flows
from choreo.app.query.gauges import Gauges
from choreo.app.query.past import Pasts
from choreo.app.query.queries import Queries
from choreo.core.access import Caller
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies, NoReports
from choreo.surfaces.rest.access_control import CALLER, AccessControl
from choreo.surfaces.rest.masking import Masking

POLL_AGE_S_MAX = 30.0
"""A host polls every 0.25 s and a batch takes well below a second: 30 s without a poll is a host that hangs."""

READ_MODEL_LAG_MAX = 10_000
"""Records: a projector folds at least 6,000 a second, so a read is at most about two seconds old."""

ANSWER_S = 2.0
"""How long a probe or a scrape waits for a store: probes give up after 4 s (`deploy/`), scrapes after 10 s."""


def _no_heartbeats() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True)
class UseCases:
    """The parts behind the routes. `heartbeats`: when each host of this process last polled, in epoch milliseconds."""

    flows: Flows
    publisher: Publisher
    operator: Operator
    queries: Queries
    clock: Clock
    batches: Batches | None = None
    pasts: Pasts | None = None
    heartbeats: Callable[[], Mapping[str, int]] = _no_heartbeats
    metrics: Metrics = field(default_factory=Metrics)
    dependencies: Dependencies = field(default_factory=NoReports)
    poll_age_s_max: float = POLL_AGE_S_MAX
    read_model_lag_max: int = READ_MODEL_LAG_MAX
    reads: bool = True
    """Whether this process serves or fills the read model, so that its lag makes the process unready."""
    answer_s: float = ANSWER_S
    allowed_hosts: tuple[str, ...] = ()
    """Names this process is called by, beside `localhost` and the addresses of the loopback."""
    access: AccessControl | None = None
    """Decides on each request; None: everybody may do everything, as on the loopback."""
    gauges: Gauges = field(init=False)
    """Numbers of the read model and the log, for metrics."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server stops: streams end."""

    @property
    def planner(self) -> Planner:
        """Return the planner of batches."""
        return Planner(self.queries, self.operator.redriver, self.clock)

    def __post_init__(self) -> None:
        """Remember the numbers that are expensive to gather."""
        object.__setattr__(self, "gauges", Gauges(self.queries))


async def _use_cases(request: Request) -> UseCases:
    use_cases: UseCases = request.app.state.use_cases
    return use_cases


Injected = Annotated[UseCases, Depends(_use_cases)]
"""Dependency that gives a route the use cases."""


async def _caller(request: Request) -> Caller:
    caller: Caller = request.scope[CALLER]
    return caller


Asking = Annotated[Caller, Depends(_caller)]
"""Dependency that gives a route its caller."""


async def _masking(request: Request) -> Masking:
    masking: Masking = request.app.state.masking
    return masking


Hiding = Annotated[Masking, Depends(_masking)]
"""Dependency that gives a route the marks of sensitive fields."""
