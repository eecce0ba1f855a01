"""A flow: services, waits, and the graph that follows from the declarations of their steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from choreo.core.checks import checks
from choreo.core.declare import invariants, waits
from choreo.core.declare.attributes import Attributes
from choreo.core.declare.carries import Carry, Maker
from choreo.core.declare.parts import distinct, event_classes, one_class, positive, whole
from choreo.core.declare.steps import Service, Step
from choreo.core.declare.waits import After, Every
from choreo.core.definition import FlowDefinition, WaitDefinition
from choreo.core.durations import Duration, milliseconds
from choreo.core.errors import DeclarationError
from choreo.core.run_view import Invariant
from choreo.core.signatures import EventClass


class Flow:
    """A business process, composed of services. Its graph is derived from the declarations of its steps."""

    def __init__(
        self,
        name: str,
        *,
        key: str,
        starts: EventClass,
        completes: EventClass | Mapping[EventClass, str],
        services: Sequence[Service],
        fails: EventClass | None = None,
        deadline: Duration | None = None,
        linger: Duration = "7d",
        max_hops: int = 0,
        version: int = 1,
    ) -> None:
        """Collect the parts; `definition` checks the whole.

        `key` is the field that every event carries; `starts`, `completes` and `fails` are event classes. Where a run
        may end well in several ways, `completes` names the outcome of each: `{Paid: "paid", Denied: "no"}`. `deadline`
        bounds a run, `linger` is how long it is remembered after its end, `max_hops` bounds a flow with a cycle. Every
        event of a run carries the flow's `version`. Raises DeclarationError on a part of the wrong kind.
        """
        checks.require_name(name, "flow")
        where = f"flow {name}"
        self.name = name
        self.services: tuple[Service, ...] = _services(services, where)
        self._starts = one_class(starts, where, "starts")
        self._completes = _completes(completes, where)
        self._fails = one_class(fails, where, "fails") if fails is not None else None
        self._key = key
        self._deadline_ms = positive(deadline, where, "deadline") if deadline is not None else 0
        self._linger_ms = milliseconds(linger, where)
        self._max_hops = whole(max_hops, 0, where, "max_hops")
        self._version = whole(version, 1, where, "version")
        self._waits: list[tuple[WaitDefinition, tuple[EventClass, ...]]] = []
        self.carried: list[Carry] = []
        self._attributes = Attributes(name)
        self.invariants: tuple[Invariant, ...] = ()

    def wait(
        self,
        name: str = "",
        *,
        on: EventClass,
        until: EventClass | Sequence[EventClass],
        timeout: Duration | None = None,
        fails: EventClass | None = None,
        then: EventClass | None = None,
        refused: EventClass | None = None,
        remind: Every | None = None,
        escalate: After | None = None,
        optional: bool = False,
    ) -> None:
        """Declare a wait for an event from outside: opened by `on`, satisfied by the first of `until`.

        After `timeout` the tracker publishes `fails`, which compensates the run, or `then`, with which it goes on; both
        carry just the key and a `reason`. `refused` is an event from outside that compensates the run. The wait is
        called by its `name`, or by the first event of `until`. While it is open the tracker publishes the events of
        `remind=Every("1d", emits=...)` and `escalate=After("3d", emits=...)`. An `optional` wait does not hold the end
        of its run, and needs no time-out. Raises DeclarationError.
        """
        self._waits.append(
            waits.wait_of(
                f"flow {self.name}, wait",
                name,
                on=on,
                until=until,
                timeout=timeout,
                fails=fails,
                then=then,
                refused=refused,
                remind=remind,
                escalate=escalate,
                optional=optional,
            )
        )

    def timer(
        self,
        name: str,
        *,
        on: EventClass,
        after: Duration | None = None,
        at: str = "",
        emits: EventClass,
        moved_by: EventClass | None = None,
        cancelled_by: EventClass | None = None,
    ) -> None:
        """Declare a timer: after `on` and that much time the tracker publishes `emits`, with just the key.

        In place of `after`, `at` names a datetime field of `on` with the moment. `moved_by` is an event that lets the
        duration begin anew, or that has another moment in its field of the same name. `cancelled_by` is an event from
        outside that ends the timer before. The run stays open until then. Raises DeclarationError.
        """
        where = f"flow {self.name}, timer {name}"
        found = waits.timer_of(
            where, name, on=on, after=after, at=at, emits=emits, moved_by=moved_by, cancelled_by=cancelled_by
        )
        self._waits.append(found)

    def carries(self, event: EventClass, *, to: Flow, makes: Maker | None = None) -> None:
        """Let the bridge publish each `event` of this flow in the flow `to`, where it starts a run or is awaited.

        Without `makes` it is the same event, and its field for the key of `to` is its key there. `makes` is a pure
        function that returns the event of `to`, or None for no event. Raises DeclarationError.
        """
        carry = Carry(self.name, event, to, makes)
        if any(known.definition.name == carry.definition.name for known in self.carried):
            raise DeclarationError(
                f"it is carried to flow {to.name} already",
                where=f"flow {self.name}, carries {carry.on.event_type}",
                remedy="Declare it once; makes= may return one of several events.",
            )
        self.carried.append(carry)

    def attribute(self, name: str, event: EventClass, *, field: str = "") -> None:
        """Let each `event` of a run set its search attribute `name`, by which lists of runs are filtered.

        The value is that of `field`, which is `name` where it is left out. The attribute may be declared once for each
        of several events: the newest one in log order counts. Raises DeclarationError.
        """
        self._attributes.add(name, event, field)

    def invariant(self, rule: Invariant) -> Invariant:
        """Declare a rule that holds in every state of every run; `choreo verify` looks for a state that breaks it.

        Write `@flow.invariant` above a pure function of one `RunView` that returns True, or False or a message where
        the rule is broken. Raises DeclarationError.
        """
        invariants.declared(rule, self.invariants, f"flow {self.name}, invariant {invariants.name_of(rule)}")
        self.invariants = (*self.invariants, rule)
        return rule

    @property
    def steps(self) -> dict[str, Step]:
        """Return every step of every service, by `service.step`."""
        return {step.name: step for service in self.services for step in service.steps.values()}

    @property
    def start_class(self) -> EventClass:
        """Return the class of the start event."""
        return self._starts

    @property
    def child_flows(self) -> dict[str, Flow]:
        """Return the flows of which its steps start children, by name."""
        return {step.child.name: step.child for step in self.steps.values() if step.child is not None}

    @property
    def event_classes(self) -> dict[str, EventClass]:
        """Return every event class of the flow by type; raises DeclarationError when two share a type."""
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
                    code="C705",
                )
        list(self._narrow_reasons())  # raises if a reason can hold no text at all
        return classes

    def draft(self) -> FlowDefinition:
        """Return the flow as plain data, unchecked."""
        return FlowDefinition(
            name=self.name,
            key=self._key,
            starts=self._starts.event_type,
            completes=next(iter(self._completes)).event_type,
            steps=tuple(step.definition for step in _present(self.steps.values(), self._version, self.name)),
            waits=tuple(wait for wait, _ in self._waits),
            carries=tuple(carry.definition for carry in self.carried),
            attributes=self._attributes.definitions,
            fails=self._fails.event_type if self._fails else "",
            deadline_ms=self._deadline_ms,
            linger_ms=self._linger_ms,
            hops_max=self._max_hops,
            version=self._version,
            outcomes={cls.event_type: name for cls, name in self._completes.items() if name},
            events={name: tuple(cls.event_fields()) for name, cls in self.event_classes.items()},
        )

    def findings(self) -> list[checks.Finding]:
        """Return the findings of all checks of this flow: errors and warnings."""
        return [*checks.check(self.draft()), *self._narrow_reasons()]

    def _narrow_reasons(self) -> Iterator[checks.Finding]:
        """Warn of a `reason` that the tracker fills in with a sentence, and whose type holds only some texts."""
        for cls in self._made_by_tracker():
            narrow = getattr(cls, "narrow_reason", str)()
            if narrow:
                yield checks.Finding(
                    "C108",
                    f"flow {self.name}, event {cls.event_type}",
                    f"the tracker fills in reason with a sentence, and it is declared {narrow}",
                    "Declare it as str, without bounds.",
                )

    def _made_by_tracker(self) -> list[EventClass]:
        """Return the event classes that the tracker makes."""
        joins = [cls for step in self.steps.values() if step.child is not None for cls in step.outcomes]
        made = {type_ for wait, _ in self._waits for type_ in (wait.late, *wait.says)}
        of_waits = (cls for _, classes in self._waits for cls in classes if cls.event_type in made)
        return [*([self._fails] if self._fails else []), *of_waits, *joins]

    @property
    def definition(self) -> FlowDefinition:
        """Return the checked flow as plain data; raises DeclarationError with every error that the checks found."""
        draft = self.draft()
        checks.require(draft)
        return draft

    def _all_classes(self) -> list[EventClass]:
        classes = [self._starts, *self._completes, *([self._fails] if self._fails else [])]
        for step in self.steps.values():
            classes += [*step.takes, *step.outcomes, *(step.compensation.emits if step.compensation else ())]
        for _, of_wait in self._waits:
            classes += of_wait
        return [*classes, *self._attributes.classes]


def _present(steps: Iterable[Step], version: int, flow: str) -> Iterator[Step]:
    """Yield the steps that serve the flow's version; the others serve runs of older ones."""
    for step in steps:
        if step.versions.first > version:
            raise DeclarationError(
                f"serves versions {step.versions}, and the flow is of version {version}",
                where=f"flow {flow}, step {step.name}",
                remedy=f"Declare version={step.versions.first} of the flow, or a range that has its version.",
            )
        if step.versions.has(version):
            yield step


def _completes(value: object, where: str) -> dict[EventClass, str]:
    """Return the events that complete a run, each with the name of its outcome; "" if there is one way only."""
    if not isinstance(value, Mapping):
        return {one_class(value, where, "completes", 'Name one event, or several as {Done: "done", No: "no"}.'): ""}
    event_classes(list(value), where, "completes")
    if not value or not all(isinstance(name, str) and name for name in value.values()):
        raise DeclarationError(
            f"completes={value!r:.80}", where=where, remedy='Give each event the name of its outcome: {Done: "done"}.'
        )
    distinct(list(value.values()), where, "outcome", "Give each event an outcome of its own.")
    return dict(value)


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
    distinct(
        [service.name for service in value],
        where,
        "service",
        "Name each service once; its steps in one only().",
    )
    return tuple(value)
