"""A flow as the lookup tables of the fold: the steps that a type triggers, the role that a type plays.

The table is the protocol; nothing else decides the meaning of an event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from choreo.core.attributes import Setter, setters_of
from choreo.core.branches import Branches, MemberTests, branches_of, join_branches_of, member_tests_of
from choreo.core.definition import FlowDefinition, StepDefinition, WaitDefinition
from choreo.core.durations import human_of
from choreo.core.errors import VersionError

UNSAID = 1
"""The version of an event that names none: version 1, or the present one where version 1 is not frozen."""


class FlowTable:
    """A flow's transitions as lookup tables, built once. Everything here is read-only."""

    def __init__(self, flow: FlowDefinition) -> None:
        """Index the definition; with a wrong definition (the checks report it) the tables never raise."""
        self.flow = flow
        self.steps: dict[str, StepDefinition] = {step.name: step for step in flow.steps}
        self.families: dict[str, StepDefinition] = {step.name: step for step in flow.steps if step.children}
        """Steps that start child flows."""
        self.backward: frozenset[str] = _backward(flow)
        """Types that only a failure or a compensation brings about; a step triggered by one is a reaction."""
        self.reactions: frozenset[str] = frozenset(s.name for s in flow.steps if self.backward.intersection(s.triggers))
        forward = [step for step in flow.steps if step.name not in self.reactions]
        self.triggers: dict[str, tuple[StepDefinition, ...]] = _grouped(step for step in forward if not step.all_of)
        """Type → the forward steps that it makes expected by itself."""
        self.joins: dict[str, tuple[StepDefinition, ...]] = _grouped(step for step in forward if step.all_of)
        """Type → the forward steps that it makes expected together with other types."""
        self.branches: dict[str, Branches] = branches_of(flow.steps)
        """Type → the conditions of the steps on it, where one has a condition; joins are left out."""
        self.join_branches: dict[str, Branches] = join_branches_of(forward)
        """Join → the conditions of the joins on the same types, where it has a condition."""
        self.member_tests: dict[str, MemberTests] = member_tests_of(forward)
        """Type → the comparisons that joins make with its fields."""
        self.moments: dict[str, tuple[str, ...]] = _moments(flow)
        """Type → its fields with moments of timers."""
        judged = self.branches.keys() & self.triggers.keys()
        self.decoded: frozenset[str] = frozenset(judged | self.member_tests.keys() | self.moments.keys())
        """Types of the payloads that the tracker decodes."""
        self.successes: dict[str, tuple[str, ...]] = _emitters((s.name, s.emits) for s in flow.steps)
        """Type → the steps that emit it as a success."""
        self.failures: dict[str, tuple[str, ...]] = _emitters((s.name, s.fails) for s in flow.steps)
        self.compensations: dict[str, tuple[str, ...]] = _emitters(
            (s.name, s.compensation.emits) for s in flow.steps if s.compensation
        )
        self._index_waits(flow)
        self.cyclic: frozenset[str] = _cyclic(flow)
        """Steps that may run more than once in a run: on a cycle, or after a reminder."""
        self.waits_once: frozenset[str] = _waits_once(flow, self.cyclic)
        """Waits on no cycle: they open once in a run."""
        self.versions: dict[int, FlowTable] = {
            f.version: FlowTable(f) for f in flow.frozen if f.version != flow.version
        }
        """The other versions of the flow that are frozen."""
        self.is_versioned: bool = bool(flow.frozen)
        """Whether a run is folded by the table of its version; without frozen versions by this one."""

    def _index_waits(self, flow: FlowDefinition) -> None:
        self.waits: dict[str, WaitDefinition] = {wait.name: wait for wait in flow.waits}
        self.opens: dict[str, tuple[WaitDefinition, ...]] = {
            on: tuple(w for w in flow.waits if w.on == on) for on in {w.on for w in flow.waits}
        }
        """Type → the waits it opens."""
        self.satisfies: dict[str, tuple[WaitDefinition, ...]] = {
            type_: tuple(w for w in flow.waits if type_ in w.answers)
            for type_ in {answer for w in flow.waits for answer in w.answers}
        }
        """Type from outside → the waits it satisfies."""
        self.moves: dict[str, tuple[WaitDefinition, ...]] = {
            mover: tuple(w for w in flow.waits if w.moved_by == mover)
            for mover in {w.moved_by for w in flow.waits} - {""}
        }
        """Type → the timers that it moves."""
        self.refusals: frozenset[str] = frozenset(w.refused for w in flow.waits if w.refused)
        """Types from outside that compensate the run."""
        self.timeouts: dict[str, WaitDefinition] = {w.late: w for w in flow.waits if w.late}
        self.reminders: dict[str, WaitDefinition] = {type_: w for w in flow.waits for type_ in w.says}
        """Type → the wait while which it is published: a reminder or an escalation."""
        self.outside: frozenset[str] = frozenset(self.satisfies.keys() | set(flow.movers_outside))
        """Types that come from outside, besides the start."""
        self.gated: frozenset[str] = (
            frozenset(self.satisfies) | self.opens.keys() | self.joins.keys() | self.moves.keys()
        )
        """Types that the gates fold."""

    def decided_by(self, type_: str) -> tuple[str, ...]:
        """Return the steps whose conditions are judged on events of this type."""
        steps = self.branches[type_].steps if type_ in self.branches else ()
        return (*steps, *(step.name for step in self.joins.get(type_, ()) if step.name in self.join_branches))

    @cached_property
    def attributes(self) -> dict[str, tuple[Setter, ...]]:
        """Return type → the search attributes that it sets, in runs of every version."""
        return setters_of(self.flow.attributes)

    def comes_from_outside(self, type_: str) -> bool:
        """Return whether runs of any version wait for events of this type."""
        return type_ in self.outside or any(type_ in table.outside for table in self.versions.values())

    def of(self, version: int) -> FlowTable:
        """Return the table of runs of this version; raises VersionError where it is not frozen here."""
        if not self.is_versioned or version == self.flow.version:
            return self
        table = self.versions.get(version)
        if table is None:
            raise VersionError(
                f"version {version} of flow {self.flow.name} is in flight, and not frozen here",
                where=f"flows/{self.flow.name}.{version}.json below the schemas",
                remedy="Restore the file from version control and deploy it, then redrive this.",
            )
        return table

    def nearest(self, version: int) -> FlowTable:
        """Return the table of this version; this one where there is none, for readers that decide nothing."""
        return self.versions.get(version, self)

    def knows(self, version: int) -> bool:
        """Return whether `of` has a table of this version."""
        return version == self.flow.version or not self.is_versioned or version in self.versions

    def of_event(self, version: int) -> FlowTable:
        """Return the table of the run that an event of this version starts; raises VersionError, as `of`."""
        return self if version == UNSAID and UNSAID not in self.versions else self.of(version)

    def shown(self, duration_ms: int) -> str:
        """Return one of the flow's durations for people, marked where it is divided."""
        return human_of(duration_ms, self.flow.time_scale)

    def gate_waits(self, triggers: Iterable[str]) -> tuple[WaitDefinition, ...]:
        """Return the waits that decide when events of these types trigger a step, and those that open these waits."""
        front, found = set(triggers), set[str]()
        while front:
            waits = [wait for wait in self.flow.waits if wait.name not in found]
            more = [wait for wait in waits if not front.isdisjoint((*wait.answers, wait.late, *wait.says))]
            found |= {wait.name for wait in more}
            front = {type_ for wait in more for type_ in (wait.on, wait.moved_by) if type_}
        return tuple(wait for wait in self.flow.waits if wait.name in found)


def _grouped(steps: Iterable[StepDefinition]) -> dict[str, tuple[StepDefinition, ...]]:
    grouped: dict[str, tuple[StepDefinition, ...]] = {}
    for step in steps:
        for type_ in step.triggers:
            grouped[type_] = (*grouped.get(type_, ()), step)
    return grouped


def _moments(flow: FlowDefinition) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for wait in flow.waits:
        for type_ in (wait.on, wait.moved_by) if wait.at else ():
            found.setdefault(type_, set()).add(wait.at)
    return {type_: tuple(sorted(fields)) for type_, fields in found.items() if type_}


def _emitters(pairs: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    emitters: dict[str, tuple[str, ...]] = {}
    for name, types in pairs:
        for type_ in types:
            emitters[type_] = (*emitters.get(type_, ()), name)
    return emitters


def _backward(flow: FlowDefinition) -> frozenset[str]:
    found = {type_ for step in flow.steps for type_ in step.fails}
    found |= {type_ for step in flow.steps if step.compensation for type_ in step.compensation.emits}
    found |= {type_ for type_ in (flow.fails, *(t for w in flow.waits for t in (w.fails, w.refused))) if type_}
    while True:
        more = {type_ for step in flow.steps if found.intersection(step.triggers) for type_ in step.emits} - found
        if not more:
            return frozenset(found)
        found |= more


def _waits_once(flow: FlowDefinition, cyclic: Iterable[str]) -> frozenset[str]:
    repeated = _repeated(flow, cyclic)
    return frozenset(wait.name for wait in flow.waits if wait.on not in repeated)


def _repeated(flow: FlowDefinition, cyclic: Iterable[str]) -> set[str]:
    """Return the types that a cycle may bring about again and again, directly or through waits."""
    steps = {step.name: step for step in flow.steps}
    repeated = {type_ for name in cyclic for type_ in (*steps[name].triggers, *steps[name].emits)} - {flow.starts}
    repeated |= {wait.remind for wait in flow.waits if wait.reminds_max > 1}
    while more := {t for wait in flow.waits if wait.on in repeated for t in (*wait.leads_to, *wait.says)} - repeated:
        repeated |= more
    return repeated


def circles(flow: FlowDefinition) -> frozenset[str]:
    """Return the steps from which their own trigger can be reached again."""
    follows = _follows(flow)
    found = set()
    for step in flow.steps:
        if _reached(follows, step.emits).intersection(step.triggers):
            found.add(step.name)
    return frozenset(found)


def _cyclic(flow: FlowDefinition) -> frozenset[str]:
    """Return the steps on a cycle, and those after a reminder that may come again, or beside another trigger."""
    again = {wait.remind for wait in flow.waits if wait.reminds_max > 1}
    reminders = {type_ for wait in flow.waits for type_ in wait.says}
    again |= {type_ for step in flow.steps if len(step.any_of) > 1 for type_ in reminders.intersection(step.any_of)}
    reached = _reached(_follows(flow), again) if again else set()
    return circles(flow) | {step.name for step in flow.steps if reached.intersection(step.triggers)}


def _follows(flow: FlowDefinition) -> dict[str, set[str]]:
    """Return type → the types to which a step or a wait on it leads."""
    follows: dict[str, set[str]] = {}
    for step in flow.steps:
        for type_ in step.triggers:
            follows.setdefault(type_, set()).update(step.emits)
    for wait in flow.waits:
        follows.setdefault(wait.on, set()).update((*wait.leads_to, *wait.says))
    return follows


def _reached(follows: Mapping[str, set[str]], front: Iterable[str]) -> set[str]:
    """Return these types and all that follow from them."""
    seen: set[str] = set()
    front = set(front)
    while front:
        seen |= front
        front = {nxt for type_ in front for nxt in follows.get(type_, ())} - seen
    return seen
