"""A flow as the auditor knows it: read from its exported JSON, or written down by hand as in order.py.

Also the auditor's input from a test: its acknowledged starts, its poisoned records, and the allowed durations.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

GENERAL_FAILURES = ("choreo.StepFailed", "choreo.StepSkipped")
CHILDREN_UNDONE = "choreo.ChildrenCompensated"

ENDS = {
    "choreo.FlowCompleted": "completed",
    "choreo.FlowCompensated": "compensated",
    "choreo.FlowTerminated": "terminated",
}


@dataclass(frozen=True)
class Step:
    """A step; `undos` is empty where it leaves nothing that could be undone."""

    on: tuple[str, ...]
    """Its triggers: each starts it, or all of them together where it is a join."""
    successes: tuple[str, ...]
    failures: tuple[str, ...] = ()
    undos: tuple[str, ...] = ()
    is_join: bool = False
    starts: str = ""
    """The flow of its children, all of which must complete."""


@dataclass(frozen=True)
class Wait:
    """A wait: what opens it, the answers, those that turn the run, and the event of its time-out."""

    name: str
    opens: str
    answers: tuple[str, ...]
    refusals: tuple[str, ...]
    late: str
    turns: bool
    """Whether the time-out turns the run."""


@dataclass(frozen=True)
class Shape:
    """A flow's declaration."""

    name: str
    start: str
    completes: tuple[str, ...]
    cancelled: str
    steps: Mapping[str, Step]
    waits: tuple[Wait, ...] = ()
    reactions: Mapping[str, Step] = field(default_factory=dict)
    """Steps on the event of a run that was undone."""

    @cached_property
    def successes(self) -> dict[str, str]:
        """Return the step of each success."""
        return {type_: name for name, step in self.steps.items() for type_ in step.successes}

    @cached_property
    def failures(self) -> dict[str, str]:
        """Return the step of each declared failure."""
        return {type_: name for name, step in self.steps.items() for type_ in step.failures}

    @cached_property
    def undos(self) -> frozenset[str]:
        """Return the events that say that an effect is undone."""
        return frozenset(type_ for step in self.steps.values() for type_ in step.undos)

    @cached_property
    def outside(self) -> frozenset[str]:
        """Return the events that come from outside, and may come twice."""
        return frozenset(type_ for wait in self.waits for type_ in (*wait.answers, *wait.refusals))

    @cached_property
    def time_outs(self) -> dict[str, Wait]:
        """Return the wait of each time-out."""
        return {wait.late: wait for wait in self.waits}


def shape_of(exported: Mapping[str, Any]) -> Shape:
    """Return the shape of a flow from what `choreo flow export` prints."""
    steps = {each["name"]: _step(each) for each in exported["steps"]}
    cancelled = exported["fails"]
    reactions = {name: step for name, step in steps.items() if step.on == (cancelled,)}
    waits = tuple(_wait(each) for each in exported["waits"] if each["until"])
    completes = tuple(exported["outcomes"]) or (exported["completes"],)
    forward = {name: step for name, step in steps.items() if name not in reactions}
    return Shape(exported["name"], exported["starts"], completes, cancelled, forward, waits, reactions)


def _step(each: Mapping[str, Any]) -> Step:
    children = each["children"] or {}
    whole = bool(children) and not children["tolerated"] and not children["first"]
    undos = tuple(each["compensation"]["emits"]) if each["compensation"] else ()
    return Step(
        on=tuple(each["all_of"] or each["any_of"] or [each["on"]]),
        successes=tuple(each["emits"]),
        failures=tuple(each["fails"]),
        undos=(CHILDREN_UNDONE,) if children else undos,
        is_join=bool(each["all_of"]),
        starts=children["flow"] if whole else "",
    )


def _wait(each: Mapping[str, Any]) -> Wait:
    refusals = (each["refused"],) if each["refused"] else ()
    answers = (each["until"], *each["also"])
    return Wait(each["name"], each["on"], answers, refusals, each["fails"] or each["then"], turns=bool(each["fails"]))


@dataclass(frozen=True)
class Durations:
    """The declared durations, as divided for this run, in milliseconds. Empty: not checked."""

    wait_ms: Mapping[str, int] = field(default_factory=dict)
    flow_ms: int = 0
    step_ms: Mapping[str, int] = field(default_factory=dict)
    undo_ms: Mapping[str, int] = field(default_factory=dict)
    end_ms: int = 0
    """The time from its start within which every run must have ended."""


@dataclass(frozen=True)
class Told:
    """The facts that the test knows besides the log and the books."""

    acknowledged: Mapping[str, str]
    """Id → key of every start that the log acknowledged to the test's producer."""
    poisoned: AbstractSet[tuple[int, int]] = frozenset()
    """(partition, offset) of every record that nobody can handle."""
    durations: Durations = Durations()
    plain: AbstractSet[str] = frozenset()
    """Keys of orders with gateways that never fail: nothing but a crash makes their handlers run again."""
    interrupted: AbstractSet[tuple[str, str]] = frozenset()
    """(trigger, step) of attempts that had begun and had no outcome when their process was killed."""
    uncounted: int = 0
    """Calls of an order's operation that nobody may have counted: a power cut takes the last count back."""
