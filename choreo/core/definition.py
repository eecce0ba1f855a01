"""A flow as plain data for a tracker, a checker or a diagram, without the services' code. Exports to JSON and back.

All durations are whole milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

import msgspec

from choreo.core.attributes import AttributeDefinition
from choreo.core.conditions import AnyCondition
from choreo.core.durations import ATTEMPT_FLOOR_MS, DURATION_MAX_MS, scaled_heartbeat
from choreo.core.errors import DeclarationError

DEADLINE_SLACK_MS = 600_000
"""Added to a step's attempts and waits for its default deadline: ten minutes of lag before a doubt is declared."""

ATTEMPTS_MAX = 2**31 - 1
"""Most attempts: every store and client holds such a number."""

_SUMMED_MAX = 10_000
"""Most waits that are summed one by one: some milliseconds at a declaration, and more than any growing series has."""

LAG_FLOOR_MS = 30_000
"""Time that divided deadlines leave beyond all attempts: a loaded machine or a killed process recovers no faster."""


class RetryRule(msgspec.Struct, frozen=True):
    """The rule for retries. The wait after attempt n is initial · backoff^(n-1), at most `interval_max_ms`."""

    initial_ms: int = 1_000
    backoff: float = 2.0
    interval_max_ms: int = 60_000
    attempts_max: int = 5
    inline_up_to_ms: int = 5_000
    """Longest wait that is kept in the host's memory; a longer one becomes a fact in the log."""

    def delay_ms(self, attempt: int) -> int:
        """Return the wait after that failed attempt (1, 2, …)."""
        if attempt > self._growing:
            return self.interval_max_ms
        return round(min(self.initial_ms * self.backoff ** (attempt - 1), self.interval_max_ms))

    def span_ms(self, timeout_ms: int) -> int:
        """Return the longest time of all attempts and the waits between them; computed at once for any number."""
        waits = self.attempts_max - 1
        if self.backoff == 1 or not self.initial_ms:
            waited_ms = waits * self.delay_ms(1)
        else:
            growing = min(waits, self._growing)
            exact = min(growing, _SUMMED_MAX)
            waited_ms = sum(self.delay_ms(n) for n in range(1, exact + 1))
            waited_ms += (waits - exact) * self.interval_max_ms  # more than it takes for a backoff close to 1
        return self.attempts_max * timeout_ms + waited_ms

    @property
    def _growing(self) -> int:
        """Return how many waits are shorter than the longest; a power beyond them could overflow."""
        if self.backoff == 1 or not self.initial_ms:
            return ATTEMPTS_MAX
        return 1 + int(math.log(max(1, self.interval_max_ms) / self.initial_ms) / math.log(self.backoff))


class CompensationDefinition(msgspec.Struct, frozen=True):
    """The compensation of a step's effect."""

    emits: tuple[str, ...]
    takes_none: bool
    bars: bool
    timeout_ms: int
    deadline_ms: int
    retry: RetryRule = RetryRule()
    takes: tuple[ParameterDefinition, ...] = ()
    """The handler's arguments before its context, the outcome first; empty if the outcome is the only one."""

    @property
    def needs(self) -> tuple[ParameterDefinition, ...]:
        """Return the arguments after the outcome."""
        return self.takes[1:]


class ChildrenDefinition(msgspec.Struct, frozen=True):
    """The child flows of a step, and when they are joined."""

    flow: str
    tolerated: int = 0
    """Most children that may fail; where `first` is given, the others are not awaited."""
    first: int = 0
    """Number of children whose success is enough; 0: all are awaited."""
    window: int = 0
    """Most children that are open at once; 0: all of them."""


class ParameterDefinition(msgspec.Struct, frozen=True):
    """One argument of a handler: an event that is part of the trigger, or a needed one of the run before it."""

    type: str
    """The event's type; "" for the trigger itself, of whichever type it is."""
    optional: bool = False
    """Whether the handler takes None where no such event is there."""
    many: bool = False
    """Whether the handler takes all events of the type in their order, instead of the newest one."""


class StepDefinition(msgspec.Struct, frozen=True):
    """One reaction. `name` is `service.step`, `on` the trigger's type: of several the first."""

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
    emits_all: bool = False
    """Whether a success emits every event of `emits`, each once, instead of one or some of them."""
    emits_some: bool = False
    """Whether a success may emit several events of `emits`, though not always all of them."""
    children: ChildrenDefinition | None = None
    """The child flows that the step starts; its outcome is the tracker's, once they are joined."""
    when: AnyCondition | None = None
    """The condition on the trigger's fields; None: the step runs on every trigger."""
    all_of: tuple[str, ...] = ()
    """Types that must all be there before the step starts, in any order; the last one is its trigger."""
    any_of: tuple[str, ...] = ()
    """Types of which each is a trigger."""
    takes: tuple[ParameterDefinition, ...] = ()
    """The handler's arguments before its context; empty if the trigger is the only one."""
    heartbeat_ms: int = 0
    """Longest time without a report of an attempt; 0: attempts do not report."""
    runs_in: Literal["", "process"] = ""
    """"process": the handler runs in a process of its own."""

    @property
    def triggers(self) -> tuple[str, ...]:
        """Return the types that start the step, alone or together."""
        return self.all_of or self.any_of or (self.on,)

    @property
    def needs(self) -> tuple[ParameterDefinition, ...]:
        """Return the arguments that are no part of the trigger."""
        return tuple(each for each in self.takes if each.type and each.type not in self.all_of)

    def scaled(self, by: float) -> StepDefinition:
        """Return the same step with every duration divided."""
        undo = self.compensation
        if undo is not None:
            undo = msgspec.structs.replace(undo, **_scaled_attempts(undo, by))
        heartbeat_ms = scaled_heartbeat(self.heartbeat_ms, by)
        return msgspec.structs.replace(self, compensation=undo, heartbeat_ms=heartbeat_ms, **_scaled_attempts(self, by))


def is_timer(name: str) -> bool:
    """Return whether a wait of this name is a timer."""
    return name.startswith("timer.")


REMINDS_MAX = 1_000
"""Most reminders of one wait: after an outage all that were due are published at once."""


class WaitDefinition(msgspec.Struct, frozen=True):
    """A wait for an event from outside, or a timer: opened by `on`, satisfied by `until`, over after `timeout_ms`."""

    name: str
    on: str
    until: str
    """Of several answers the first; "" for a timer that nothing cancels."""
    timeout_ms: int
    fails: str
    """The event of a time-out that compensates the run; "" if it goes on with `then`."""
    also: tuple[str, ...] = ()
    """Further events that satisfy it."""
    refused: str = ""
    """The event that compensates the run; "" for none."""
    then: str = ""
    """The event of a time-out after which the run goes on."""
    at: str = ""
    """Of a timer: the field of `on` with its moment, in place of `timeout_ms`."""
    remind: str = ""
    """The event that is published every `remind_ms` while it is open, at most `reminds_max` times."""
    remind_ms: int = 0
    reminds_max: int = 0
    escalate: str = ""
    """The event that is published once, `escalate_ms` after it was opened."""
    escalate_ms: int = 0
    optional: bool = False
    """Whether the run completes without it."""
    moved_by: str = ""
    """Of a timer: the event that sets its time anew, "" for none; with `at` by its field of the same name."""

    @property
    def answers(self) -> tuple[str, ...]:
        """Return the types of the events from outside that it takes; the first one that comes counts."""
        return tuple(filter(None, (self.until, *self.also, self.refused)))

    @property
    def late(self) -> str:
        """Return the type of its time-out."""
        return self.fails or self.then

    @property
    def leads_to(self) -> tuple[str, ...]:
        """Return the types with which the run goes on."""
        return tuple(filter(None, (self.until, *self.also, self.then)))

    @property
    def says(self) -> tuple[str, ...]:
        """Return the types that are published while it is open."""
        return tuple(filter(None, (self.remind, self.escalate)))

    @property
    def shown(self) -> str:
        """Return the answers that satisfy it, for people; of a timer its name."""
        return self.name if self.is_timer else " or ".join((self.until, *self.also))

    @property
    def is_timer(self) -> bool:
        """Return whether its time is awaited, and not an event from outside."""
        return is_timer(self.name)


CHILDREN_RULE = "bridge.children"
"""Name of the bridge's rule for the facts between parents and their child flows."""


class CarryDefinition(msgspec.Struct, frozen=True):
    """An event of this flow, `on`, that the bridge publishes in the flow `to` too, or an event made of it."""

    on: str
    to: str
    says: tuple[str, ...]
    """The events that may come of it there: `on` itself, or those that a function makes."""
    made: bool = False
    """Whether a function makes the event."""

    @property
    def name(self) -> str:
        """Return the name by which dead letters and redrives call it."""
        return f"bridge.{self.to}.{self.on}"


class FlowDefinition(msgspec.Struct, frozen=True):
    """A declared business process. `events` gives each event type's field names."""

    name: str
    key: str
    starts: str
    completes: str
    """The event that completes a run; of several the first."""
    steps: tuple[StepDefinition, ...]
    waits: tuple[WaitDefinition, ...] = ()
    carries: tuple[CarryDefinition, ...] = ()
    attributes: tuple[AttributeDefinition, ...] = ()
    """Search attributes of its runs, beside the fields of the start event."""
    parents: tuple[str, ...] = ()
    """Flows of the project that start runs of this one as children; a declaration does not know them."""
    fails: str = ""
    deadline_ms: int = 0
    """0: the flow has no deadline of its own."""
    linger_ms: int = 604_800_000
    hops_max: int = 0
    """Most triggers between a run's start and an event; 0 if the flow has no cycle."""
    version: int = 1
    time_scale: float = 1
    """Divisor of the durations here."""
    outcomes: Mapping[str, str] = {}
    """Type → the outcome of a run that it completes; empty if there is one way to complete."""
    events: Mapping[str, tuple[str, ...]] = {}
    frozen: tuple[FlowDefinition, ...] = ()
    """Its frozen versions and this one, where versions are frozen: a run is folded by the definition of its version."""

    def scaled(self, by: float) -> Self:
        """Return the same flow with every declared duration divided (CHOREO_TIME_SCALE); the clock is never scaled."""
        if by == 1:
            return self
        steps = tuple(step.scaled(by) for step in self.steps)
        waits = tuple(_scaled_wait(wait, by) for wait in self.waits)
        longest_ms = max([*(s.deadline_ms for s in steps), *(w.timeout_ms for w in waits)], default=0)
        return msgspec.structs.replace(
            self,
            steps=steps,
            waits=waits,
            deadline_ms=max(_divided(self.deadline_ms, by), min(self.deadline_ms, longest_ms)),
            linger_ms=_divided(self.linger_ms, by),
            time_scale=self.time_scale * by,
            frozen=tuple(each.scaled(by) for each in self.frozen),
        )

    @property
    def crosses(self) -> bool:
        """Return whether the bridge reads this flow's log."""
        return bool(self.crossings)

    @property
    def crossings(self) -> frozenset[str]:
        """Return the names of the bridge's rules for this flow."""
        names = frozenset(carry.name for carry in self.carries)
        return names | {CHILDREN_RULE} if self.parents or any(step.children for step in self.steps) else names

    @property
    def ends(self) -> tuple[str, ...]:
        """Return the types that complete a run."""
        return tuple(self.outcomes) or (self.completes,)

    @property
    def types(self) -> frozenset[str]:
        """Return every event type that a run may bring about, react to or wait for."""
        found = {self.starts, *self.ends, self.fails}
        for step in self.steps:
            found |= {*step.triggers, *step.emits, *step.fails, *(step.compensation.emits if step.compensation else ())}
        for wait in self.waits:
            found |= {wait.on, *wait.answers, wait.late, wait.moved_by, *wait.says}
        return frozenset(found - {""})

    @property
    def movers_outside(self) -> tuple[str, ...]:
        """Return the types that move a timer and that no part of the flow brings about."""
        made = {self.starts, self.fails, *(type_ for wait in self.waits for type_ in (wait.late, *wait.says))}
        for step in self.steps:
            made |= {*step.emits, *step.fails, *(step.compensation.emits if step.compensation else ())}
        return tuple(sorted({wait.moved_by for wait in self.waits} - made - {""}))

    @property
    def compensation_bound_ms(self) -> int:
        """Return the sum of the compensation deadlines: with the longest step deadline, the bound of promise 3."""
        return sum(step.compensation.deadline_ms for step in self.steps if step.compensation)

    @property
    def end_bound_ms(self) -> int:
        """Return how long after its deadline a run may still take to end."""
        return max((step.deadline_ms for step in self.steps), default=0) + self.compensation_bound_ms


def export(flow: FlowDefinition) -> bytes:
    """Return the flow as JSON, for people and for a tracker that runs without the services' code."""
    return msgspec.json.format(msgspec.json.encode(flow), indent=2)


def load(text: bytes, where: str = "flow JSON") -> FlowDefinition:
    """Return the flow in an exported JSON; raises DeclarationError with the path of the error."""
    remedy = "Export it again with `choreo flow export`."
    try:
        flow = msgspec.json.decode(text, type=FlowDefinition)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DeclarationError(str(error), where=where, remedy=remedy) from error
    for path, duration_ms in _durations(msgspec.to_builtins(flow), "$"):
        if not 0 <= duration_ms <= DURATION_MAX_MS:
            raise DeclarationError(f"{path} is {duration_ms}, no duration that ends", where=where, remedy=remedy)
    return flow


def _durations(value: Any, path: str) -> Iterator[tuple[str, int]]:
    """Yield every duration in an exported flow, with its path."""
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


def _scaled_wait(wait: WaitDefinition, by: float) -> WaitDefinition:
    names = ("timeout_ms", "remind_ms", "escalate_ms")
    return msgspec.structs.replace(wait, **{name: _divided(getattr(wait, name), by) for name in names})


def _scaled_attempts(of: StepDefinition | CompensationDefinition, by: float) -> dict[str, Any]:
    """Return divided attempts; never so short that a handler, which runs no faster, could not meet its timeout."""
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
