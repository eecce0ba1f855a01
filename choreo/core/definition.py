"""A flow as plain data: what a tracker, a checker or a diagram needs, without anybody's code. Exports to JSON and back.

All durations are whole milliseconds. `FlowTable` is the same flow as the lookup tables the fold works with: which steps
a type triggers, what role a type plays. The table is the protocol; nothing else decides what an event means.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import msgspec

from choreo.core.durations import DURATION_MAX_MS, human_of
from choreo.core.errors import DeclarationError

DEADLINE_SLACK_MS = 600_000
"""Added to a step's attempts and waits for its default deadline: ten minutes of lag before doubt is declared."""

ATTEMPT_FLOOR_MS = 1_000
"""Divided durations leave an attempt at least this: work takes as long as ever, only waiting is shortened."""


ATTEMPTS_MAX = 2**31 - 1
"""Every store and client holds such a number."""

_SUMMED_MAX = 10_000
"""Waits that are summed one by one: some milliseconds at a declaration, and more than any growing series has."""

LAG_FLOOR_MS = 30_000
"""Divided deadlines leave this beyond all attempts: a loaded machine or a killed process comes back no faster."""


class RetryRule(msgspec.Struct, frozen=True):
    """When to try again. The wait after attempt n is initial · backoff^(n-1), at most `interval_max_ms`."""

    initial_ms: int = 1_000
    backoff: float = 2.0
    interval_max_ms: int = 60_000
    attempts_max: int = 5
    inline_up_to_ms: int = 5_000
    """A wait up to this is kept in the host's memory; a longer one becomes a fact."""

    def delay_ms(self, attempt: int) -> int:
        """The wait after that failed attempt (1, 2, …)."""
        if attempt > self._growing:
            return self.interval_max_ms
        return round(min(self.initial_ms * self.backoff ** (attempt - 1), self.interval_max_ms))

    def span_ms(self, timeout_ms: int) -> int:
        """The longest time that all attempts and the waits between them take; reckoned at once for any number."""
        waits = self.attempts_max - 1
        if self.backoff == 1 or not self.initial_ms:
            waited_ms = waits * self.delay_ms(1)
        else:
            growing = min(waits, self._growing)
            exact = min(growing, _SUMMED_MAX)
            waited_ms = sum(self.delay_ms(n) for n in range(1, exact + 1))
            waited_ms += (waits - exact) * self.interval_max_ms  # of a backoff close to 1 more than it takes
        return self.attempts_max * timeout_ms + waited_ms

    @property
    def _growing(self) -> int:
        """How many waits are shorter than the longest: beyond them no power is raised, which overflows."""
        if self.backoff == 1 or not self.initial_ms:
            return ATTEMPTS_MAX
        return 1 + int(math.log(max(1, self.interval_max_ms) / self.initial_ms) / math.log(self.backoff))


class CompensationDefinition(msgspec.Struct, frozen=True):
    """How a step's effect is undone."""

    emits: tuple[str, ...]
    takes_none: bool
    bars: bool
    timeout_ms: int
    deadline_ms: int
    retry: RetryRule = RetryRule()


class StepDefinition(msgspec.Struct, frozen=True):
    """One reaction. `name` is `service.step`."""

    name: str
    service: str
    on: str
    emits: tuple[str, ...]
    fails: tuple[str, ...]
    timeout_ms: int
    deadline_ms: int
    retry: RetryRule = RetryRule()
    effect: bool = True
    compensation: CompensationDefinition | None = None

    def scaled(self, by: float) -> StepDefinition:
        """The same step with every duration divided."""
        undo = self.compensation
        if undo is not None:
            undo = msgspec.structs.replace(undo, **_scaled_attempts(undo, by))
        return msgspec.structs.replace(self, compensation=undo, **_scaled_attempts(self, by))


class WaitDefinition(msgspec.Struct, frozen=True):
    """A wait for an event from outside: opened by `on`, satisfied by `until`, failed by `fails` after `timeout_ms`."""

    name: str
    on: str
    until: str
    timeout_ms: int
    fails: str


class FlowDefinition(msgspec.Struct, frozen=True):
    """A declared business process. `events` gives each event type's field names."""

    name: str
    key: str
    starts: str
    completes: str
    steps: tuple[StepDefinition, ...]
    waits: tuple[WaitDefinition, ...] = ()
    fails: str = ""
    deadline_ms: int = 0
    """0: the flow has no deadline of its own."""
    linger_ms: int = 604_800_000
    hops_max: int = 0
    """How many triggers an event may lie behind its start; 0 where the flow has no cycle."""
    version: int = 1
    time_scale: float = 1
    """By how much the durations here are divided."""
    events: Mapping[str, tuple[str, ...]] = {}

    def scaled(self, by: float) -> Self:
        """The same flow with every declared duration divided (CHOREO_TIME_SCALE); never the clock."""
        if by == 1:
            return self
        steps = tuple(step.scaled(by) for step in self.steps)
        waits = tuple(msgspec.structs.replace(w, timeout_ms=_divided(w.timeout_ms, by)) for w in self.waits)
        longest_ms = max([*(s.deadline_ms for s in steps), *(w.timeout_ms for w in waits)], default=0)
        return msgspec.structs.replace(
            self,
            steps=steps,
            waits=waits,
            deadline_ms=max(_divided(self.deadline_ms, by), min(self.deadline_ms, longest_ms)),
            linger_ms=_divided(self.linger_ms, by),
            time_scale=self.time_scale * by,
        )

    @property
    def undo_bound_ms(self) -> int:
        """The sum of the undo deadlines: with the longest step deadline, the bound of promise 3."""
        return sum(step.compensation.deadline_ms for step in self.steps if step.compensation)

    @property
    def end_bound_ms(self) -> int:
        """How long after its deadline a run may still take to end (DESIGN.md 10, promise 3)."""
        return max((step.deadline_ms for step in self.steps), default=0) + self.undo_bound_ms


def export(flow: FlowDefinition) -> bytes:
    """The flow as JSON, for people and for a tracker that runs without the services' code."""
    return msgspec.json.format(msgspec.json.encode(flow), indent=2)


def load(text: bytes, where: str = "flow JSON") -> FlowDefinition:
    """The flow in an exported JSON; raises DeclarationError with the path of what is wrong."""
    remedy = "Export it again with `choreo flow export`."
    try:
        flow = msgspec.json.decode(text, type=FlowDefinition)
    except msgspec.DecodeError as error:
        raise DeclarationError(str(error), where=where, remedy=remedy) from error
    for path, duration_ms in _durations(msgspec.to_builtins(flow), "$"):
        if not 0 <= duration_ms <= DURATION_MAX_MS:
            raise DeclarationError(f"{path} is {duration_ms}, no duration that ends", where=where, remedy=remedy)
    return flow


def _durations(value: Any, path: str) -> Iterator[tuple[str, int]]:
    """Every duration in an exported flow, with its path."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            if str(name).endswith("_ms"):
                yield f"{path}.{name}", each
            else:
                yield from _durations(each, f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for place, each in enumerate(value):
            yield from _durations(each, f"{path}[{place}]")


def _divided(duration_ms: int, by: float) -> int:
    return min(max(1, round(duration_ms / by)), DURATION_MAX_MS) if duration_ms else 0


def _scaled_attempts(of: StepDefinition | CompensationDefinition, by: float) -> dict[str, Any]:
    """Divided attempts; never so short that a handler, which runs no faster, could not meet its timeout."""
    timeout_ms = max(_divided(of.timeout_ms, by), min(of.timeout_ms, ATTEMPT_FLOOR_MS))
    retry = _scaled_retry(of.retry, by)
    deadline_ms = max(_divided(of.deadline_ms, by), min(of.deadline_ms, retry.span_ms(timeout_ms) + LAG_FLOOR_MS))
    return {"timeout_ms": timeout_ms, "deadline_ms": deadline_ms, "retry": retry}


def _scaled_retry(retry: RetryRule, by: float) -> RetryRule:
    return msgspec.structs.replace(
        retry,
        initial_ms=_divided(retry.initial_ms, by),
        interval_max_ms=_divided(retry.interval_max_ms, by),
        inline_up_to_ms=_divided(retry.inline_up_to_ms, by),
    )


class FlowTable:
    """A flow's transitions as lookup tables, built once. Everything here is read-only."""

    def __init__(self, flow: FlowDefinition) -> None:
        """Index the definition; it may be wrong (the checks say so), the tables never raise."""
        self.flow = flow
        self.steps: dict[str, StepDefinition] = {step.name: step for step in flow.steps}
        self.backward: frozenset[str] = _backward(flow)
        """Types that only a failure or an undo brings about; a step on one is a reaction."""
        forward = [step for step in flow.steps if step.on not in self.backward]
        self.triggers: dict[str, tuple[StepDefinition, ...]] = _grouped(forward)
        """Type → the forward steps it makes expected."""
        self.reactions: frozenset[str] = frozenset(s.name for s in flow.steps if s.on in self.backward)
        self.opens: dict[str, tuple[WaitDefinition, ...]] = {
            on: tuple(w for w in flow.waits if w.on == on) for on in {w.on for w in flow.waits}
        }
        """Type → the waits it opens."""
        self.satisfies: dict[str, tuple[WaitDefinition, ...]] = {
            until: tuple(w for w in flow.waits if w.until == until) for until in {w.until for w in flow.waits}
        }
        """Type from outside → the waits it satisfies."""
        self.wait_failures: dict[str, WaitDefinition] = {w.fails: w for w in flow.waits}
        self.successes: dict[str, tuple[str, ...]] = _emitters((s.name, s.emits) for s in flow.steps)
        """Type → the steps that emit it as a success."""
        self.failures: dict[str, tuple[str, ...]] = _emitters((s.name, s.fails) for s in flow.steps)
        self.undos: dict[str, tuple[str, ...]] = _emitters(
            (s.name, s.compensation.emits) for s in flow.steps if s.compensation
        )
        self.cyclic: frozenset[str] = _cyclic(flow)
        """Steps on a cycle: they may run more than once a run."""
        repeated = _repeated(flow, self.cyclic)
        self.waits_once: frozenset[str] = frozenset(wait.name for wait in flow.waits if wait.on not in repeated)
        """Waits on no cycle: they open once a run."""

    def shown(self, duration_ms: int) -> str:
        """Return one of the flow's durations for people, marked where it is divided."""
        return human_of(duration_ms, self.flow.time_scale)

    def gate_waits(self, triggers: Iterable[str]) -> tuple[WaitDefinition, ...]:
        """Return the waits that decide when events of these types trigger a step, and those that open these waits."""
        front, found = set(triggers), set[str]()
        while front:
            more = {wait.name: wait for type_ in front for wait in self.satisfies.get(type_, ())}
            front = {wait.on for name, wait in more.items() if name not in found}
            found |= more.keys()
        return tuple(wait for wait in self.flow.waits if wait.name in found)


def _grouped(steps: Iterable[StepDefinition]) -> dict[str, tuple[StepDefinition, ...]]:
    grouped: dict[str, tuple[StepDefinition, ...]] = {}
    for step in steps:
        grouped[step.on] = (*grouped.get(step.on, ()), step)
    return grouped


def _emitters(pairs: Iterable[tuple[str, tuple[str, ...]]]) -> dict[str, tuple[str, ...]]:
    emitters: dict[str, tuple[str, ...]] = {}
    for name, types in pairs:
        for type_ in types:
            emitters[type_] = (*emitters.get(type_, ()), name)
    return emitters


def _backward(flow: FlowDefinition) -> frozenset[str]:
    found = {type_ for step in flow.steps for type_ in step.fails}
    found |= {type_ for step in flow.steps if step.compensation for type_ in step.compensation.emits}
    found |= {wait.fails for wait in flow.waits} | ({flow.fails} if flow.fails else set())
    while True:
        more = {type_ for step in flow.steps if step.on in found for type_ in step.emits} - found
        if not more:
            return frozenset(found)
        found |= more


def _repeated(flow: FlowDefinition, cyclic: Iterable[str]) -> set[str]:
    """Types that a cycle may bring about again and again, directly or through waits."""
    steps = {step.name: step for step in flow.steps}
    repeated = {type_ for name in cyclic for type_ in (steps[name].on, *steps[name].emits)} - {flow.starts}
    while more := {wait.until for wait in flow.waits if wait.on in repeated} - repeated:
        repeated |= more
    return repeated


def _cyclic(flow: FlowDefinition) -> frozenset[str]:
    """Steps from which their own trigger can be reached again."""
    follows: dict[str, set[str]] = {}
    for step in flow.steps:
        follows.setdefault(step.on, set()).update(step.emits)
    for wait in flow.waits:
        follows.setdefault(wait.on, set()).add(wait.until)
    cyclic = set()
    for step in flow.steps:
        seen: set[str] = set()
        front = set(step.emits)
        while front:
            seen |= front
            front = {nxt for type_ in front for nxt in follows.get(type_, ())} - seen
        if step.on in seen:
            cyclic.add(step.name)
    return frozenset(cyclic)
