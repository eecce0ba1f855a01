"""The table of the fault matrix: each fault with its meaning at each point of an attempt. Pure.

A point without an entry cannot be met by the fault; `Fault.else_` says why not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from choreo.core.definition import StepDefinition

BEFORE, AFTER, PUBLISHED, COMMITTED = "before-handler", "after-effect", "after-publish", "after-commit"

POINTS: Mapping[str, str] = {
    BEFORE: "the attempt has begun, and its handler is not called yet",
    AFTER: "the handler has done its work, and its host does not know of it yet",
    PUBLISHED: "the outcome stands in the log, and its host does not know of it yet",
    COMMITTED: "the offset of the trigger is committed, and its host does not know of it yet",
}
"""Each point of an attempt at which a fault can strike."""


class Fault(NamedTuple):
    """One kind of fault."""

    text: str
    at: Mapping[str, str]
    """Point → meaning of the fault there."""
    else_: str = ""
    """Why it cannot strike at the other points."""
    lacks: Callable[[StepDefinition], str] = lambda _: ""
    """Returns why it cannot meet a step; "" where it can."""
    undo: bool = False
    """Whether it meets the compensation of the step, in place of the step."""
    is_absorbed: frozenset[str] = frozenset()
    """Points at which the run must end as it does without the fault."""


_HANDLER = frozenset({BEFORE, AFTER})
_HOST = frozenset({PUBLISHED, COMMITTED})
_OVER = "the handler has answered in time before its outcome is published"


def _compensation(step: StepDefinition) -> str:
    if step.children is not None:
        return f"the compensation of {step.name} is that of its children: no handler of its own runs"
    return "" if step.compensation else f"{step.name} has no compensation"


def _timeout(step: StepDefinition) -> str:
    return "" if step.timeout_ms else f"{step.name} declares no timeout"


FAULTS: Mapping[str, Fault] = {
    "error": Fault(
        "an error in place of an answer: once, and in every attempt",
        {
            BEFORE: "the handler raises before its work",
            AFTER: "the handler raises after its work",
            PUBLISHED: "the brokers have the outcome, and their answer is an error",
            COMMITTED: "the brokers have the offset, and their answer is an error",
        },
        is_absorbed=_HOST,
    ),
    "timeout": Fault(
        "no answer in time: once, and in every attempt",
        {
            BEFORE: "the handler hangs before its work until its timeout",
            AFTER: "the handler hangs after its work until its timeout",
            PUBLISHED: "the process stands still, another one takes its partitions, and it goes on",
            COMMITTED: "the same, once the offset is committed",
        },
        lacks=_timeout,
        is_absorbed=_HOST,
    ),
    "kill": Fault("the process dies", {point: f"dies when {text}" for point, text in POINTS.items()}),
    "poison": Fault(
        "a value that nobody can read",
        {
            BEFORE: "the step's trigger cannot be decoded",
            AFTER: "the handler returns no event of its step",
            PUBLISHED: "a record of another key that cannot be decoded stands behind the outcome",
            COMMITTED: "the same, once the offset is committed",
        },
        is_absorbed=_HOST,
    ),
    "duplicate": Fault(
        "a record stands in the log a second time",
        {
            BEFORE: "the trigger, before its handler is called",
            AFTER: "the trigger, after the handler's work",
            PUBLISHED: "the outcome",
            COMMITTED: "the trigger and the outcome",
        },
        is_absorbed=_HANDLER | _HOST,
    ),
    "late-success": Fault(
        "a success after the step was given up",
        {
            BEFORE: "the process stands still past the step's deadline, then does the work and publishes the outcome",
            AFTER: "the process stands still with the work done past the step's deadline, then publishes the outcome",
        },
        _OVER,
    ),
    "compensation-failure": Fault(
        "the step's compensation fails: once, and in every attempt until an operator retries it",
        {
            BEFORE: "the compensation raises before its work",
            AFTER: "the compensation raises after its work",
            PUBLISHED: "the brokers have the compensation's outcome, and their answer is an error",
            COMMITTED: "the brokers have the offset of the request, and their answer is an error",
        },
        lacks=_compensation,
        undo=True,
    ),
    "late-gateway": Fault(
        "the gateway is late",
        {
            BEFORE: "no attempt hears from the gateway, and the call of the first one lands once the step was undone",
            AFTER: "the gateway's answer takes almost as long as the step's timeout",
        },
        _OVER,
        lacks=_timeout,
        is_absorbed=frozenset({AFTER}),
    ),
    "double-gateway": Fault(
        "the gateway gets a call twice, with the same idempotency key",
        {
            BEFORE: "two calls at the same time",
            AFTER: "a second call after the first one's answer",
            PUBLISHED: "a second call once the outcome is published",
            COMMITTED: "a second call once the offset is committed",
        },
        is_absorbed=_HANDLER | _HOST,
    ),
}
