"""Gates: which event triggers a step that waits for more than one. A pure fold over one run's events, in log order.

A wait is opened by one event and takes one event from outside, the oldest that is not taken yet; the later of the two
makes it ready. A join takes the oldest event of each of its types; the one that completes the set is the trigger. The
tracker and every host fold with these functions, so that they agree without asking each other. A gate closes at
`choreo.CompensationStarted`, because hosts read only that fact of a compensation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from choreo.core import events, facts, recent
from choreo.core.baggage import Carried, after, carried_of, traced_by
from choreo.core.branches import Judged, Tested
from choreo.core.definition import ParameterDefinition, StepDefinition, WaitDefinition
from choreo.core.flow_table import FlowTable
from choreo.core.moments import Moments

KEPT_MAX = 16
"""Events of one type and run that are kept for later openings: more is a flood, not an early answer."""

NEEDED_MAX = 1_000
"""Events of one type that a handler may take as a list."""

Arguments: TypeAlias = tuple[tuple[int, ...], ...]
"""Offsets of the events that a handler takes, by argument; empty if the trigger is the only one."""

CLOSES = facts.ENDS | {facts.COMPENSATION_STARTED}
"""Facts after which no wait of the run makes an event ready."""


class Outside(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event of a gate: an event from outside, or an opener. `hops` are the hops of the steps that it triggers."""

    type: str
    id: str
    offset: int
    hops: int
    judged: Judged | None = None
    """The tracker's verdict on the conditions of the steps on it: the payload is not at hand when a wait opens."""
    tested: Tested | None = None
    """The tracker's tests of it for the conditions of joins: the payload is not at hand when a join completes."""
    moments: Moments | None = None
    """The moments of timers in it, which the tracker alone reads."""
    carried: Carried | None = None
    """Headers that the steps get which it triggers."""


class Opening(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One opening of a wait. `trigger` is the id of the event that set its time: the opener, or the last that moved it.

    `hops` are those of the opener, or of the event that moved it if it has more.
    """

    wait: str
    trigger: str
    due_ms: int
    """0 of a timer whose moment is in a field: a host knows no fields, and `trigger` alone identifies its time.

    0 also of an optional wait that has no time-out.
    """
    hops: int
    reminder_ms: int = 0
    """When the next reminder is due; 0: none is."""
    reminded: int = 0
    """Reminders that were published."""
    escalation_ms: int = 0
    """When it is escalated; 0: it was, or never is."""
    carried: Carried | None = None


class Member(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event of a join that is not complete."""

    step: str
    event: Outside


class Seen(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The offsets of a needed type's events in their order: for a list at most one too many, else the newest."""

    type: str
    offsets: tuple[int, ...]


class Gates(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The gates of one run."""

    openings: tuple[Opening, ...] = ()
    kept: tuple[Outside, ...] = ()
    """Events from outside that no opening has taken."""
    once: tuple[str, ...] = ()
    """Waits on no cycle that have been opened."""
    read: bytes = b""
    """Tokens of the events that were read (recent.py): a duplicate changes nothing."""
    closed: str = ""
    """The fact that closed the gates; empty while they are open."""
    members: tuple[Member, ...] = ()
    joined: tuple[str, ...] = ()
    """Joined steps on no cycle that were triggered."""
    seen: tuple[Seen, ...] = ()
    """Events that handlers need: hosts alone remember them."""


ENDED, _TURNED = Gates(closed="its run has ended"), Gates(closed="its run is compensating")


class Opened(NamedTuple):
    """A wait has been opened."""

    wait: WaitDefinition
    opening: Opening
    event: Outside


class Moved(NamedTuple):
    """A timer has another time."""

    wait: WaitDefinition
    before: Opening
    opening: Opening
    event: Outside


class Taken(NamedTuple):
    """An opening has its event."""

    opening: Opening


class Ready(NamedTuple):
    """An event from outside triggers its steps now."""

    event: Outside


class Triggered(NamedTuple):
    """A step with several arguments starts. `event` is the trigger: of a join the event that completes it."""

    step: StepDefinition
    event: Outside
    arguments: Arguments
    members: Mapping[str, Outside] = {}
    """Type → event, of a join."""


class Ignored(NamedTuple):
    """An event will never trigger anything, or not this step."""

    event: Outside
    reason: str
    flood: bool = False
    """Whether too many events of its type are kept already."""
    step: str = ""
    """The only step that ignores it; "" for all steps on it."""


Move: TypeAlias = Opened | Moved | Taken | Ready | Triggered | Ignored


class Reads(NamedTuple):
    """The steps of one host that take more than their trigger. The tracker has none: it calls no handler."""

    steps: AbstractSet[str] = frozenset()
    """All of them, joins included."""
    needing: Mapping[str, tuple[StepDefinition, ...]] = {}
    """Trigger type → steps that take earlier events as well, without joins."""
    needed: Mapping[str, bool] = {}
    """Needed type → whether all its events are taken, or only the newest."""
    undoes: bool = False
    """Whether a compensation needs events."""


NO_READS = Reads()


def reads_of(steps: Iterable[StepDefinition], undoing: Iterable[ParameterDefinition] = ()) -> Reads:
    """Return the reads of a host with these steps; its compensations need the events of `undoing`."""
    steps = [step for step in steps if step.takes or step.all_of]
    needing: dict[str, tuple[StepDefinition, ...]] = {}
    needed: dict[str, bool] = {}
    for step in steps:
        for type_ in () if step.all_of else step.triggers:
            needing[type_] = (*needing.get(type_, ()), step)
        for parameter in step.needs:
            needed[parameter.type] = parameter.many or needed.get(parameter.type, False)
    undoing = tuple(undoing)
    for parameter in undoing:
        needed[parameter.type] = parameter.many or needed.get(parameter.type, False)
    return Reads(frozenset(step.name for step in steps), needing, needed, bool(undoing))


def needed_events(parameter: ParameterDefinition, seen: Iterable[Seen]) -> tuple[int, ...]:
    """Return the offsets of the events that a handler needs for one argument, of those that were seen so far."""
    offsets = next((each.offsets for each in seen if each.type == parameter.type), ())
    return offsets if parameter.many else offsets[-1:]


def came(
    table: FlowTable, gates: Gates, event: Outside, from_ms: int, reads: Reads = NO_READS
) -> tuple[Gates, list[Move]]:
    """Return the gates after an event of the run, and the moves that follow from it in order.

    `from_ms` is the time from which the time of an opened wait counts.
    """
    fold = _Fold(table, gates, from_ms, reads)
    fold.read(event)
    return fold.gates, fold.moves


def moved(gates: Gates, by_ms: int) -> Gates:
    """Return the gates with every due time moved, after a pause of that length; a moment in a field stays."""
    if not gates.openings:
        return gates
    return replace(gates, openings=tuple(_later(opening, by_ms) for opening in gates.openings))


def _later(opening: Opening, by_ms: int) -> Opening:
    moments = {name: getattr(opening, name) for name in ("due_ms", "reminder_ms", "escalation_ms")}
    return replace(opening, **{name: at_ms + by_ms for name, at_ms in moments.items() if at_ms})


def closed(gates: Gates, fact: str) -> Gates:
    """Return the gates closed by a fact of the run; the first fact stays."""
    after = ENDED if fact in facts.ENDS else _TURNED
    if not gates.read and not gates.closed:
        return after
    return Gates(read=gates.read, closed=gates.closed or after.closed, seen=gates.seen)


def has_read(gates: Gates, event_id: str, type_: str) -> bool:
    """Return whether this event was read before."""
    return recent.knows(gates.read, recent.token(type_, event_id))


def outside_of(event: events.Envelope, offset: int) -> Outside:
    """Return an event as a host's gates take it: a host reads the payload again where it needs it."""
    return Outside(event.type, event.id, offset, event.hops, carried=carried_of(event))


def _together(trigger: Outside, members: Iterable[Outside]) -> Carried | None:
    """Return the headers of a join's members: their baggage in log order, and the trigger's trace."""
    together: Carried | None = None
    for member in sorted(members, key=attrgetter("offset")):
        together = after(together, member.carried)
    return traced_by(together, trigger.carried)


class _Fold:
    """The gates while one event is folded."""

    def __init__(self, table: FlowTable, gates: Gates, from_ms: int, reads: Reads) -> None:
        self.gates = gates
        self.moves: list[Move] = []
        self._table = table
        self._from_ms = from_ms
        self._reads = reads

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
            self._take(opening, event, after(opening.carried, event.carried))
        elif gates.closed:
            self.moves.append(Ignored(event, gates.closed))
        elif wait.name in gates.once:
            self.moves.append(Ignored(event, f"the wait for {event.type} is over"))
        elif sum(kept.type == event.type for kept in gates.kept) >= KEPT_MAX:
            reason = f"{KEPT_MAX} {event.type} that came before their wait are kept already"
            self.moves.append(Ignored(event, reason, flood=True))
        else:
            self.gates = replace(gates, kept=(*gates.kept, event))

    def _take(self, opening: Opening, event: Outside, both: Carried | None) -> None:
        """Let the opening take the event; `both` are the headers of the two, in log order."""
        left = tuple(other for other in self.gates.openings if other is not opening)
        self.gates = replace(self.gates, openings=left)
        carried = traced_by(both, event.carried)
        ready = replace(event, hops=max(event.hops, opening.hops + 1), carried=carried)
        self.moves += [Taken(opening), Ready(ready)]
        self._open(ready)

    def _open(self, event: Outside) -> None:
        """Fold an event that counts: one from a step, or one from outside that a wait has taken."""
        for step in self._table.joins.get(event.type, ()):
            self._join(step, event)
        for step in self._reads.needing.get(event.type, ()):
            self.moves.append(Triggered(step, event, self._arguments(step, event, {})))
        if event.type in self._reads.needed:
            self._see(event)
        for wait in self._table.moves.get(event.type, ()):
            self._move(wait, event)
        for wait in self._table.opens.get(event.type, ()):
            once = wait.name in self._table.waits_once
            if self.gates.closed or (once and wait.name in self.gates.once):
                continue
            if once:
                self.gates = replace(self.gates, once=(*self.gates.once, wait.name))
            opening = self._opening(wait, event)
            self.gates = replace(self.gates, openings=(*self.gates.openings, opening))
            self.moves.append(Opened(wait, opening, event))
            kept = [kept for kept in self.gates.kept if kept.type in wait.answers]
            if kept:
                self._drop(kept if once else kept[:1])
                self._take(opening, kept[0], after(kept[0].carried, opening.carried))
                reason = f"the wait for it has taken an earlier {kept[0].type}"
                self.moves += [Ignored(late, reason) for late in kept[1:] if once]

    def _due_ms(self, wait: WaitDefinition) -> int:
        return self._from_ms + wait.timeout_ms if wait.timeout_ms else 0

    def _opening(self, wait: WaitDefinition, event: Outside) -> Opening:
        due_ms, from_ms = self._due_ms(wait), self._from_ms
        if not wait.says:
            return Opening(wait.name, event.id, due_ms, event.hops, carried=event.carried)
        reminder_ms = from_ms + wait.remind_ms if wait.remind else 0
        escalation_ms = from_ms + wait.escalate_ms if wait.escalate else 0
        return Opening(wait.name, event.id, due_ms, event.hops, reminder_ms, 0, escalation_ms, event.carried)

    def _move(self, wait: WaitDefinition, event: Outside) -> None:
        """Set the time of the timer's oldest opening anew; a fact about its old time is void from here on."""
        before = next((opening for opening in self.gates.openings if opening.wait == wait.name), None)
        if before is None:
            return
        hops, carried = max(before.hops, event.hops), after(before.carried, event.carried)
        opening = Opening(wait.name, event.id, self._due_ms(wait), hops, carried=carried)
        openings = tuple(opening if other is before else other for other in self.gates.openings)
        self.gates = replace(self.gates, openings=openings)
        self.moves.append(Moved(wait, before, opening, event))

    def _join(self, step: StepDefinition, event: Outside) -> None:
        gates, once = self.gates, step.name not in self._table.cyclic
        if gates.closed or (once and step.name in gates.joined):
            return
        mine = [member for member in gates.members if member.step == step.name]
        of_type = sum(member.event.type == event.type for member in mine)
        if once and of_type:
            return  # it starts once, with the first of each type
        if of_type >= KEPT_MAX:
            reason = f"{KEPT_MAX} {event.type} wait for the other events of {step.name} already"
            self.moves.append(Ignored(event, reason, flood=True, step=step.name))
            return
        new = Member(step.name, event)
        oldest: dict[str, Member] = {}
        for member in (*mine, new):
            oldest.setdefault(member.event.type, member)
        if len(oldest) < len(step.all_of):
            self.gates = replace(gates, members=(*gates.members, new))
            return
        left = tuple(member for member in (*gates.members, new) if all(member is not gone for gone in oldest.values()))
        self.gates = replace(gates, members=left, joined=(*gates.joined, step.name) if once else gates.joined)
        events = {type_: member.event for type_, member in oldest.items()}
        hops = max(each.hops for each in events.values())
        trigger = replace(event, hops=hops, carried=_together(event, events.values()))
        self.moves.append(Triggered(step, trigger, self._arguments(step, trigger, events), events))

    def _arguments(self, step: StepDefinition, trigger: Outside, members: Mapping[str, Outside]) -> Arguments:
        found: list[tuple[int, ...]] = []
        for parameter in step.takes:
            if not parameter.type:
                found.append((trigger.offset,))
            elif parameter.type in members:
                found.append((members[parameter.type].offset,))
            else:
                found.append(needed_events(parameter, self.gates.seen))
        return tuple(found)

    def _see(self, event: Outside) -> None:
        known = {each.type: each for each in self.gates.seen}
        before = known[event.type].offsets if event.type in known and self._reads.needed[event.type] else ()
        known[event.type] = Seen(event.type, (*before, event.offset)[-NEEDED_MAX - 1 :])
        self.gates = replace(self.gates, seen=tuple(known.values()))

    def _drop(self, gone: list[Outside]) -> None:
        self.gates = replace(self.gates, kept=tuple(kept for kept in self.gates.kept if kept not in gone))
