"""What one service does in one flow, as lookup tables: each step forward and each undo is a duty.

Takes handlers and classes from the declared service and every duration from the flow's definition, which may be scaled.
Knows no log and calls no handler.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from choreo.core import facts
from choreo.core.declare import Service, Step
from choreo.core.definition import FlowTable, RetryRule

RUN_FACTS = facts.ENDS | {facts.FLOW_TURNED, facts.FLOW_PAUSED, facts.FLOW_RESUMED}
"""Facts about a run that stop, hold or release its forward steps."""


class Duty(msgspec.Struct, frozen=True, eq=False):
    """One thing a service does: a step forward, or the undo of a step. Durations are milliseconds."""

    step: str
    handler: Callable[..., Any]
    is_async: bool
    takes: Mapping[str, type[Any]]
    """Event type → class of what the handler is given; of an undo, the outcomes it may be given."""
    successes: Mapping[type[Any], str]
    failures: Mapping[type[Any], str]
    never: tuple[type[BaseException], ...]
    timeout_ms: int
    deadline_ms: int
    retry: RetryRule
    time_scale: float = 1
    """By how much the durations here are divided."""
    undo: bool = False
    takes_none: bool = False
    reaction: bool = False
    """Answers a failure or an undo: runs in any status of the run, and nobody expects its outcome."""
    once: bool = True
    """A forward step on no cycle: it runs once a run."""

    def returns(self, value: Any) -> bool:
        """Whether the value is an event that the handler may return."""
        return type(value) in self.successes or type(value) in self.failures

    @property
    def expected(self) -> str:
        """What the handler may return, for people."""
        names = [*self.successes.values(), *self.failures.values()]
        if not self.successes or self.undo:
            names.append("None")
        return " | ".join(names)


class Duties:
    """All duties of a service in a flow."""

    def __init__(self, service: Service, table: FlowTable) -> None:
        """Steps of the service that the flow does not have are left out."""
        declared = [step for step in service.steps.values() if step.name in table.steps]
        self.forward: dict[str, Duty] = {step.name: _forward(step, table) for step in declared}
        self.undo: dict[str, Duty] = {step.name: _undo(step, table) for step in declared if step.compensation}
        self.by_trigger: dict[str, Sequence[Duty]] = {}
        for step in declared:
            known = self.by_trigger.get(step.on.event_type, ())
            self.by_trigger[step.on.event_type] = (*known, self.forward[step.name])
        self.outcome_types: frozenset[str] = _outcome_types(self)
        """What a service says when one of its jobs is done."""
        self.types: frozenset[str] = frozenset(self.by_trigger) | RUN_FACTS | _CALLS
        """What a host reads."""


_CALLS = {facts.COMPENSATION_REQUESTED, facts.STEP_RETRY_DUE, facts.REDRIVEN}
_SAID = {facts.STEP_COMPLETED, facts.STEP_FAILED, facts.STEP_SKIPPED, facts.TRIGGER_IGNORED}
_SAID_OF_UNDOS = {facts.NOTHING_TO_UNDO, facts.UNDO_FAILED}


def _outcome_types(duties: Duties) -> frozenset[str]:
    own = {
        type_
        for duty in (*duties.forward.values(), *duties.undo.values())
        for type_ in (*duty.successes.values(), *duty.failures.values())
    }
    return frozenset(own | _SAID | _SAID_OF_UNDOS)


def _forward(step: Step, table: FlowTable) -> Duty:
    definition = table.steps[step.name]
    return Duty(
        step=step.name,
        handler=step.handler,
        is_async=_is_async(step.handler),
        takes={step.on.event_type: step.on},
        successes={cls: cls.event_type for cls in step.outcomes if cls.event_type in definition.emits},
        failures={cls: cls.event_type for cls in step.outcomes if cls.event_type in definition.fails},
        never=step.never,
        timeout_ms=definition.timeout_ms,
        deadline_ms=definition.deadline_ms,
        retry=definition.retry,
        time_scale=table.flow.time_scale,
        reaction=step.name in table.reactions,
        once=step.name not in table.cyclic,
    )


def _undo(step: Step, table: FlowTable) -> Duty:
    compensation, rules = step.compensation, table.steps[step.name].compensation
    if compensation is None or rules is None:
        message = f"{step.name} has no compensation"
        raise ValueError(message)
    return Duty(
        step=step.name,
        handler=compensation.handler,
        is_async=_is_async(compensation.handler),
        takes={cls.event_type: cls for cls in step.successes},
        successes={cls: cls.event_type for cls in compensation.emits},
        failures={},
        never=step.never_undo,
        timeout_ms=rules.timeout_ms,
        deadline_ms=rules.deadline_ms,
        retry=rules.retry,
        time_scale=table.flow.time_scale,
        undo=True,
        takes_none=rules.takes_none,
        once=False,
    )


def _is_async(handler: Callable[..., Any]) -> bool:
    """Also of an object whose call is a coroutine function."""
    call = type(handler).__call__ if not inspect.isroutine(handler) else handler
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)
