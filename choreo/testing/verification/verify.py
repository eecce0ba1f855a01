"""Verify one flow: explore it, and report the verdict as values that a terminal, a test or a program can show."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

from choreo.core.declare.invariants import name_of
from choreo.core.definition import FlowDefinition
from choreo.core.flow_table import FlowTable
from choreo.core.run_view import Invariant, RunView, view_of
from choreo.testing.verification.canonical import KEY
from choreo.testing.verification.child_runs import Child
from choreo.testing.verification.explore import Exploration, Explorer, Trace
from choreo.testing.verification.family_world import FamilyWorld
from choreo.testing.verification.moves import budget_of
from choreo.testing.verification.world import State, World

Verdict: TypeAlias = Literal["holds", "broken", "unknown"]
LIMIT = 500_000
"""States after which an exploration is cut off: about a minute, and 1 GB of memory."""


class Declared(Protocol):
    """A flow as its author has declared it: a `choreo.Flow`."""

    @property
    def definition(self) -> FlowDefinition:
        """Return the checked definition."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        """Return the rules of the flow's author."""

    @property
    def child_flows(self) -> Mapping[str, Declared]:
        """Return the flows of which its steps start children, by name."""


class Moment(msgspec.Struct, frozen=True):
    """One line of a timeline: a move, and the run after it."""

    move: str
    status: str
    """Status of each run of the key after the move; empty before the first."""
    effects: str
    """The ledger after the move: each step with the state of its effect."""


class End(msgspec.Struct, frozen=True):
    """One kind of end of a flow's runs."""

    text: str
    """The status, and the reason where it is no good end: "stuck, because the compensation of a.b fails"."""
    states: int
    timeline: list[Moment]
    """The shortest way to it."""

    @property
    def is_stuck(self) -> bool:
        """Return whether a person has to look: a run is stuck, or an effect stays for which nothing is declared."""
        return "because" in self.text


class Report(msgspec.Struct, frozen=True):
    """The verdict on one flow."""

    flow: str
    verdict: Verdict
    """`unknown`: nothing broken was found, and not all was seen: it was cut off, or parts are unexplored."""
    states: int
    transitions: int
    seconds: float
    moves: dict[str, int]
    """The limited moves that were explored → how often each may happen in one history."""
    invariants: list[str]
    """The names of the flow's own invariants."""
    unexplored: list[str] = []
    """Steps that start child flows which start flows themselves, or on a cycle; frozen versions with child flows."""
    broken: str = ""
    """The promise or invariant that does not hold."""
    timeline: list[Moment] = []
    """The shortest way to the state that breaks it."""
    ends: list[End] = []
    """The kinds of ends that were seen, the nearest first."""

    @property
    def transitions_s(self) -> int:
        """Return the transitions per second."""
        return round(self.transitions / self.seconds) if self.seconds > 0 else 0


def verify(flow: Declared, *, moves: str = "", limit: int = LIMIT) -> Report:
    """Explore every reachable state of a flow, up to `limit` states (0: all), and return the verdict.

    `moves` names the faults and wishes beside the ordinary course, as `choreo verify --with` does: `"cancel,pause=2"`.
    Raises DeclarationError on a flow that its checks refuse, and SettingsError on an unknown move.
    """
    children = {name: child.definition for name, child in flow.child_flows.items()}
    return explored(flow.definition, flow.invariants, budget_of(moves), limit, children)


def explored(
    flow: FlowDefinition,
    invariants: Sequence[Invariant],
    budget: Mapping[str, int],
    limit: int = LIMIT,
    children: Mapping[str, FlowDefinition] | None = None,
) -> Report:
    """Return the verdict on a definition; `children`: the flows that its steps start, by name."""
    begun_s = time.perf_counter()
    families = _families(flow, children or {}, budget, limit)
    seen = {step: child for step, child in families.items() if child.moves}
    alone = [(child.world, child.found) for child in dict.fromkeys(families.values())]
    unexplored = sorted(step.name for step in flow.steps if step.children and step.name not in families)
    old = [each for each in flow.frozen if each.version != flow.version]
    unexplored += [f"version {each.version}" for each in old if FlowTable(each).families]
    worlds: list[World] = [FamilyWorld(flow, budget, invariants, seen) if seen else World(flow, budget, invariants)]
    worlds += [World(each, budget, invariants, later=flow) for each in old if not FlowTable(each).families]
    if any(found.violation for _, found in alone):
        worlds = []
    explorations = [*((world, Explorer(world).explore(limit)) for world in worlds), *alone]
    world, found = next((each for each in explorations if each[1].violation), explorations[0])
    complete = all(each.complete for _, each in explorations)
    return Report(
        flow=flow.name,
        verdict=_verdict(found, all_seen=complete and not unexplored),
        states=sum(each.states for _, each in explorations),
        transitions=sum(each.transitions for _, each in explorations),
        seconds=time.perf_counter() - begun_s,
        moves={name: count for name, count in budget.items() if count},
        invariants=[name_of(rule) for rule in invariants],
        unexplored=unexplored,
        broken=_broken(flow, world, found),
        timeline=_timeline(world, found.violation.trace) if found.violation else [],
        ends=[End(text, count, _timeline(world, trace)) for text, (count, trace) in found.kinds.items()],
    )


def _broken(flow: FlowDefinition, world: World, found: Exploration) -> str:
    """Return the broken promise, with the child flow or the version that breaks it."""
    sentence, explored_flow = found.violation.sentence if found.violation else "", world.table.flow
    if sentence and explored_flow.name != flow.name:
        return f"child flow {explored_flow.name}: {sentence}"
    if sentence and explored_flow.version != flow.version:
        return f"version {explored_flow.version}: {sentence}"
    return sentence


def _families(
    flow: FlowDefinition, children: Mapping[str, FlowDefinition], budget: Mapping[str, int], limit: int
) -> dict[str, Child]:
    """Return step → the automaton of its children, of the flows that start none themselves."""
    cyclic = FlowTable(flow).cyclic
    known: dict[str, Child] = {}
    found: dict[str, Child] = {}
    for step in flow.steps:
        child = children.get(step.children.flow) if step.children else None
        if child is not None and step.name not in cyclic and not any(each.children for each in child.steps):
            if child.name not in known:
                known[child.name] = Child(child, budget, limit)
            found[step.name] = known[child.name]
    return found


def _timeline(world: World, trace: Trace) -> list[Moment]:
    return [_moment(world, label, state) for label, state in trace]


def _verdict(found: Exploration, *, all_seen: bool) -> Verdict:
    if found.violation is not None:
        return "broken"
    return "holds" if all_seen else "unknown"


def _moment(world: World, label: str, state: State) -> Moment:
    views = [view_of(world.table, KEY, run) for run in world.state_of(state).runs]
    return Moment(label, ", ".join(map(_status, views)), "; ".join(filter(None, map(_effects, views))))


def _status(view: RunView) -> str:
    return f"{view.status}, ended" if view.ended else view.status


def _effects(view: RunView) -> str:
    return ", ".join(f"{each.step} {each.state}{' (in doubt)' if each.in_doubt else ''}" for each in view.effects)
