"""Check that every path reaches the end: no choice of outcomes lets a run stop before an event that completes it.

Each part that starts must bring about one of its events: a clause. A way to meet all clauses without an end is a path
that never reaches it. Failures are left out, because a run that is compensated does end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from choreo.core.checks.branches import sets_that_run
from choreo.core.checks.finding import Finding
from choreo.core.checks.graph import reached
from choreo.core.definition import FlowDefinition, StepDefinition, WaitDefinition
from choreo.core.flow_table import FlowTable

TRIES_MAX = 2_000
"""Choices that are tried: some tenths of a second. Most flows need none."""
SHOWN_MAX = 5
"""Paths that are shown of one flow: the first ones mended, the next ones show."""


class Clause(NamedTuple):
    """If all of `given` have come, one of `then` comes."""

    given: frozenset[str]
    then: tuple[str, ...]


Clauses: TypeAlias = Sequence[Clause]


class TooManyError(Exception):
    """More choices than are tried."""


def paths(flow: FlowDefinition, table: FlowTable, dead: Iterable[str]) -> Iterator[Finding]:
    """Yield a finding for each path that never reaches the end; `dead` are events reported already as dead ends."""
    clauses = list(_clauses(flow, table)) if flow.steps else []
    never = {*flow.ends, *dead, *([] if flow.steps else [flow.starts])}
    try:
        for _ in range(SHOWN_MAX):
            search = _Search(clauses, flow.starts, never)
            chosen = search.find()
            if chosen is None:
                return
            way = _way(clauses, flow.starts, chosen)
            last = way[-1]
            yield Finding(
                "C206",
                f"flow {flow.name}, event {last}",
                f"a run may stop there, and never reach {' or '.join(flow.ends)}: {' → '.join(way)}",
                f"Let what follows {last} lead to the end, or name it in completes=.",
            )
            if last == flow.starts:
                return
            never.add(last)
    except TooManyError:
        yield Finding(
            "C211",
            f"flow {flow.name}",
            f"its paths are not checked: more than {TRIES_MAX:,} choices",
            "Let parts of the flow be child flows, each of which is checked by itself.",
        )


def _clauses(flow: FlowDefinition, table: FlowTable) -> Iterator[Clause]:
    """Yield what every part of the way forward must bring about."""
    conditional = set[str]()
    for on, sets in sets_that_run(flow).items():
        given, cases = frozenset(on), []
        conditional |= {step.name for steps in sets for step in steps}
        for number, steps in enumerate(sets):
            cases.append(case := f"{'+'.join(on)}?{number}")
            yield from (each for step in steps for each in _of_step(step, frozenset({case})))
        yield Clause(given, tuple(cases))
    for step in flow.steps:
        if step.name not in table.reactions and step.name not in conditional:
            for given in [frozenset(step.all_of)] if step.all_of else [frozenset({each}) for each in step.triggers]:
                yield from _of_step(step, given)
    for wait in flow.waits:
        if not wait.optional or _is_only_way(flow, wait):
            yield Clause(frozenset({wait.on}), wait.leads_to)


def _of_step(step: StepDefinition, given: frozenset[str]) -> Iterator[Clause]:
    if step.emits_all:
        yield from (Clause(given, (type_,)) for type_ in step.emits)
    elif step.emits:
        yield Clause(given, step.emits)


def _is_only_way(flow: FlowDefinition, wait: WaitDefinition) -> bool:
    """Return whether no way to the end goes without this wait; it has a finding of its own then."""
    others = tuple(other for other in flow.waits if other is not wait)
    return reached(replace(flow, waits=others), {flow.starts}).isdisjoint(flow.ends)


def _ranks(clauses: Clauses, events: Iterable[str], never: Iterable[str]) -> dict[str, int]:
    """Return the events after which a run may stop without one of `never`, with the steps that it takes at least.

    A run that goes round for ever is not among them: `max_hops` ends it. Joins count as never completed here.
    """
    ranks: dict[str, int] = {}
    banned = frozenset(never)
    after: dict[str, list[Clause]] = {event: [] for event in events}
    for clause in clauses:
        if len(clause.given) == 1:
            after[next(iter(clause.given))].append(clause)
    rank = 0
    while more := [
        event
        for event, reactions in after.items()
        if event not in ranks and event not in banned
        if all(not ranks.keys().isdisjoint(each.then) for each in reactions)
    ]:
        ranks |= dict.fromkeys(more, rank)
        rank += 1
    return ranks


def _beyond(clauses: Clauses) -> dict[str, frozenset[str]]:
    """Return event → the events that may follow it."""
    follows: dict[str, set[str]] = {}
    for clause in clauses:
        for type_ in clause.given:
            follows.setdefault(type_, set()).update(clause.then)
    found = {}
    for type_, first in follows.items():
        seen, front = set[str](), set(first)
        while front:
            seen |= front
            front = {after for each in front for after in follows.get(each, ())} - seen
        found[type_] = frozenset(seen)
    return found


class _Search:
    """A search for a set of events that meets all clauses, has the start, and has none of `never`.

    Sets of events are bits of an int. Each event comes with all that follows from it whatever is chosen, so that only
    choices that matter are tried.
    """

    def __init__(self, clauses: Clauses, start: str, never: Iterable[str]) -> None:
        events = sorted({start, *(type_ for each in clauses for type_ in (*each.given, *each.then))})
        self._events = events
        bits = {event: 1 << number for number, event in enumerate(events)}
        ranks, beyond = _ranks(clauses, events, never), _beyond(clauses)
        self._start = start
        self._dead = 1 << len(events)
        """The bit of an event after which the end cannot be avoided."""
        self._never = self._dead | sum(bits[event] for event in events if event not in ranks)
        self._clauses = [
            (sum(bits[each] for each in clause.given), [bits[each] for each in _ways(clause, ranks, beyond)])
            for clause in clauses
        ]
        self._with = {bit: bit for bit in bits.values()}
        """Event → all that comes with it, whatever is chosen."""
        while self._learned():
            pass
        self._tries = 0

    def find(self) -> frozenset[str] | None:
        """Return such a set; None if there is none. Raises TooManyError."""
        found = self._extended(self._with[1 << self._events.index(self._start)])
        if found is None:
            return None
        return frozenset(event for number, event in enumerate(self._events) if found >> number & 1)

    def _learned(self) -> bool:
        """Return whether more is known to come with some event than before."""
        more = False
        for event, known in self._with.items():
            closed = self._closed(known)
            now = known | self._dead if closed is None else closed
            if now != known:
                self._with[event] = now
                more = True
        return more

    def _closed(self, come: int) -> int | None:
        """Return these events with all that follows from them whatever is chosen; None if the end follows."""
        before = -1
        while before != come:
            before = come
            for ways in self._open(come):
                common = -1
                for way in ways:
                    if not self._with[way] & self._never:
                        common &= self._with[way]
                if common == -1:
                    return None
                come |= common
        return None if come & self._never else come

    def _open(self, come: int) -> list[list[int]]:
        """Return the ways to meet each clause that these events do not meet."""
        return [ways for given, ways in self._clauses if not given & ~come and not any(way & come for way in ways)]

    def _extended(self, come: int) -> int | None:
        """Return a set that meets all clauses and holds these events; None if there is none."""
        self._tries += 1
        if self._tries > TRIES_MAX:
            raise TooManyError
        closed = self._closed(come)
        if closed is None:
            return None
        choices = [[way for way in ways if not self._with[way] & self._never] for ways in self._open(closed)]
        if not choices:
            return closed
        for way in min(choices, key=len):
            found = self._extended(closed | self._with[way])
            if found is not None:
                return found
        return None


def _ways(clause: Clause, ranks: Mapping[str, int], beyond: Mapping[str, frozenset[str]]) -> list[str]:
    """Return the events that meet a clause, after which the run may stop; on a cycle only those nearer to that."""
    known = [type_ for type_ in clause.then if type_ in ranks]
    if len(clause.given) > 1:
        return known
    (given,) = clause.given
    limit = ranks.get(given, -1)
    return [each for each in known if given not in beyond.get(each, ()) or ranks[each] < limit]


def _way(clauses: Clauses, start: str, chosen: frozenset[str]) -> list[str]:
    """Return the events of a longest chain within the chosen ones, from the start to where nothing more comes."""
    came: dict[str, list[str]] = {start: [start]}
    more = True
    while more:
        more = False
        for clause in clauses:
            if not clause.given <= came.keys():
                continue
            before = max((came[type_] for type_ in clause.given), key=len)
            for type_ in clause.then:
                if type_ in chosen and type_ not in came:
                    came[type_] = [*before, type_]
                    more = True
    chain = max(came.values(), key=len)
    return [type_ for type_ in chain if "?" not in type_]
