"""Handlers of one service in one flow, as lookup tables: a `HandlerSpec` for each step and each compensation.

Handlers and classes come from the declared service, durations from the flow's definition, which may be scaled.
Calls no handler and reads no log.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from choreo.app.steps.hooks import around
from choreo.app.steps.processes import in_process
from choreo.core import facts
from choreo.core.declare.flow import Flow
from choreo.core.declare.hooks import Hook
from choreo.core.declare.steps import Service, Step
from choreo.core.definition import (
    FlowDefinition,
    ParameterDefinition,
    RetryRule,
    StepDefinition,
)
from choreo.core.durations import scaled_heartbeat
from choreo.core.flow_table import UNSAID, FlowTable

_log = logging.getLogger(__name__)

RUN_FACTS = facts.ENDS | {facts.COMPENSATION_STARTED, facts.FLOW_PAUSED, facts.FLOW_RESUMED}
"""Facts about a run that stop, hold or release its forward steps."""


class ChildStarts(msgspec.Struct, frozen=True):
    """The runs of another flow that a step starts."""

    flow: str
    key: str
    """Field of the start event."""
    type: str
    version: int
    size: int
    """Children of a batch, which start together."""


class HandlerSpec(msgspec.Struct, frozen=True, eq=False):
    """The handler of a forward step or of its compensation, with its rules. Durations are milliseconds."""

    step: str
    handler: Callable[..., Any]
    is_async: bool
    takes: Mapping[str, type[Any]]
    """Event type → class of a handler's argument."""
    successes: Mapping[type[Any], str]
    failures: Mapping[type[Any], str]
    never: tuple[type[BaseException], ...]
    timeout_ms: int
    deadline_ms: int
    retry: RetryRule
    heartbeat_ms: int = 0
    """Longest time without a report of an attempt; 0: attempts do not report."""
    time_scale: float = 1
    """The divisor of the durations here."""
    undo: bool = False
    takes_none: bool = False
    reaction: bool = False
    """Reacts to a failure or a compensation: runs in any status of the run, and no part waits for its outcome."""
    parameters: tuple[ParameterDefinition, ...] = ()
    """The handler's arguments before its context; empty if it takes only its trigger, or the outcome that it undoes."""
    once: bool = True
    """A forward step on no cycle: it runs once a run."""
    undoes: frozenset[str] = frozenset()
    """Of a compensation: the types of the outcomes that it may get."""
    children: ChildStarts | None = None
    hops_max: int = 0
    """Most hops of a trigger, in the flow's version; 0: any number."""

    def returns(self, value: Any) -> bool:
        """Return whether the value is an event that the handler may return."""
        return type(value) in self.successes or type(value) in self.failures

    @property
    def expected(self) -> str:
        """Return the names of the classes that the handler may return, for people."""
        names = [*self.successes.values(), *self.failures.values()]
        if not self.successes or self.undo:
            names.append("None")
        return " | ".join(names)


class Handlers:
    """The handlers of a service in a version of a flow, and those of the other versions."""

    def __init__(self, service: Service, table: FlowTable) -> None:
        """Build the tables; steps of the service that the flow does not have, or not so, are left out."""
        declared = [step for step in service.steps.values() if _serves(step, table)]
        self.version: int = table.flow.version
        self.versions: dict[int, Handlers] = {n: Handlers(service, of) for n, of in table.versions.items()}
        self._is_versioned = table.is_versioned
        self._service, self._flow = service.name, table.flow.name
        self._unknown: set[int] = set()
        """Versions in flight that are not frozen here, each reported once."""
        hooks = service.hooks
        self.forward: dict[str, HandlerSpec] = {step.name: _forward(step, table, hooks) for step in declared}
        self.undo: dict[str, HandlerSpec] = {
            step.name: _undo(step, table, hooks) for step in declared if step.compensation
        }
        self.steps: tuple[StepDefinition, ...] = tuple(table.steps[step.name] for step in declared)
        self.by_trigger: dict[str, Sequence[HandlerSpec]] = {}
        """Trigger type → the steps that take nothing else; the gates decide about the others."""
        for definition in self.steps:
            for type_ in () if definition.takes or definition.all_of else definition.triggers:
                self.by_trigger[type_] = (*self.by_trigger.get(type_, ()), self.forward[definition.name])
        self.whole: tuple[Handlers, ...] = (self, *self.versions.values())
        """The handlers of every version."""
        self.outcome_types: frozenset[str] = frozenset().union(*map(_outcome_types, self.whole))
        """Event types that end a job of the service, in any version."""
        self.triggers: frozenset[str] = frozenset().union(*(each.by_trigger for each in self.whole))
        """Event types that trigger a step, in any version."""
        self.names: frozenset[str] = frozenset().union(*(each.forward for each in self.whole))
        """Names of the steps, in any version."""
        self.types: frozenset[str] = self.triggers | RUN_FACTS | _CALLS
        """Event types that a host reads."""

    def of(self, version: int) -> Handlers:
        """Return the handlers for runs of this version; none where the version is not frozen here."""
        if version == self.version or not self._is_versioned:
            return self
        known = self.versions.get(version)
        if known is not None:
            return known
        if version == UNSAID:
            return self
        if version not in self._unknown:
            self._unknown.add(version)
            _log.error(
                "service %s: version %d of flow %s is in flight, and flows/%s.%d.json is not below the schemas: "
                "its events start no step here; deploy the file, then redrive the tracker's dead letters",
                *(self._service, version, self._flow, self._flow, version),
            )
        return _NOBODY


_CALLS = {facts.COMPENSATION_REQUESTED, facts.STEP_RETRY_DUE, facts.REDRIVEN}
_OUTCOMES = {facts.CHILDREN_PLANNED, facts.STEP_COMPLETED, facts.STEP_FAILED, facts.STEP_SKIPPED, facts.TRIGGER_IGNORED}
_UNDO_OUTCOMES = {facts.NOTHING_TO_COMPENSATE, facts.COMPENSATION_FAILED}


def _serves(step: Step, table: FlowTable) -> bool:
    """Return whether the step can run for runs of the table's version: it is to, and it takes the same events."""
    known, now = table.steps.get(step.name), step.definition
    if known is None or not step.versions.has(table.flow.version):
        return False
    return (now.triggers, bool(now.all_of), now.takes) == (known.triggers, bool(known.all_of), known.takes)


def _outcome_types(handlers: Handlers) -> frozenset[str]:
    own = {
        type_
        for spec in (*handlers.forward.values(), *handlers.undo.values())
        for type_ in (*spec.successes.values(), *spec.failures.values())
    }
    return frozenset(own | _OUTCOMES | _UNDO_OUTCOMES)


def _forward(step: Step, table: FlowTable, hooks: Sequence[Hook]) -> HandlerSpec:
    definition = table.steps[step.name]
    return HandlerSpec(
        step=step.name,
        handler=around(hooks, in_process(step.handler) if step.in_process else step.handler),
        is_async=step.in_process or _is_async(step.handler),
        takes={cls.event_type: cls for cls in step.takes},
        successes=_returned(step, definition.emits),
        failures=_returned(step, definition.fails) if step.child is None else {},
        never=step.never,
        timeout_ms=definition.timeout_ms,
        deadline_ms=definition.deadline_ms,
        retry=definition.retry,
        heartbeat_ms=scaled_heartbeat(step.heartbeat_ms, table.flow.time_scale),
        time_scale=table.flow.time_scale,
        reaction=step.name in table.reactions,
        parameters=definition.takes,
        once=step.name not in table.cyclic,
        children=_starts(step.child, definition),
        hops_max=table.flow.hops_max,
    )


def _returned(step: Step, types: Sequence[str]) -> Mapping[type[Any], str]:
    """Return the classes that the handler may return; the tracker makes the outcomes of a step with children."""
    if step.child is not None:
        return {step.child.start_class: step.child.start_class.event_type}
    return {cls: cls.event_type for cls in step.outcomes if cls.event_type in types}


_UNBOUNDED_BATCH = 50
"""Children that start together where no window is declared: some 10 kB of start events in one record."""
_BATCHES_A_WINDOW = 10
"""The window is full by nine tenths at least: a batch starts when as many children have ended."""


def _starts(child: Flow | None, definition: StepDefinition) -> ChildStarts | None:
    if child is None or definition.children is None:
        return None
    window = definition.children.window
    size = max(1, window // _BATCHES_A_WINDOW) if window else _UNBOUNDED_BATCH
    draft = child.draft()
    return ChildStarts(child.name, draft.key, draft.starts, draft.version, size)


def _undo(step: Step, table: FlowTable, hooks: Sequence[Hook]) -> HandlerSpec:
    compensation, rules = step.compensation, table.steps[step.name].compensation
    if compensation is None or rules is None:
        message = f"{step.name} has no compensation"
        raise ValueError(message)
    return HandlerSpec(
        step=step.name,
        handler=around(hooks, compensation.handler),
        is_async=_is_async(compensation.handler),
        takes={cls.event_type: cls for cls in (*compensation.needs, *step.successes)},
        undoes=frozenset(cls.event_type for cls in step.successes),
        parameters=compensation.definition.takes,
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


_NOBODY = Handlers(Service("nobody"), FlowTable(FlowDefinition("nobody", "", "", "", ())))
"""No handlers."""


def _is_async(handler: Callable[..., Any]) -> bool:
    """Return whether a call makes a coroutine, also of an object whose `__call__` is a coroutine function."""
    call = type(handler).__call__ if not inspect.isroutine(handler) else handler
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)
