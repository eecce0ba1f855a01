"""A step that starts child flows: when they are joined, and the handler that yields their start events."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from choreo.core import signatures
from choreo.core.checks import checks
from choreo.core.declare.conditions import Subject, bound
from choreo.core.declare.parts import event_classes, no_overlap, positive, whole
from choreo.core.declare.triggers import AllOf, AnyOf, parameters_of, triggers_of
from choreo.core.definition import ChildrenDefinition, CompensationDefinition, StepDefinition
from choreo.core.durations import Duration
from choreo.core.errors import DeclarationError
from choreo.core.retry import Retry
from choreo.core.signatures import EventClass, Handler

if TYPE_CHECKING:
    from choreo.core.declare.flow import Flow

_SEVERAL = (Iterable, Iterator, Sequence, list, tuple, AsyncIterable, AsyncIterator)


class Join(msgspec.Struct, frozen=True):
    """When a step's children are joined. Made by `all_children`, `tolerate`, `first_children` and `first_success`."""

    tolerated: int = 0
    first: int = 0


def all_children() -> Join:
    """Join when every child has completed; the first one that fails is the step's failure."""
    return Join()


def tolerate(failures: int) -> Join:
    """Join when every child has ended and at most `failures` of them have failed. Raises DeclarationError."""
    return Join(tolerated=whole(failures, 0, "join", "tolerate"))


def first_children(n: int) -> Join:
    """Join when `n` children have completed; the others are undone. Raises DeclarationError."""
    return Join(first=whole(n, 1, "join", "first_children"))


def first_success() -> Join:
    """Join when the first child has completed; the others are undone."""
    return Join(first=1)


class ChildrenOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The keywords of `Service.children`."""

    on: Any
    flow: Any
    emits: Any
    fails: Any
    join: Any
    window: int
    timeout: Duration
    deadline: Duration
    undo_deadline: Duration
    retry: Retry
    when: Any


class Declared(typing.NamedTuple):
    """The parts of a step, for `Service.children`."""

    definition: StepDefinition
    handler: Handler
    takes: tuple[EventClass, ...]
    outcomes: tuple[EventClass, ...]


def declared(service: str, short: str, handler: Handler, options: ChildrenOptions) -> Declared:
    """Return the parts of a step that starts children. Raises DeclarationError where its declaration is wrong."""
    where = f"step {service}.{short}"
    checks.require_name(short, f"step of service {service}")
    triggers, together = triggers_of(options.on, where), isinstance(options.on, AllOf)
    good, bad = _outcomes(options, where)
    for trigger in triggers:
        no_overlap(trigger, good, bad, where)
    _check_join_events((*good, *bad), where)
    child = _flow(options.flow, where)
    taken = _taken(handler, triggers, child.start_class, where, together=together)
    rule, timeout_ms = options.retry.rule(where), positive(options.timeout, where, "timeout")
    deadline_ms = positive(options.deadline, where, "deadline")
    undo_ms = positive(options.undo_deadline, where, "undo_deadline")
    definition = StepDefinition(
        name=f"{service}.{short}",
        service=service,
        on=triggers[0].event_type,
        all_of=tuple(cls.event_type for cls in triggers) if together else (),
        any_of=tuple(cls.event_type for cls in triggers) if isinstance(options.on, AnyOf) else (),
        takes=parameters_of(taken),
        emits=tuple(cls.event_type for cls in good),
        fails=tuple(cls.event_type for cls in bad),
        timeout_ms=timeout_ms,
        deadline_ms=deadline_ms,
        retry=rule,
        compensation=CompensationDefinition(
            emits=(), takes_none=True, bars=True, timeout_ms=min(timeout_ms, undo_ms), deadline_ms=undo_ms
        ),
        children=_definition(child, options, where),
        when=bound(options.when, Subject(triggers, together), where),
    )
    takes = dict.fromkeys((*triggers, *(each.cls for each in taken if each.cls is not None)))
    return Declared(definition, _collected(handler), tuple(takes), (*good, *bad))


def _outcomes(options: ChildrenOptions, where: str) -> tuple[tuple[EventClass, ...], tuple[EventClass, ...]]:
    """Return the events with which the run goes on, joined and not joined, and the one that compensates it."""
    good, bad = event_classes(options.emits, where, "emits"), event_classes(options.fails, where, "fails")
    if not 1 <= len(good) <= 2:
        raise DeclarationError(
            f"emits= has {len(good) or 'no'} events",
            where=where,
            remedy="Name the event that says that the children are joined, and the one that goes on if they are not.",
        )
    if len(bad) > 1:
        raise DeclarationError("fails= has several events", where=where, remedy="Name the one that the tracker makes.")
    if len(good) == 2 and bad:
        raise DeclarationError(
            f"{good[1].event_type} goes on where the children are not joined, and {bad[0].event_type} compensates",
            where=where,
            remedy="Leave fails= out, or the second event of emits=.",
        )
    return good, bad


_SAMPLES = {
    "results": ('[{"place": 0, "key": "p-1", "outcome": "compensated", "reason": "refused"}]', "list[ChildResult]"),
    "all_results": ('"/flows/order/instances/o-1/children?step=parcels.split"', "str"),
    "completed": ("2", "int"),
    "failed": ("1", "int"),
    "reason": ('"1 of 3 children failed"', "str"),
}
"""The tracker's fields of a join's event: a value of each as JSON, and the type that holds it."""


def _holds_all(_name: str, _sample: str) -> bool:
    return False


def _check_join_events(classes: Sequence[EventClass], where: str) -> None:
    """Check that the events of the join can hold the tracker's values."""
    for cls in classes:
        cannot_hold: Callable[[str, str], bool] = getattr(cls, "cannot_hold", _holds_all)
        for name, (sample, hint) in _SAMPLES.items():
            if cannot_hold(name, sample):
                raise DeclarationError(
                    f"the tracker fills in {cls.event_type}.{name}, and its type cannot hold that",
                    where=where,
                    remedy=f"Declare it as {name}: {hint}.",
                )


def _flow(flow: Any, where: str) -> Flow:
    if not hasattr(flow, "start_class"):
        raise DeclarationError(f"flow={flow!r} is not a Flow", where=where, remedy="Pass the child Flow itself.")
    return typing.cast("Flow", flow)


def _definition(child: Flow, options: ChildrenOptions, where: str) -> ChildrenDefinition:
    join = options.join
    if not isinstance(join, Join):
        remedy = "Write join=all_children(), tolerate(2), first_children(3) or first_success()."
        raise DeclarationError(f"join={join!r} is no join", where=where, remedy=remedy)
    window = whole(options.window, 0, where, "window")
    return ChildrenDefinition(child.name, tolerated=join.tolerated, first=join.first, window=window)


def _taken(
    handler: Handler, triggers: Sequence[EventClass], start: EventClass, where: str, *, together: bool
) -> list[signatures.Taken]:
    """Return the handler's arguments; it gives starts of the child flow. Raises DeclarationError."""
    found = signatures.read(handler, where, (*triggers, start), needs=True, yields=True)
    taken = signatures.check_arguments(found, triggers, where, together=together)
    origin = typing.get_origin(found.returns)
    given = {part for part in typing.get_args(found.returns) if part is not Ellipsis}
    if origin not in _SEVERAL or given != {start}:
        raise DeclarationError(
            f"the handler is hinted to return {signatures.shown(found.returns)}",
            where=where,
            remedy=f"It yields starts of the child flow: hint -> Iterable[{start.event_type}].",
        )
    return taken


def _collected(handler: Handler) -> Handler:
    """Return the handler as one that returns a list: its code runs within the attempt, and not later."""
    if inspect.isasyncgenfunction(handler):

        @functools.wraps(handler)
        async def from_async_generator(*args: Any) -> list[Any]:
            return [start async for start in handler(*args)]

        return from_async_generator
    if inspect.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def from_coroutine(*args: Any) -> list[Any]:
            return list(await handler(*args))

        return from_coroutine

    @functools.wraps(handler)
    def from_iterable(*args: Any) -> list[Any]:
        return list(handler(*args))

    return from_iterable
