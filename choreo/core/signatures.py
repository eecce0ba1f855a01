"""Check the type hints of a handler against the declaration of its step. Reads signatures; never calls a handler."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, TypeAlias

from choreo.core.context import StepContext
from choreo.core.errors import DeclarationError
from choreo.core.wording import counted

EventClass: TypeAlias = type[Any]
"""An event class: anything with `event_type` and `event_fields()`."""

Handler: TypeAlias = Callable[..., Any]

_ABSENT = inspect.Parameter.empty
_NONE = type(None)


class Hints(NamedTuple):
    """The hints that count: of the arguments before the context, and of the result; `_ABSENT` where there is none."""

    events: tuple[Any, ...]
    returns: Any

    @property
    def event(self) -> Any:
        """Return the hint of the first argument."""
        return self.events[0]


class Taken(NamedTuple):
    """An argument of a step's handler. `cls` is None for the trigger of whichever class."""

    cls: EventClass | None
    optional: bool = False
    many: bool = False


def read(
    handler: object, where: str, known: Sequence[EventClass], *, needs: bool = False, yields: bool = False
) -> Hints:
    """Return the handler's hints; `known` are event classes that its hints may name without importing them.

    With `needs` it may take further events between the first one and the context. `yields`: it may be a
    generator. Raises DeclarationError if the handler does not take (event, context) or a hint cannot be resolved.
    """
    if not callable(handler):
        raise DeclarationError(f"{handler!r} is not callable", where=where, remedy="Decorate a function.")
    if not yields and (inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler)):
        raise DeclarationError(
            "the handler is a generator", where=where, remedy="Return the event instead of yielding it."
        )
    *events, context = _arguments(handler, where, needs=needs)
    found = resolved(handler, where, known)
    if found.get(context, StepContext) not in (StepContext, Any):
        raise DeclarationError(
            f"the handler's last argument is hinted {shown(found[context])}",
            where=where,
            remedy="Hint it as StepContext.",
        )
    return Hints(tuple(found.get(event, _ABSENT) for event in events), found.get("return", _ABSENT))


def check_arguments(hints: Hints, on: Sequence[EventClass], where: str, *, together: bool) -> list[Taken]:
    """Return the arguments of a step's handler: its triggers, all `together` or one of them, then the needed events."""
    front = len(on) if together else 1
    if len(hints.events) < front:
        raise DeclarationError(
            f"the handler takes {counted(len(hints.events), 'event')}, the step is on all of {_listed(on)}",
            where=where,
            remedy="Take each of them, in any order, before the context.",
        )
    if not together and set(alternatives(hints.event)) != set(on):
        raise DeclarationError(
            f"the handler's event is hinted {shown(hints.event)}, the step is on {_listed(on, ' | ')}",
            where=where,
            remedy=f"Hint it as {_listed(on, ' | ')}.",
        )
    taken = [] if together else [Taken(None)]
    taken += [_needed(hint, on, where) for hint in hints.events[len(taken) :]]
    _check_once(taken, where)
    classes = [each.cls for each in taken]
    for cls in on if together else ():
        if classes.count(cls) != 1 or taken[classes.index(cls)] != Taken(cls):
            raise DeclarationError(
                f"the step is on all of {_listed(on)}, and no argument is hinted {shown(cls)} alone",
                where=where,
                remedy=f"Take each of them once: {', '.join(shown(each) for each in on)}, then what else is needed.",
            )
    return taken


def needed_to_undo(hints: Hints, where: str) -> list[Taken]:
    """Return the arguments of a compensation: the outcome, then the needed events."""
    taken = [Taken(None), *(_needed(hint, (), where) for hint in hints.events[1:])]
    _check_once(taken, where)
    return taken


def _check_once(taken: Sequence[Taken], where: str) -> None:
    """Check that no two arguments are events of one class."""
    classes = [each.cls for each in taken]
    for twice in (each for each in classes if classes.count(each) > 1):
        raise DeclarationError(
            f"two arguments of the handler are hinted {shown(twice)}",
            where=where,
            remedy=f"Take the newest as {shown(twice)}, or all as list[{shown(twice)}].",
        )


def _needed(hint: object, on: Sequence[EventClass], where: str) -> Taken:
    """Return one argument after the trigger."""
    each = alternatives(hint)
    optional = _NONE in each
    rest = [one for one in each if one is not _NONE]
    many = len(rest) == 1 and typing.get_origin(rest[0]) is list
    found = typing.get_args(rest[0]) if many else tuple(rest)
    cls = found[0] if len(found) == 1 else None
    if not (isinstance(cls, type) and isinstance(getattr(cls, "event_type", None), str)) or (many and optional):
        raise DeclarationError(
            f"an argument of the handler is hinted {shown(hint)}, which names no earlier event",
            where=where,
            remedy="Hint it as an event class X, as X | None if it may be missing, or as list[X] for all of them; "
            "the context comes last.",
        )
    if cls in on and (many or optional):
        raise DeclarationError(
            f"an argument of the handler is hinted {shown(hint)}, and {shown(cls)} is a trigger of the step",
            where=where,
            remedy=f"Hint it as {shown(cls)}.",
        )
    return Taken(cls, optional, many)


def check_returned(hints: Hints, successes: AbstractSet[Any], failures: AbstractSet[Any], where: str) -> None:
    """Check that a step's handler returns each of its outcomes and no other event.

    Several at once must be successes of different types: of one type only the first would be handled.
    """
    _check_several(hints.returns, successes, where)
    _check_returns(hints, {*successes, *failures} if successes else {*failures, _NONE}, where)


def check_compensation(
    hints: Hints, successes: AbstractSet[EventClass], emits: AbstractSet[EventClass], where: str
) -> bool:
    """Check that a compensation takes any success of its step and returns its events.

    Returns whether it also takes None (in doubt). Only a compensation that may get None may return it: with an outcome,
    there is something to undo.
    """
    taken, wanted = _members(hints.event), successes or {_NONE}
    if taken - {_NONE} - successes or wanted - taken:
        raise DeclarationError(
            f"the handler's outcome is hinted {shown(hints.event)}",
            where=where,
            remedy=f"Hint it as {_joined(successes | {_NONE})}.",
        )
    _check_several(hints.returns, emits, where)
    if _NONE not in taken and _NONE in _members(hints.returns):
        raise DeclarationError(
            "the handler may return None, but is never given None",
            where=where,
            remedy=f"Hint what it takes as {_joined(wanted | {_NONE})} and return None only in doubt, "
            f"or hint -> {_joined(emits)}.",
        )
    _check_returns(hints, emits, where, also=frozenset({_NONE}))
    return _NONE in taken


def returns_all(hints: Hints, successes: AbstractSet[EventClass]) -> bool:
    """Return whether each success is a tuple that holds every one of several events."""
    ways = [one for one in alternatives(hints.returns) if set(_parts(one)) & successes or one in successes]
    whole = [one for one in ways if typing.get_origin(one) is tuple and set(typing.get_args(one)) == successes]
    return bool(ways) and len(whole) == len(ways) and len(successes) > 1


def returns_several(hints: Hints, successes: AbstractSet[EventClass]) -> bool:
    """Return whether some success may hold several events."""
    several = (one for one in alternatives(hints.returns) if _is_several(one))
    return any(len(set(_parts(one)) & successes) > 1 for one in several)


def shown(hint: object) -> str:
    """Return a hint as its user wrote it."""
    if hint is _ABSENT:
        return "nothing"
    if hint is _NONE:
        return "None"
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " | ".join(shown(member) for member in typing.get_args(hint))
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return str(hint)


def _arguments(handler: Handler, where: str, *, needs: bool) -> tuple[str, ...]:
    parameters = inspect.signature(handler).parameters.values()
    positional = [parameter for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]
    if len(positional) < 2 or (len(positional) > 2 and not needs):
        raise DeclarationError(
            f"the handler takes {counted(len(positional), 'argument')}",
            where=where,
            remedy="It takes two: the event and ctx: StepContext.",
        )
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is _ABSENT:
            raise DeclarationError(
                f"the handler needs {parameter.name}=, which choreo does not pass",
                where=where,
                remedy="Give it a default; a handler is called with the event and the context.",
            )
    return tuple(parameter.name for parameter in positional)


def resolved(handler: Handler, where: str, known: Sequence[EventClass]) -> dict[str, Any]:
    """Return the hints of a function by parameter; raises DeclarationError where one cannot be read."""
    seen = getattr(handler, "__globals__", {})
    classes: tuple[type[Any], ...] = (*known, StepContext)
    local = {cls.__name__: cls for cls in classes if cls.__name__ not in seen}
    try:
        return typing.get_type_hints(handler, localns=local)
    except NameError as error:
        raise DeclarationError(
            f"the hint {error.name!r} cannot be resolved",
            where=where,
            remedy="Import the class where the module can see it.",
        ) from error
    except (AttributeError, SyntaxError, TypeError) as error:
        raise DeclarationError(
            f"the handler's hints cannot be read ({error})",
            where=where,
            remedy="Decorate a plain function whose hints name event classes.",
        ) from error


def _members(hint: object) -> set[object]:
    """Return the alternatives of a hint; `list[X]` counts as X: a handler may return several events."""
    return {part for one in alternatives(hint) for part in (_parts(one) if _is_several(one) else (one,))}


def alternatives(hint: object) -> list[object]:
    """Return the alternatives of a union, with inner unions and named types unfolded; the hint itself if it is none."""
    hint = getattr(hint, "__value__", hint) if type(hint).__name__ == "TypeAliasType" else hint
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [one for member in typing.get_args(hint) for one in alternatives(member)]
    return [hint]


def _is_several(hint: object) -> bool:
    return typing.get_origin(hint) in (list, tuple, Sequence)


def _parts(hint: object) -> list[object]:
    """Return the alternatives of each element of a container."""
    return [part for one in typing.get_args(hint) if one is not Ellipsis for part in alternatives(one)]


def _check_several(hint: object, successes: AbstractSet[Any], where: str) -> None:
    """Check that a container holds successes of different types; only a list, a tuple or a Sequence is allowed."""
    for one in alternatives(hint):
        parts = set(_parts(one))
        if not typing.get_args(one) or not parts:
            continue
        places = [set(alternatives(place)) & successes for place in typing.get_args(one) if place is not Ellipsis]
        fixed = typing.get_origin(one) is tuple and Ellipsis not in typing.get_args(one)
        sure = [next(iter(place)) for place in places if len(place) == 1]
        single = len(parts & successes) < 2 and not (fixed and len(places) == 1)
        if not _is_several(one) or single or (fixed and len(sure) > len(set(sure))):
            raise DeclarationError(
                f"the handler is hinted to return {shown(one)}, and of several events of one type only one is handled",
                where=where,
                remedy="Return one event that holds them all; several at once only as list[A | B] or tuple[A, B] "
                "of different types in emits=.",
            )


def _check_returns(
    hints: Hints, declared: AbstractSet[Any], where: str, *, also: AbstractSet[Any] = frozenset()
) -> None:
    if hints.returns is _ABSENT:
        raise DeclarationError(
            "the handler has no return hint", where=where, remedy=f"Hint it as -> {_joined(declared)}."
        )
    returned = _members(hints.returns)
    if extra := returned - declared - also:
        raise DeclarationError(
            f"the handler is hinted to return {_joined(extra)}, which is not declared",
            where=where,
            remedy=f"Declare it, or hint -> {_joined(declared)}.",
        )
    if missing := declared - returned:
        raise DeclarationError(
            f"{_joined(missing)} is declared, but not among what the handler returns",
            where=where,
            remedy=f"Hint it as -> {_joined(declared)}.",
        )


def _joined(classes: AbstractSet[Any]) -> str:
    """Return the classes as a union, by name, None last."""
    return " | ".join(sorted(map(shown, classes), key=lambda name: (name == "None", name)))


def _listed(classes: Sequence[EventClass], between: str = ", ") -> str:
    """Return the classes by name, in their order."""
    return between.join(map(shown, classes))
