"""Breadth-first exploration: every state that the moves reach, each once, and the shortest way to a broken promise."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

from choreo.testing.verification.world import State, World

Trace: TypeAlias = tuple[tuple[str, State], ...]
"""Moves, each with the state after it."""


class Violation(NamedTuple):
    """A broken promise, and the moves that lead to it."""

    sentence: str
    trace: Trace


class Exploration(NamedTuple):
    """The result of an exploration."""

    states: int
    transitions: int
    complete: bool
    """Whether every reachable state was seen."""
    ends: frozenset[State]
    """States in which nothing more happens."""
    violation: Violation | None = None
    kinds: Mapping[str, tuple[int, Trace]] = {}
    """How runs end, in words → the number of such states, and the shortest way to one."""


class Explorer:
    """The states that were reached, each with the move that reached it first."""

    def __init__(self, world: World) -> None:
        """Begin at the empty log."""
        self.world = world
        self.states: list[State] = [world.start]
        self._known: dict[State, int] = {world.start: 0}
        self._parents = array("l", [-1])
        self._labels: list[str] = [""]
        self._from, self._to = array("l"), array("l")
        self._ends: list[int] = []
        self._transitions = 0

    def explore(self, limit: int = 0) -> Exploration:
        """Explore up to `limit` states (0: all) or to the first broken promise."""
        at = 0
        while at < len(self.states):
            if limit and len(self.states) > limit:
                return self._result(complete=False)
            violation = self._expand(at)
            if violation is not None:
                return self._result(complete=False, violation=violation)
            at += 1
        return self._result(complete=True, violation=self._endless())

    def _expand(self, at: int) -> Violation | None:
        world, known, states = self.world, self._known, self.states
        state, goes_on = states[at], False
        for label, after, due, wrong in world.moves(state):
            self._transitions += 1
            number = known.get(after)
            if wrong:
                return Violation(wrong, (*self._trace(at), (label, after)))
            if number is None:
                number = known[after] = len(states)
                states.append(after)
                self._parents.append(at)
                self._labels.append(label)
                broken = world.wrong(after)
                if broken:
                    return Violation(broken, self._trace(number))
            if due and number != at:
                goes_on = True
                self._from.append(at)
                self._to.append(number)
        if goes_on:
            return None
        self._ends.append(at)
        wrong = world.wrong_end(state)
        return Violation(wrong, self._trace(at)) if wrong else None

    def _endless(self) -> Violation | None:
        """Return a state from which no end can be reached without a fault or a person's help."""
        before: dict[int, list[int]] = {}
        for source, target in zip(self._from, self._to, strict=True):
            before.setdefault(target, []).append(source)
        reached = bytearray(len(self.states))
        front = list(self._ends)
        for number in front:
            reached[number] = 1
        while front:
            for source in before.get(front.pop(), ()):
                if not reached[source]:
                    reached[source] = 1
                    front.append(source)
        lost = reached.find(0)
        return None if lost < 0 else Violation("promise 3: no end can be reached from here", self._trace(lost))

    def _trace(self, number: int) -> Trace:
        return tuple(reversed(list(self._back(number))))

    def _back(self, number: int) -> Iterator[tuple[str, State]]:
        while number > 0:
            yield self._labels[number], self.states[number]
            number = self._parents[number]

    def _result(self, *, complete: bool, violation: Violation | None = None) -> Exploration:
        ends = frozenset(self.states[number] for number in self._ends)
        return Exploration(len(self.states), self._transitions, complete, ends, violation, self._kinds())

    def _kinds(self) -> dict[str, tuple[int, Trace]]:
        """Return the kinds of ends. States are numbered by their distance: the first of a kind is the nearest."""
        first: dict[str, int] = {}
        counted: Counter[str] = Counter()
        for number in self._ends:
            for kind in self.world.ends_of(self.states[number]):
                first.setdefault(kind, number)
                counted[kind] += 1
        return {kind: (counted[kind], self._trace(number)) for kind, number in first.items()}
