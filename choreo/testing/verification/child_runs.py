"""Child flows as automata: a child's run is explored alone, and merged to what its parent can tell apart.

A child and its parent share nothing but facts that cross: the start and orders one way, ends the other. So one run of
the child flow is explored with the real core and hosts, while orders of its parent come at any time. States that differ
in no order taken, no end reported and no end reached become one (branching bisimulation): a dozen are left of
thousands. Several children then cost a product of dozens (family_world.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from choreo.core import facts, ids
from choreo.core.crossing import Place, encode, ended_of
from choreo.core.definition import FlowDefinition
from choreo.core.events import Envelope
from choreo.core.state import Run
from choreo.testing.verification import promises
from choreo.testing.verification.canonical import KEY
from choreo.testing.verification.explore import Explorer
from choreo.testing.verification.world import HOSTS, Move, State, World

START, UNDO, END = "start", "undo", "end"
_PLACE = encode(Place("parent", KEY, "run", "step", "trigger", 0)).decode()
_TOLD = "its parent orders: "

Action: TypeAlias = tuple[str, ...]
"""`()`: a move of its own that comes about by itself; `("free",)`: a fault or wish; an order, or an end reported."""


class ChildWorld(World):
    """One run of a child flow; its parent's orders may come at any time, and again."""

    def __init__(self, flow: FlowDefinition, budget: Mapping[str, int]) -> None:
        """Explore the flow with these moves."""
        super().__init__(flow, budget, parent=_PLACE)
        self._run = ids.start(flow.name, KEY)
        self._told = dict(self._orders(budget))

    def _orders(self, budget: Mapping[str, int]) -> Iterator[tuple[str, int]]:
        base = Envelope(id="", type="", key=KEY, flow=self.table.flow.name, run=self._run, causation="parent")

        def order(name: str, type_: str, n: int = 0) -> tuple[str, int]:
            return name, self.records.number(replace(base, id=f"order {name}", type=type_, n=n))

        yield order(UNDO, facts.PARENT_COMPENSATION_REQUESTED)
        if budget.get("terminate", 0):
            yield order(name_of(facts.PARENT_TERMINATED, 0), facts.PARENT_TERMINATED)
        for n in range(1, 2 * budget.get("pause", 0) + 1):
            type_ = facts.PARENT_PAUSED if n % 2 else facts.PARENT_RESUMED
            yield order(name_of(type_, n), type_, n)

    def moves(self, state: State) -> list[Move]:
        """Return every move; an order of the parent is no due one: it need not come."""
        found = super().moves(state)
        if self.run(state) is not None:
            log, flight, left = state[:HOSTS]
            for name, record in self._told.items():
                self.append(found, (log, flight, left, state[HOSTS:]), f"{_TOLD}{name}", (record,), due=False)
        return found

    def run(self, state: State) -> Run | None:
        """Return the child's run, once it has started."""
        return self.state_of(state).run(self._run)

    def action(self, state: State, label: str, *, due: bool) -> Action:
        """Return the part of a move that the parent sees."""
        if label.startswith(_TOLD):
            return (label.removeprefix(_TOLD).partition(",")[0],)
        if label.startswith("starts ") and self.run(state) is None:
            return (START,)
        if label.startswith(f"tracker publishes {facts.CHILD_ENDED}"):
            run = self.run(state)
            ended = ended_of(run.outbox[0]) if run is not None else None
            return (END, ended.outcome, str(run.outbox[0].n)) if ended and run else ()
        return () if due else ("free",)

    def wrong_end(self, state: State) -> str:
        """Return promise 3 if nothing more happens by itself, and only its parent could help."""
        run = self.run(state)
        return promises.of_end(run) if run is not None and not run.paused_ms else ""

    def end(self, state: State) -> str:
        """Return how the run stands in a state in which nothing more happens by itself."""
        run = self.run(state)
        return run.shown if run is not None else ""


class Edge(NamedTuple):
    """A move of a child."""

    label: str
    action: Action
    target: int
    due: bool


class Child:
    """The automaton of a child's run. State 0 is that before the start."""

    def __init__(self, flow: FlowDefinition, budget: Mapping[str, int], limit: int, *, reduced: bool = True) -> None:
        """Explore the run and merge its states, unless `reduced` is off."""
        self.flow = flow
        self.world: ChildWorld = ChildWorld(flow, budget)
        explorer = Explorer(self.world)
        self.found = explorer.explore(limit)
        self.moves: list[list[Edge]] = []
        self.ends: list[str] = []
        """State → how the run stands where nothing more happens by itself; "" where something does."""
        if self.found.complete and self.found.violation is None:
            self._merge(explorer, reduced=reduced)

    def _merge(self, explorer: Explorer, *, reduced: bool) -> None:
        numbers = {state: n for n, state in enumerate(explorer.states)}
        edges, ends = [], []
        for state in explorer.states:
            mine = [
                Edge(label, self.world.action(state, label, due=due), numbers[after], due)
                for label, after, due, _ in self.world.moves(state)
            ]
            edges.append(mine)
            goes_on = any(edge.due and edge.target != numbers[state] for edge in mine)
            ends.append("" if goes_on else self.world.end(state) or "-")
        blocks = merged(edges, ends) if reduced else list(range(len(edges)))
        self.ends = [""] * (max(blocks) + 1)
        found: list[dict[Hashable, Edge]] = [{} for _ in self.ends]
        for number, mine in enumerate(edges):
            self.ends[blocks[number]] = ends[number].removeprefix("-")
            for edge in mine:
                target = blocks[edge.target]
                if edge.action or target != blocks[number]:
                    found[blocks[number]].setdefault((edge.action, target, edge.due), edge._replace(target=target))
        self.moves = [list(each.values()) for each in found]


def name_of(type_: str, n: int) -> str:
    """Return the name of a parent's order."""
    if type_ == facts.PARENT_COMPENSATION_REQUESTED:
        return UNDO
    return type_.removeprefix(f"{facts.PREFIX}Parent").lower() + (f" {n}" if n else "")


def merged(edges: list[list[Edge]], labels: list[str]) -> list[int]:
    """Return state → block of the coarsest branching bisimulation that keeps labels; the first state has block 0.

    Refines by signatures (Blom and Orzan, 2003): a state has the moves of all states that it reaches by silent moves
    within its block.
    """
    blocks = _numbered(labels)
    while True:
        signatures = _signatures(edges, blocks)
        refined = _numbered(list(zip(blocks, signatures, strict=True)))
        if max(refined) == max(blocks):
            return refined
        blocks = refined


def _signatures(edges: list[list[Edge]], blocks: list[int]) -> list[frozenset[Hashable]]:
    """Return state → its visible moves, and those of the states that it reaches silently within its block."""
    found: list[set[Hashable]] = [set() for _ in edges]
    before: list[list[int]] = [[] for _ in edges]
    for state, mine in enumerate(edges):
        for edge in mine:
            if not edge.action and blocks[edge.target] == blocks[state]:
                before[edge.target].append(state)
            else:
                found[state].add((edge.action, blocks[edge.target]))
    waiting = [state for state, mine in enumerate(found) if mine]
    while waiting:
        state = waiting.pop()
        for earlier in before[state]:
            if not found[state] <= found[earlier]:
                found[earlier] |= found[state]
                waiting.append(earlier)
    return [frozenset(each) for each in found]


def _numbered(values: Sequence[Hashable]) -> list[int]:
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]
