"""How users declare services, steps and flows. Declaring collects values and checks the hints; nothing runs.

Event classes are taken as they are: anything with `event_type` and `event_fields()` (choreo.Event has both).
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from choreo.core import checks, hints
from choreo.core.definition import (
    DEADLINE_SLACK_MS,
    CompensationDefinition,
    FlowDefinition,
    RetryRule,
    StepDefinition,
    WaitDefinition,
)
from choreo.core.durations import DURATION_MAX_MS, Duration, milliseconds
from choreo.core.errors import DeclarationError
from choreo.core.hints import EventClass, Handler
from choreo.core.retry import Retry


class Compensation:
    """The handler that undoes one step's effect."""

    def __init__(
        self, step: Step, handler: Handler, definition: CompensationDefinition, emits: Sequence[EventClass]
    ) -> None:
        """Made by `Step.compensate`."""
        self.step = step
        self.handler = handler
        self.definition = definition
        self.emits: tuple[EventClass, ...] = tuple(emits)

    def __call__(self, *args: Any) -> Any:
        """Call the handler itself, as in a unit test."""
        return self.handler(*args)


class Step:
    """A reaction: on an event, a handler, what it emits or fails with. Made by `Service.step`."""

    def __init__(
        self,
        definition: StepDefinition,
        handler: Handler,
        on: EventClass,
        outcomes: Sequence[EventClass],
        never: tuple[type[BaseException], ...],
    ) -> None:
        """Made by `Service.step`."""
        self._definition = definition
        self.handler = handler
        self.on = on
        self.outcomes: tuple[EventClass, ...] = tuple(outcomes)
        self.never = never
        self.never_undo: tuple[type[BaseException], ...] = ()
        self.compensation: Compensation | None = None

    def __call__(self, *args: Any) -> Any:
        """Call the handler itself, as in a unit test."""
        return self.handler(*args)

    @property
    def name(self) -> str:
        """`service.step`."""
        return self._definition.name

    @property
    def definition(self) -> StepDefinition:
        """The step as plain data, its compensation included."""
        if self.compensation is None:
            return self._definition
        return msgspec.structs.replace(self._definition, compensation=self.compensation.definition)

    @property
    def successes(self) -> tuple[EventClass, ...]:
        """The outcomes that are successes, in declared order."""
        return tuple(cls for cls in self.outcomes if cls.event_type in self._definition.emits)

    def compensate(
        self,
        *,
        emits: EventClass | Sequence[EventClass],
        timeout: Duration = "30s",
        deadline: Duration | None = None,
        retry: Retry | None = None,
        bars: bool = True,
    ) -> Callable[[Handler], Compensation]:
        """Declare the handler that undoes this step's effect and the event that says so.

        The handler takes the outcome (or None when it is in doubt) and the context. `bars=False` says that the gateway
        cannot refuse a key it has not seen yet, so that a doubt stays a doubt. Raises DeclarationError.
        """
        where = f"compensation of step {self.name}"
        if self.compensation is not None:
            raise DeclarationError("declared twice", where=where, remedy="Keep one @step.compensate.")
        classes = _event_classes(emits, where, "emits")
        if not classes:
            raise DeclarationError("emits nothing", where=where, remedy="Name the event that says it is undone.")
        retry = retry or Retry()
        rule, timeout_ms = retry.rule(where), _positive(timeout, where, "timeout")

        def declare(handler: Handler) -> Compensation:
            found = hints.read(handler, where, (*classes, *self.outcomes))
            takes_none = hints.check_compensation(found, set(self.successes), set(classes), where)
            definition = CompensationDefinition(
                emits=tuple(c.event_type for c in classes),
                takes_none=takes_none,
                bars=bars,
                timeout_ms=timeout_ms,
                deadline_ms=_deadline(deadline, rule, timeout_ms, where),
                retry=rule,
            )
            self.compensation = Compensation(self, handler, definition, classes)
            self.never_undo = retry.never
            return self.compensation

        return declare


class Service:
    """A deployable set of steps: one consumer group."""

    def __init__(self, name: str) -> None:
        """Raises DeclarationError on a name that cannot be a consumer group."""
        checks.require_name(name, "service")
        self.name = name
        self.steps: dict[str, Step] = {}

    def step(
        self,
        *,
        on: EventClass,
        emits: EventClass | Sequence[EventClass] | None = None,
        fails: EventClass | Sequence[EventClass] | None = None,
        name: str | None = None,
        timeout: Duration = "30s",
        deadline: Duration | None = None,
        retry: Retry | None = None,
        effect: bool = True,
    ) -> Callable[[Handler], Step]:
        """Declare a step. Raises DeclarationError where the hints and the declaration disagree.

        `timeout` bounds one attempt; `deadline` bounds the step from its trigger on (default: all attempts and waits
        the retry policy allows, plus ten minutes). `effect=False` says that there is nothing to undo.
        """
        retry = retry or Retry()

        def declare(handler: Handler) -> Step:
            short = name or str(getattr(handler, "__name__", ""))
            where = f"step {self.name}.{short}"
            checks.require_name(short, f"step of service {self.name}")
            if short in self.steps:
                raise DeclarationError("declared twice", where=where, remedy="Give one of the two another name.")
            trigger = _one(on, where, "on", "Declare one step per event.")
            good, bad = _event_classes(emits, where, "emits"), _event_classes(fails, where, "fails")
            _no_overlap(trigger, good, bad, where)
            found = hints.read(handler, where, (trigger, *good, *bad))
            hints.check_handler(found, trigger, set(good), set(bad), where)
            rule, timeout_ms = retry.rule(where), _positive(timeout, where, "timeout")
            definition = StepDefinition(
                name=f"{self.name}.{short}",
                service=self.name,
                on=trigger.event_type,
                emits=tuple(cls.event_type for cls in good),
                fails=tuple(cls.event_type for cls in bad),
                timeout_ms=timeout_ms,
                deadline_ms=_deadline(deadline, rule, timeout_ms, where),
                retry=rule,
                effect=effect,
            )
            self.steps[short] = Step(definition, handler, trigger, (*good, *bad), retry.never)
            return self.steps[short]

        return declare


class Flow:
    """A business process, composed of services. Its graph is derived from what the steps declare."""

    def __init__(
        self,
        name: str,
        *,
        key: str,
        starts: EventClass,
        completes: EventClass,
        services: Sequence[Service],
        fails: EventClass | None = None,
        deadline: Duration | None = None,
        linger: Duration = "7d",
        max_hops: int = 0,
        version: int = 1,
    ) -> None:
        """Collect the parts; `definition` checks the whole.

        `key` is the field that every event carries; `starts`, `completes` and `fails` are event classes. `deadline`
        bounds a run, `linger` is how long it is remembered after its end, `max_hops` bounds a flow that has a cycle.
        Every event of a run has its `version`. Raises DeclarationError on a part that is not what its name says.
        """
        checks.require_name(name, "flow")
        where = f"flow {name}"
        self.name = name
        self.services: tuple[Service, ...] = _services(services, where)
        self._starts, self._completes = _one(starts, where, "starts"), _one(completes, where, "completes")
        self._fails = _one(fails, where, "fails") if fails is not None else None
        self._key = key
        self._deadline_ms = _positive(deadline, where, "deadline") if deadline is not None else 0
        self._linger_ms = milliseconds(linger, where)
        self._max_hops = _whole(max_hops, 0, where, "max_hops")
        self._version = _whole(version, 1, where, "version")
        self._waits: list[tuple[WaitDefinition, tuple[EventClass, ...]]] = []

    def wait(self, *, on: EventClass, until: EventClass, timeout: Duration, fails: EventClass) -> None:
        """Declare a wait for an event from outside: opened by `on`, satisfied by `until`.

        Past `timeout` the tracker says `fails`, an event class of just the key and a `reason`. Raises DeclarationError.
        """
        where = f"flow {self.name}, wait"
        classes = tuple(_one(cls, where, role) for role, cls in (("on", on), ("until", until), ("fails", fails)))
        opened, satisfied, failed = (cls.event_type for cls in classes)
        timeout_ms = _positive(timeout, f"{where} for {satisfied}", "timeout")
        self._waits.append((WaitDefinition(f"wait.{satisfied}", opened, satisfied, timeout_ms, failed), classes))

    @property
    def steps(self) -> dict[str, Step]:
        """Every step of every service, by `service.step`."""
        return {step.name: step for service in self.services for step in service.steps.values()}

    @property
    def event_classes(self) -> dict[str, EventClass]:
        """Every event class of the flow by type; raises DeclarationError when two share a type."""
        classes: dict[str, EventClass] = {}
        for cls in self._all_classes():
            require_key = getattr(cls, "require_key", None)
            if require_key is not None:
                require_key(self._key)
            known = classes.setdefault(cls.event_type, cls)
            if known is not cls:
                raise DeclarationError(
                    f"two event classes are called {cls.event_type}: {known.__module__} and {cls.__module__}",
                    where=f"flow {self.name}",
                    remedy="Rename one of them, or import the one class in both places.",
                )
        return classes

    def draft(self) -> FlowDefinition:
        """The flow as plain data, unchecked."""
        return FlowDefinition(
            name=self.name,
            key=self._key,
            starts=self._starts.event_type,
            completes=self._completes.event_type,
            steps=tuple(step.definition for step in self.steps.values()),
            waits=tuple(wait for wait, _ in self._waits),
            fails=self._fails.event_type if self._fails else "",
            deadline_ms=self._deadline_ms,
            linger_ms=self._linger_ms,
            hops_max=self._max_hops,
            version=self._version,
            events={name: tuple(cls.event_fields()) for name, cls in self.event_classes.items()},
        )

    def findings(self) -> list[checks.Finding]:
        """What the checks say of this flow: errors and warnings."""
        return checks.check(self.draft())

    @property
    def definition(self) -> FlowDefinition:
        """The checked flow as plain data; raises DeclarationError with every error the checks found."""
        draft = self.draft()
        checks.require(draft)
        return draft

    def _all_classes(self) -> list[EventClass]:
        classes = [self._starts, self._completes, *([self._fails] if self._fails else [])]
        for step in self.steps.values():
            classes += [step.on, *step.outcomes, *(step.compensation.emits if step.compensation else ())]
        for _, of_wait in self._waits:
            classes += of_wait
        return classes


def _services(value: Sequence[Service], where: str) -> tuple[Service, ...]:
    if not isinstance(value, list | tuple):
        raise DeclarationError(f"services={value!r} is no list", where=where, remedy="Write services=[a, b].")
    for service in value:
        if not isinstance(service, Service):
            raise DeclarationError(
                f"services= holds {service!r}, which is not a Service",
                where=where,
                remedy="Pass the Service itself, not the module it stands in.",
            )
        if not service.steps:
            raise DeclarationError(
                f"service {service.name} has no steps", where=where, remedy=f"Declare one with @{service.name}.step."
            )
    _distinct([service.name for service in value], where, "service", "Give each service a name of its own.")
    return tuple(value)


def _whole(value: object, least: int, where: str, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DeclarationError(f"{what}={value!r}", where=where, remedy=f"Give a whole number of at least {least}.")
    return value


def _event_classes(value: object, where: str, role: str) -> tuple[EventClass, ...]:
    if value is None:
        return ()
    members = tuple(value) if isinstance(value, tuple | list) else (value,)
    for member in members:
        event_type = getattr(member, "event_type", None)
        if not (isinstance(member, type) and isinstance(event_type, str) and event_type):
            raise DeclarationError(
                f"{role}={member!r} is not an event class", where=where, remedy="Derive it from choreo.Event."
            )
    _distinct([member.event_type for member in members], where, f"event in {role}=", "Name each event once.")
    return typing.cast("tuple[EventClass, ...]", members)


def _one(value: object, where: str, role: str, remedy: str = "Name one event.") -> EventClass:
    classes = _event_classes(value, where, role)
    if len(classes) != 1:
        got = ", ".join(hints.shown(cls) for cls in classes) or "none"
        raise DeclarationError(f"{role}= takes one event class, got {got}", where=where, remedy=remedy)
    return classes[0]


def _distinct(names: Sequence[str], where: str, what: str, remedy: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise DeclarationError(f"{what} {name} is named twice", where=where, remedy=remedy)


def _no_overlap(on: EventClass, good: Sequence[EventClass], bad: Sequence[EventClass], where: str) -> None:
    for cls in good:
        if cls in bad:
            raise DeclarationError(
                f"{cls.event_type} is in emits= and in fails=",
                where=where,
                remedy="An event is a success or a failure.",
            )
    if on in (*good, *bad):
        raise DeclarationError(
            f"{on.event_type} is its own trigger", where=where, remedy="Emit another event; a step may not feed itself."
        )


def _positive(value: Duration, where: str, what: str) -> int:
    duration_ms = milliseconds(value, where)
    if duration_ms <= 0:
        raise DeclarationError(f"{what}={value!r} leaves no time", where=where, remedy="Give a duration above 0.")
    return duration_ms


def _deadline(value: Duration | None, rule: RetryRule, timeout_ms: int, where: str) -> int:
    if value is None:
        deadline_ms = rule.span_ms(timeout_ms) + DEADLINE_SLACK_MS
        if deadline_ms > DURATION_MAX_MS:
            raise DeclarationError(
                f"its {rule.attempts_max} attempts and the waits between them take more than a thousand years",
                where=where,
                remedy="Lower max_attempts, timeout= or the waits, or give deadline=.",
            )
        return deadline_ms
    deadline_ms = _positive(value, where, "deadline")
    if deadline_ms < timeout_ms:
        raise DeclarationError(
            f"deadline={value!r} is shorter than the timeout of one attempt",
            where=where,
            remedy="Raise the deadline or lower the timeout.",
        )
    return deadline_ms
