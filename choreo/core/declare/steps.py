"""Services and their steps: handlers, the events that they emit or fail with, and compensations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from choreo.core import signatures
from choreo.core.checks import checks
from choreo.core.conditions import Condition, FieldRef
from choreo.core.declare.children import ChildrenOptions, Join, all_children, declared
from choreo.core.declare.conditions import Subject, bound
from choreo.core.declare.hooks import Hook, HookT, require_hook
from choreo.core.declare.parts import deadline_of, event_classes, heartbeat_of, no_overlap, positive
from choreo.core.declare.processes import require_process
from choreo.core.declare.triggers import AllOf, AnyOf, parameters_of, triggers_of
from choreo.core.definition import CompensationDefinition, StepDefinition
from choreo.core.durations import Duration
from choreo.core.errors import DeclarationError
from choreo.core.retry import Retry
from choreo.core.signatures import EventClass, Handler
from choreo.core.version_range import EVERY, VersionRange, served

if TYPE_CHECKING:
    from choreo.core.declare.flow import Flow


class Compensation:
    """The handler that undoes one step's effect."""

    def __init__(
        self,
        step: Step,
        handler: Handler,
        definition: CompensationDefinition,
        emits: Sequence[EventClass],
        needs: Sequence[EventClass] = (),
    ) -> None:
        """Keep the parts; `Step.compensate` calls this."""
        self.step = step
        self.handler = handler
        self.definition = definition
        self.emits: tuple[EventClass, ...] = tuple(emits)
        self.needs: tuple[EventClass, ...] = tuple(needs)
        """Classes of the events that it takes besides the outcome."""

    def __call__(self, *args: Any) -> Any:
        """Call the handler itself, as in a unit test."""
        return self.handler(*args)


class Step:
    """A reaction to an event: a handler, and the events that it emits or fails with. Made by `Service.step`."""

    def __init__(
        self,
        definition: StepDefinition,
        handler: Handler,
        takes: Sequence[EventClass],
        outcomes: Sequence[EventClass],
        never: tuple[type[BaseException], ...],
        versions: VersionRange = EVERY,
    ) -> None:
        """Keep the parts; `Service.step` calls this."""
        self._definition = definition
        self.handler = handler
        self.takes: tuple[EventClass, ...] = tuple(takes)
        """Classes of the events that it takes: of its triggers, and of the needed events."""
        self.outcomes: tuple[EventClass, ...] = tuple(outcomes)
        self.never = never
        self.versions = versions
        """The versions of the flow that it serves."""
        self.never_undo: tuple[type[BaseException], ...] = ()
        self.heartbeat_ms: int = definition.heartbeat_ms
        self.in_process: bool = definition.runs_in == "process"
        self.compensation: Compensation | None = None
        self.child: Flow | None = None
        """The flow of which it starts runs."""

    def __call__(self, *args: Any) -> Any:
        """Call the handler itself, as in a unit test."""
        return self.handler(*args)

    @property
    def name(self) -> str:
        """Return `service.step`."""
        return self._definition.name

    @property
    def definition(self) -> StepDefinition:
        """Return the step as plain data, with its compensation."""
        if self.compensation is None:
            return self._definition
        return msgspec.structs.replace(self._definition, compensation=self.compensation.definition)

    @property
    def successes(self) -> tuple[EventClass, ...]:
        """Return the outcomes that are successes, in declared order."""
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
        """Declare the handler that undoes this step's effect, and the event that it emits.

        The handler takes the outcome (or None when it is in doubt), then the events of the run that it needs, then the
        context. A needed event is the newest of its class before the run's compensation began, as in `step`: `X`,
        `X | None`, `list[X]`. `bars=False`: the gateway cannot
        refuse a key that it has not seen yet, so that a doubt stays a doubt. Raises DeclarationError.
        """
        where = f"compensation of step {self.name}"
        if self.child is not None:
            remedy = f"Leave it out: the steps of flow {self.child.name} have compensations."
            raise DeclarationError("its children undo themselves", where=where, remedy=remedy)
        if self.compensation is not None:
            raise DeclarationError("declared twice", where=where, remedy="Keep one @step.compensate.")
        classes = event_classes(emits, where, "emits")
        if not classes:
            raise DeclarationError("emits nothing", where=where, remedy="Name the event of a finished undo.")
        retry = retry or Retry()
        rule, timeout_ms = retry.rule(where), positive(timeout, where, "timeout")

        def declare(handler: Handler) -> Compensation:
            found = signatures.read(handler, where, (*classes, *self.outcomes), needs=True)
            taken = signatures.needed_to_undo(found, where)
            takes_none = signatures.check_compensation(found, set(self.successes), set(classes), where)
            definition = CompensationDefinition(
                emits=tuple(c.event_type for c in classes),
                takes_none=takes_none,
                bars=bars,
                timeout_ms=timeout_ms,
                deadline_ms=deadline_of(deadline, rule, timeout_ms, where),
                retry=rule,
                takes=parameters_of(taken),
            )
            needs = [each.cls for each in taken if each.cls is not None]
            self.compensation = Compensation(self, handler, definition, classes, needs)
            self.never_undo = retry.never
            return self.compensation

        return declare


class Service:
    """A deployable set of steps: one consumer group. Several flows may have it, with all steps or `only` some."""

    def __init__(self, name: str) -> None:
        """Name the service; raises DeclarationError if the name cannot be a consumer group."""
        checks.require_name(name, "service")
        self.name = name
        self.steps: dict[str, Step] = {}
        self.whole: Service = self
        """The service with all its steps, of a part that `only` returned."""
        self._hooks: list[Hook] = []

    def only(self, *steps: Step | str) -> Service:
        """Return this service with only these steps, for a flow: `services=[payment.only(charge)]`.

        Its name, its consumer group and its memory stay the same. Raises DeclarationError on a step of another service.
        """
        where = f"service {self.name}, only"
        if not steps:
            raise DeclarationError("it names no step", where=where, remedy="Name the steps that the flow has.")
        known = {step.name: short for short, step in self.steps.items()}
        part = Service(self.name)
        part.whole = self.whole
        for step in steps:
            short = known.get(step.name) if isinstance(step, Step) else step
            if short not in self.steps or (isinstance(step, Step) and self.steps[short] is not step):
                raise DeclarationError(
                    f"{step.name if isinstance(step, Step) else repr(step)} is no step of it",
                    where=where,
                    remedy=f"Its steps are: {', '.join(self.steps) or 'none yet'}.",
                )
            if short in part.steps:
                raise DeclarationError(f"step {short} is named twice", where=where, remedy="Name each step once.")
            part.steps[short] = self.steps[short]
        return part

    def step(
        self,
        *,
        on: EventClass | AllOf | AnyOf,
        emits: EventClass | Sequence[EventClass] | None = None,
        fails: EventClass | Sequence[EventClass] | None = None,
        name: str | None = None,
        timeout: Duration = "30s",
        deadline: Duration | None = None,
        retry: Retry | None = None,
        effect: bool = True,
        when: Condition | FieldRef | None = None,
        heartbeat: Duration | None = None,
        runs_in: Literal["process"] | None = None,
        versions: str | None = None,
    ) -> Callable[[Handler], Step]:
        """Declare a step. Raises DeclarationError if the type hints and the declaration disagree.

        `on` is an event, `all_of(...)` or `any_of(...)`. The handler takes its trigger (of `all_of` each event), then
        the earlier events of the run that it needs, then the context. A needed event is the newest of its class:
        `X | None` where it may be missing, `list[X]` for all of them in order.
        `timeout` bounds one attempt; `deadline` bounds the step from its trigger on (default: all attempts and waits of
        the retry policy, plus ten minutes). `effect=False`: there is nothing to undo. `when` is a condition on the
        fields of `on`, of `all_of` on all its events, or `otherwise()`: the step runs only if it holds. An attempt that
        does not call `ctx.heartbeat` for as long as `heartbeat` has failed. It serves `versions` of the flow: "2-",
        "1-2", "1". `runs_in="process"`: a plain handler at the top of a module runs in a process of its own.
        """
        retry = retry or Retry()
        self._require_whole("a step")

        def declare(handler: Handler) -> Step:
            where = self._require_new(short := name or str(getattr(handler, "__name__", "")))
            fields, takes, outcomes = _events_of(handler, on, emits, fails, where)
            rule, timeout_ms = retry.rule(where), positive(timeout, where, "timeout")
            heartbeat_ms, serves = heartbeat_of(heartbeat, timeout_ms, where), served(versions, where)
            definition = StepDefinition(
                name=f"{self.name}.{short}",
                service=self.name,
                timeout_ms=timeout_ms,
                deadline_ms=deadline_of(deadline, rule, timeout_ms, where),
                retry=rule,
                effect=effect,
                when=bound(when, Subject(triggers_of(on, where), isinstance(on, AllOf)), where),
                heartbeat_ms=heartbeat_ms,
                runs_in="process" if require_process(runs_in, handler, heartbeat_ms, where) else "",
                **fields,
            )
            return self.steps.setdefault(short, Step(definition, handler, takes, outcomes, retry.never, serves))

        return declare

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """Return the hooks around its attempts, the outermost first; a part has those of the whole service."""
        return tuple(self.whole._hooks)  # noqa: SLF001 - of its own class

    def around(self, hook: HookT) -> HookT:
        """Declare a hook around every attempt of this service, compensations included: `async def hook(ctx, call)`.

        The hook returns the outcome of `await call()`. Several nest, the first declared is the outermost. Raises
        DeclarationError on anything but an async function of two arguments.
        """
        self._require_whole("a hook")
        require_hook(hook, self._hooks, self.name)
        self._hooks.append(hook)
        return hook

    def _require_new(self, short: str) -> str:
        """Check the name of a new step; return its place for errors."""
        where = f"step {self.name}.{short}"
        checks.require_name(short, f"step of service {self.name}")
        if short in self.steps:
            raise DeclarationError("declared twice", where=where, remedy="Give one of the two another name.")
        return where

    def children(
        self,
        *,
        on: EventClass | AllOf | AnyOf,
        flow: Flow,
        emits: EventClass | Sequence[EventClass],
        fails: EventClass | None = None,
        join: Join | None = None,
        window: int = 0,
        name: str | None = None,
        timeout: Duration = "30s",
        deadline: Duration = "1d",
        undo_deadline: Duration = "1d",
        retry: Retry | None = None,
        when: Condition | FieldRef | None = None,
    ) -> Callable[[Handler], Step]:
        """Declare a step that starts runs of another flow: its handler yields their start events.

        The tracker publishes `emits` once the children are joined (`all_children()` unless `join` says otherwise), and
        `fails` when they cannot be any more; with `emits=(Joined, NotJoined)` it publishes the second one instead, and
        the run goes on. `on`, `when` and the handler's events are as in `step`. At most `window` children are open at
        once; 0: all. `deadline` bounds the step up to the join, `undo_deadline` the undoing of its children. Raises
        DeclarationError.
        """
        self._require_whole("a step")
        options = ChildrenOptions(
            on=on,
            flow=flow,
            emits=emits,
            fails=fails,
            join=join if join is not None else all_children(),
            window=window,
            timeout=timeout,
            deadline=deadline,
            undo_deadline=undo_deadline,
            retry=retry or Retry(),
            when=when,
        )

        def declare(handler: Handler) -> Step:
            short = name or str(getattr(handler, "__name__", ""))
            self._require_new(short)
            parts = declared(self.name, short, handler, options)
            step = Step(parts.definition, parts.handler, parts.takes, parts.outcomes, options.retry.never)
            step.child = flow
            self.steps[short] = step
            return step

        return declare

    def _require_whole(self, declared: str) -> None:
        if self.whole is not self:
            raise DeclarationError(
                f"{declared} is declared on a part that only() returned",
                where=f"service {self.name}",
                remedy="Declare it on the service itself, before only().",
            )


def _events_of(
    handler: Handler, on: object, emits: object, fails: object, where: str
) -> tuple[dict[str, Any], tuple[EventClass, ...], tuple[EventClass, ...]]:
    """Return the fields of a step's definition that name events, the classes that it takes, and its outcomes."""
    triggers = triggers_of(on, where)
    good, bad = event_classes(emits, where, "emits"), event_classes(fails, where, "fails")
    for trigger in triggers:
        no_overlap(trigger, good, bad, where)
    found = signatures.read(handler, where, (*triggers, *good, *bad), needs=True)
    taken = signatures.check_arguments(found, triggers, where, together=isinstance(on, AllOf))
    signatures.check_returned(found, set(good), set(bad), where)
    types = tuple(cls.event_type for cls in triggers)
    fields = {
        "on": types[0],
        "all_of": types if isinstance(on, AllOf) else (),
        "any_of": types if isinstance(on, AnyOf) else (),
        "takes": parameters_of(taken),
        "emits": tuple(cls.event_type for cls in good),
        "fails": tuple(cls.event_type for cls in bad),
        "emits_all": (all_of_them := signatures.returns_all(found, set(good))),
        "emits_some": not all_of_them and signatures.returns_several(found, set(good)),
    }
    takes = dict.fromkeys((*triggers, *(each.cls for each in taken if each.cls is not None)))
    return fields, tuple(takes), (*good, *bad)
