"""Play one run in virtual time: a route of a flow, with the strike of a cell or without any."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from choreo.core.errors import ChoreoError
from choreo.core.state import STUCK
from choreo.hosts.runners.port import Attempt
from choreo.testing.books import Books
from choreo.testing.fault_matrix import judging
from choreo.testing.fault_matrix.cells import Cell
from choreo.testing.fault_matrix.hosts import watch
from choreo.testing.fault_matrix.strikes import Strike
from choreo.testing.fault_matrix.table import FAULTS
from choreo.testing.simulation import flow_story
from choreo.testing.simulation.acts import ACTS
from choreo.testing.simulation.conductor import Act, Conductor
from choreo.testing.simulation.hooks import Hooks
from choreo.testing.simulation.plan import Action, Plan
from choreo.testing.simulation.runners import Meddler
from choreo.testing.simulation.world import Process, Project, World

CANCEL = "cancel-after"
"""An action: an operator cancels the run once an event stands in the log. Its target is "key type"."""
RETRY = "compensation-retry"


class Route(msgspec.Struct, frozen=True):
    """A run without the fault of a cell: its start, its outside events, its declared failures."""

    text: str
    plan: Plan
    flow: str
    is_varied: bool = False
    """Whether it is another run than that of a start event which is answered as usual."""


class Play(msgspec.Struct, frozen=True):
    """One run that was played."""

    ends: str
    """The statuses of its runs: "completed", or "completed, compensated" of a parent and a child."""
    faults: tuple[str, ...] = ()
    """Broken promises."""
    declared: tuple[str, ...] = ()
    """Effects that stay in doubt by the declaration of the flow."""
    called: tuple[tuple[str, bool], ...] = ()
    """Every call of a handler, in order: step, and whether it was its compensation."""
    hits: int = 0
    passages: int = 0
    deaths: int = 0
    timeline: str = ""
    is_late: bool = False
    """Whether the process went on after its run was given up."""


class Players:
    """Plays runs of one project."""

    def __init__(self, project: Project, hooks: Hooks) -> None:
        """Take checked flows and the project's hooks."""
        self.project = project
        self.hooks = hooks

    def play(
        self, route: Route, cell: Cell | None = None, *, times: int = 1, deaths: int = 0, expected: str = ""
    ) -> Play:
        """Play a route; the fault of the cell strikes `times`, and the process dies at as many later passages.

        `expected`: the end that the run must have.
        """
        with _prepared(self.hooks):
            world = World(self.project, seed=route.plan.seed)
            try:
                return self._driven(world, route, cell, times, deaths, expected)
            finally:
                world.close()

    def _driven(self, world: World, route: Route, cell: Cell | None, times: int, deaths: int, expected: str) -> Play:
        is_undo = cell is not None and FAULTS[cell.fault].undo
        conductor = MatrixConductor(world, route.plan, self.hooks, retries=is_undo)
        if cell is not None:
            conductor.strike = Strike(cell, conductor, times=times, deaths=deaths)
        try:
            world.drive(conductor.conduct())
            stuck = conductor.was_stuck
            judged = world.drive(judging.judged(conductor, self.hooks, cell, expected, was_stuck=stuck))
        except ChoreoError as error:
            judged = judging.Judgement((f"the simulation could not go on: {error}",), "")
        strike = conductor.strike
        return Play(
            ends=judged.ends,
            faults=judged.faults,
            declared=judged.declared,
            called=tuple(conductor.called),
            hits=strike.hits if strike else 0,
            passages=strike.passages if strike else 0,
            deaths=strike.died if strike else 0,
            timeline=_story(world) if judged.faults else "",
            is_late=strike is not None and strike.is_late,
        )


class MatrixConductor(Conductor):
    """A conductor with one run and at most one strike."""

    def __init__(self, world: World, plan: Plan, hooks: Hooks, *, retries: bool) -> None:
        """Start nothing yet. `retries`: operators retry failed compensations at the end."""
        super().__init__(world, plan, hooks, [RETRY] if retries else [], _ACTS)
        self.strike: Strike | None = None
        self.called: list[tuple[str, bool]] = []
        self.was_stuck: bool = False
        """Whether a run was stuck before an operator retried its compensations."""

    def chance(self, of: str) -> Random:
        """Return the chance of one event: small numbers in every other sample, as most limits are high."""
        return Random(of) if self.plan.seed % 2 else _Small(of)  # noqa: S311 - chosen by the sample

    def _meddler(self, process: Process) -> Meddler:
        return _Between(self, process, super()._meddler(process))

    def _watch(self, process: Process) -> None:
        super()._watch(process)
        if self.strike is not None:
            watch(self.strike, process)

    def _start_all(self) -> None:
        super()._start_all()
        if self.strike is not None:
            watch(self.strike, self.world.client)

    async def _retry_compensations(self) -> None:
        self.was_stuck = any(row.status == STUCK for row in await self.rows())
        await super()._retry_compensations()


class _Small(Random):
    """Chance that makes small numbers."""

    def randint(self, a: int, b: int) -> int:
        """Return one of the ten smallest numbers."""
        return super().randint(a, min(b, a + 9))


class _Between:
    def __init__(self, conductor: MatrixConductor, process: Process, inner: Meddler) -> None:
        self._conductor = conductor
        self._process = process
        self._inner = inner

    async def call(self, attempt: Attempt, handler: Callable[[], Awaitable[Any]]) -> Any:
        """Call a handler with the faults of the route, and those of the cell around them."""
        conductor = self._conductor
        conductor.called.append((attempt.spec.step, attempt.spec.undo))

        strike = conductor.strike
        if strike is None:
            return await self._inner.call(attempt, handler)

        def struck() -> Awaitable[Any]:  # within the checks of calls: the fault is a part of the call
            return strike.call(self._process, attempt, handler, handler)

        return await self._inner.call(attempt, struck)


async def cancel_after(conductor: Conductor, action: Action) -> None:
    """Cancel a run once an event stands in its log."""
    key, type_ = action.target.split(" ")
    while not any(record.event.type == type_ for record in conductor.records(action.flow, key)):
        await conductor.world.cluster.groups.listen(action.flow, frozenset({type_}))
    operator = conductor.world.client.app.operator
    if await conductor.accepted(operator.cancel(action.flow, key, reason="the route cancels it")):
        conductor.world.cluster.note("client", "cancel", key)


_ACTS: dict[str, Act] = {**ACTS, CANCEL: cancel_after}


@contextmanager
def _prepared(hooks: Hooks) -> Iterator[None]:
    """Give the gateways empty books, and keep the hosts' log silent."""
    folder = Path(tempfile.mkdtemp(prefix="choreo-fault-matrix-"))
    muted = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # planned faults fill the log of the hosts; the timeline shows them
    try:
        for book in Books.opened:
            book.clear()
        hooks.prepare(folder)
        yield
    finally:
        logging.disable(muted)
        shutil.rmtree(folder, ignore_errors=True)


def _story(world: World) -> str:
    records = [
        record for name in world.project.flows for partition in world.cluster.topics.of(name) for record in partition
    ]
    return flow_story.shown(flow_story.timeline(records, world.cluster.happenings))
