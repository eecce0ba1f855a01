"""Simulate seeds: run each one's plan on a world of its own, check the promises, shrink a failing plan.

A seed, the same flows and the same kinds give the same log, byte for byte, in every process.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import msgspec

from choreo.core.errors import ChoreoError
from choreo.testing.books import Books
from choreo.testing.simulation import flow_story, promises
from choreo.testing.simulation.acts import ACTS
from choreo.testing.simulation.conductor import Conductor
from choreo.testing.simulation.hooks import Hooks
from choreo.testing.simulation.plan import OUTSIDE, START, Action, Plan, plan_of
from choreo.testing.simulation.world import Project, World
from choreo.wiring import everything

PARTITIONS: int = 2
"""Partitions of each topic: the fewest with which a rebalance moves one and keeps one."""
TURNS_MAX: int = 200_000
"""Callbacks after which a seed is restless: thirty times those of a long sound one, some seconds."""
SHRINKS_MAX: int = 120
"""Runs of a failing seed, to find a shorter plan: half a minute."""


class Outcome(msgspec.Struct):
    """The outcome of one seed."""

    seed: int
    index: int
    """Its place among the seeds: it says which kind of fault must be in its plan."""
    plan: Plan
    faults: list[str]
    """Broken promises."""
    doubts: list[str]
    """Effects that stay in doubt by the declaration: each leaves a run stuck."""
    fired: dict[str, int]
    runs: int
    turns: int
    virtual_s: float
    digest: str
    """SHA-256 of the log and of all that happened."""
    timeline: str = ""
    """Of a failing seed."""
    kept: list[int] = []
    """Of a shrunk seed: the numbers of its actions that are needed to break the promise."""
    is_calm: bool = False
    """Whether requests have no latency and processes take turns."""


class Simulation:
    """Seeds of one project."""

    def __init__(self, project: Project, hooks: Hooks, kinds: Sequence[str]) -> None:
        """Take checked flows, and the kinds of faults that are enabled."""
        self._project = project
        self._hooks = hooks
        self._kinds = list(kinds)
        world = World(project, partitions=PARTITIONS)
        self._roles = everything(world.client.app, rest=False)
        world.close()

    def plan(self, seed: int, index: int) -> Plan:
        """Return the plan of a seed."""
        return plan_of(seed, self._project.definitions, self._roles, self._kinds, index)

    def run(self, seed: int, index: int, kept: Sequence[int] | None = None, *, is_calm: bool = False) -> Outcome:
        """Run a seed; with `kept` only these actions of its plan."""
        plan = self.plan(seed, index)
        outcome = self._run(plan if kept is None else plan.only(kept), index, is_calm=is_calm)
        outcome.kept = list(range(len(plan.actions))) if kept is None else list(kept)
        return outcome

    def shrunk(self, failing: Outcome, runs_max: int = SHRINKS_MAX) -> Outcome:
        """Return the failing seed with as few actions as break a promise still; at most so many runs."""
        return _Shrinking(self, failing, runs_max).smallest()

    def _run(self, plan: Plan, index: int, *, is_calm: bool) -> Outcome:
        chance = Random(f"schedule of {plan.seed}")  # noqa: S311 - chosen by the seed

        def choose(count: int) -> int:
            return int(chance.random() * count)

        chosen = None if is_calm else choose
        folder = Path(tempfile.mkdtemp(prefix="choreo-simulation-"))
        world = World(self._project, seed=plan.seed, partitions=PARTITIONS, choose_lane=chosen, choose_latency=chosen)
        world.loop.turns_max = TURNS_MAX
        muted = logging.root.manager.disable
        logging.disable(logging.CRITICAL)  # planned faults fill the log of the hosts; the timeline shows them
        try:
            for book in Books.opened:
                book.clear()
            self._hooks.prepare(folder)
            return self._driven(world, plan, index, is_calm=is_calm)
        finally:
            logging.disable(muted)
            world.close()
            shutil.rmtree(folder, ignore_errors=True)

    def _driven(self, world: World, plan: Plan, index: int, *, is_calm: bool) -> Outcome:
        conductor = Conductor(world, plan, self._hooks, self._kinds, ACTS)
        doubts: list[str] = []
        try:
            world.drive(conductor.conduct())
            found = world.drive(promises.broken(conductor, self._hooks))
            doubts = world.drive(promises.declared(conductor))
        except ChoreoError as error:
            found = [f"the simulation could not go on: {error}"]
        return Outcome(
            seed=plan.seed,
            index=index,
            plan=plan,
            faults=list(dict.fromkeys(found)),
            doubts=doubts,
            fired=dict(conductor.fired),
            runs=len(conductor.acknowledged),
            turns=world.loop.turns,
            virtual_s=world.loop.time(),
            digest=digest_of(world),
            timeline=_story(world) if found else "",
            is_calm=is_calm,
        )


class _Shrinking:
    """Leave out actions of a failing plan, halves first, as long as a promise is broken."""

    def __init__(self, simulation: Simulation, failing: Outcome, runs_max: int) -> None:
        self._simulation = simulation
        self._best = failing
        self._left = runs_max

    def smallest(self) -> Outcome:
        self._try(self._best.kept, is_calm=True)
        size = max(1, len(self._best.kept) // 2)
        while size and self._left > 0:
            if not any(self._try(kept, is_calm=self._best.is_calm) for kept in _without(self._best.kept, size)):
                size //= 2
        return self._best

    def _try(self, kept: Sequence[int], *, is_calm: bool) -> bool:
        if self._left <= 0 or not kept:
            return False
        self._left -= 1
        outcome = self._simulation.run(self._best.seed, self._best.index, kept, is_calm=is_calm)
        if outcome.faults:
            self._best = outcome
        return bool(outcome.faults)


def _without(kept: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield these numbers without each stretch of `size`."""
    for begin in range(0, len(kept), size):
        yield [*kept[:begin], *kept[begin + size :]]


def digest_of(world: World) -> str:
    """Return a hash of everything that a seed has left: the log, and the notes of its faults."""
    hashed = hashlib.sha256()
    for name in world.project.flows:
        for partition in world.cluster.topics.of(name):
            for record in partition:
                hashed.update(msgspec.msgpack.encode(record))
    for happening in world.cluster.happenings:
        hashed.update(repr(tuple(happening)).encode())
    return hashed.hexdigest()


def _story(world: World) -> str:
    records = [
        record for name in world.project.flows for partition in world.cluster.topics.of(name) for record in partition
    ]
    return flow_story.shown(flow_story.timeline(records, world.cluster.happenings))


def seeds(
    simulation: Simulation, first: int, is_over: Callable[[int], bool], *, show: Callable[[Outcome], None]
) -> Iterator[Outcome]:
    """Yield the outcome of each seed from `first` on, until `is_over` says so of a number of seeds."""
    index = 0
    while not is_over(index):
        outcome = simulation.run(first + index, index)
        show(outcome)
        yield outcome
        index += 1


def fired_in(outcomes: Sequence[Outcome], kinds: Sequence[str]) -> dict[str, int]:
    """Return how often each enabled kind of fault has fired."""
    counted: Counter[str] = Counter()
    for outcome in outcomes:
        counted.update(outcome.fired)
    return {kind: counted[kind] for kind in (*kinds, *(["zombie-published"] if "zombie" in kinds else []))}


__all__ = ["OUTSIDE", "START", "Action", "Outcome", "Simulation", "fired_in", "seeds"]
