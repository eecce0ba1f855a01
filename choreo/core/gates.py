"""Gates: which event from outside has become the trigger of its steps. A pure fold over one run's events, in log order.

A wait is opened by one event and takes one event from outside, the oldest that is not taken yet; the later of the two
makes it ready. The tracker and every host fold with these functions, so that they agree without asking each other. The
turn closes a gate where `choreo.FlowTurned` stands, because hosts read only that.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from choreo.core import facts, recent
from choreo.core.definition import FlowTable, WaitDefinition

KEPT_MAX = 16
"""Events of one type and run that are kept for openings still to come: more is a flood, not an early answer."""

CLOSES = facts.ENDS | {facts.FLOW_TURNED}
"""Facts after which no wait of the run makes anything ready."""


class Outside(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event that a gate is about: an event from outside, or an opener. `hops` are those it triggers with."""

    type: str
    id: str
    offset: int
    hops: int


class Opening(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One opening of a wait. `trigger` is the id of the event that opened it, `hops` are that event's."""

    wait: str
    trigger: str
    due_ms: int
    hops: int


class Gates(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The gates of one run."""

    openings: tuple[Opening, ...] = ()
    kept: tuple[Outside, ...] = ()
    """Events from outside that no opening has taken."""
    once: tuple[str, ...] = ()
    """Waits on no cycle that have been opened."""
    read: bytes = b""
    """Memory of the events that were read (recent.py): a duplicate changes nothing."""
    closed: str = ""
    """Why nothing becomes ready any more; empty while something may."""


class Opened(NamedTuple):
    """A wait has been opened."""

    wait: WaitDefinition
    opening: Opening


class Taken(NamedTuple):
    """An opening has its event."""

    opening: Opening


class Ready(NamedTuple):
    """An event from outside triggers its steps now."""

    event: Outside


class Ignored(NamedTuple):
    """An event from outside will never trigger anything."""

    event: Outside
    reason: str
    flood: bool = False
    """Too many of its type are kept already."""


Move: TypeAlias = Opened | Taken | Ready | Ignored


def came(table: FlowTable, gates: Gates, event: Outside, from_ms: int) -> tuple[Gates, list[Move]]:
    """Return the gates after an event of the run, and what follows from it in order.

    `from_ms` is the moment from which the time of a wait that is opened counts.
    """
    fold = _Fold(table, gates, from_ms)
    fold.read(event)
    return fold.gates, fold.moves


def timed_out(gates: Gates, wait: str, trigger: str, due_ms: int) -> Gates:
    """Return the gates without the opening that a timer fact is about; one that was moved meanwhile stays."""
    left = tuple(o for o in gates.openings if (o.wait, o.trigger, o.due_ms) != (wait, trigger, due_ms))
    return gates if len(left) == len(gates.openings) else replace(gates, openings=left)


def moved(gates: Gates, by_ms: int) -> Gates:
    """Return the gates with every due time moved: the run was paused that long."""
    if not gates.openings:
        return gates
    return replace(gates, openings=tuple(replace(o, due_ms=o.due_ms + by_ms) for o in gates.openings))


def closed(gates: Gates, fact: str) -> Gates:
    """Return the gates closed by a fact of the run; the first reason stands."""
    reason = gates.closed or ("its run has ended" if fact in facts.ENDS else "its run is turned back")
    return Gates(read=gates.read, closed=reason)


def has_read(gates: Gates, event_id: str, type_: str) -> bool:
    """Return whether this event was read before."""
    return recent.knows(gates.read, recent.token(type_, event_id))


class _Fold:
    """The gates while one event is folded in."""

    def __init__(self, table: FlowTable, gates: Gates, from_ms: int) -> None:
        self.gates = gates
        self.moves: list[Move] = []
        self._table = table
        self._from_ms = from_ms

    def read(self, event: Outside) -> None:
        token = recent.token(event.type, event.id)
        if recent.knows(self.gates.read, token):
            return
        self.gates = replace(self.gates, read=recent.with_new(self.gates.read, token))
        if event.type in self._table.satisfies:
            self._from_outside(event)
        else:
            self._open(event)

    def _from_outside(self, event: Outside) -> None:
        gates, (wait, *_) = self.gates, self._table.satisfies[event.type]
        opening = next((opening for opening in gates.openings if opening.wait == wait.name), None)
        if opening is not None:
            self._take(opening, event)
        elif gates.closed:
            self.moves.append(Ignored(event, gates.closed))
        elif wait.name in gates.once:
            self.moves.append(Ignored(event, f"the wait for {event.type} is over"))
        elif sum(kept.type == event.type for kept in gates.kept) >= KEPT_MAX:
            reason = f"{KEPT_MAX} {event.type} that came before their wait are kept already"
            self.moves.append(Ignored(event, reason, flood=True))
        else:
            self.gates = replace(gates, kept=(*gates.kept, event))

    def _take(self, opening: Opening, event: Outside) -> None:
        left = tuple(other for other in self.gates.openings if other is not opening)
        self.gates = replace(self.gates, openings=left)
        ready = replace(event, hops=max(event.hops, opening.hops + 1))
        self.moves += [Taken(opening), Ready(ready)]
        self._open(ready)

    def _open(self, event: Outside) -> None:
        for wait in self._table.opens.get(event.type, ()):
            once = wait.name in self._table.waits_once
            if self.gates.closed or (once and wait.name in self.gates.once):
                continue
            if once:
                self.gates = replace(self.gates, once=(*self.gates.once, wait.name))
            opening = Opening(wait.name, event.id, self._from_ms + wait.timeout_ms, event.hops)
            self.gates = replace(self.gates, openings=(*self.gates.openings, opening))
            self.moves.append(Opened(wait, opening))
            kept = self._kept(wait.until)
            if kept:
                self._drop(kept if once else kept[:1])
                self._take(opening, kept[0])
                reason = f"the wait for {wait.until} has taken an earlier one"
                self.moves += [Ignored(late, reason) for late in kept[1:] if once]

    def _kept(self, type_: str) -> list[Outside]:
        return [kept for kept in self.gates.kept if kept.type == type_]

    def _drop(self, gone: list[Outside]) -> None:
        self.gates = replace(self.gates, kept=tuple(kept for kept in self.gates.kept if kept not in gone))
