"""What a handler's type hints say, held against what its step declares. Reads signatures; never calls a handler."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, TypeAlias

from choreo.core.context import StepContext
from choreo.core.errors import DeclarationError

EventClass: TypeAlias = type[Any]
"""An event class: anything with `event_type` and `event_fields()`."""

Handler: TypeAlias = Callable[..., Any]

_ABSENT = inspect.Parameter.empty
_NONE = type(None)


class Hints(NamedTuple):
    """The two hints that matter: of the first argument and of what is returned; `_ABSENT` where there is none."""

    event: Any
    returns: Any


def read(handler: object, where: str, known: Sequence[EventClass]) -> Hints:
    """The handler's hints; `known` are event classes its hints may name without importing them.

    Raises DeclarationError where the handler does not take (event, context) or a hint cannot be resolved.
    """
    if not callable(handler):
        raise DeclarationError(f"{handler!r} is not callable", where=where, remedy="Decorate a function.")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise DeclarationError(
            "the handler is a generator", where=where, remedy="Return the event instead of yielding it."
        )
    event, context = _two_arguments(handler, where)
    resolved = _resolved(handler, where, known)
    if resolved.get(context, StepContext) not in (StepContext, Any):
        raise DeclarationError(
            f"the handler's second argument is hinted {shown(resolved[context])}",
            where=where,
            remedy="Hint it as StepContext.",
        )
    return Hints(resolved.get(event, _ABSENT), resolved.get("return", _ABSENT))


def check_handler(
    hints: Hints, on: EventClass, successes: AbstractSet[Any], failures: AbstractSet[Any], where: str
) -> None:
    """A step's handler takes its trigger and returns its outcomes, each of them and no other.

    Several at once only where they are successes of different types: of one type only the first would be handled.
    """
    if hints.event is not on:
        raise DeclarationError(
            f"the handler's event is hinted {shown(hints.event)}, the step is on {shown(on)}",
            where=where,
            remedy=f"Hint it as {shown(on)}.",
        )
    _check_several(hints.returns, successes, where)
    _check_returns(hints, {*successes, *failures} if successes else {*failures, _NONE}, where)


def check_compensation(
    hints: Hints, successes: AbstractSet[EventClass], emits: AbstractSet[EventClass], where: str
) -> bool:
    """A compensation takes any success of its step and returns its events; whether it also takes None (in doubt).

    Only one that may be given None may return it: with the outcome in its hands there is something to undo.
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


def shown(hint: object) -> str:
    """A hint as its user wrote it."""
    if hint is _ABSENT:
        return "nothing"
    if hint is _NONE:
        return "None"
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " | ".join(shown(member) for member in typing.get_args(hint))
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return str(hint)


def _two_arguments(handler: Handler, where: str) -> tuple[str, str]:
    parameters = inspect.signature(handler).parameters.values()
    positional = [parameter for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]
    if len(positional) != 2:
        raise DeclarationError(
            f"the handler takes {len(positional)} arguments",
            where=where,
            remedy="It takes two: the event and ctx: StepContext.",
        )
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is _ABSENT:
            raise DeclarationError(
                f"the handler needs {parameter.name}=, which nobody gives it",
                where=where,
                remedy="Give it a default; a handler is called with the event and the context.",
            )
    return positional[0].name, positional[1].name


def _resolved(handler: Handler, where: str, known: Sequence[EventClass]) -> dict[str, Any]:
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
    """The alternatives of a hint; `list[X]` counts as X: a handler may return several events."""
    return {part for one in _alternatives(hint) for part in (_parts(one) if _is_several(one) else (one,))}


def _alternatives(hint: object) -> list[object]:
    """What a union offers, unions and named types within it unfolded; the hint itself where it is none."""
    hint = getattr(hint, "__value__", hint) if type(hint).__name__ == "TypeAliasType" else hint
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return [one for member in typing.get_args(hint) for one in _alternatives(member)]
    return [hint]


def _is_several(hint: object) -> bool:
    return typing.get_origin(hint) in (list, tuple, Sequence)


def _parts(hint: object) -> list[object]:
    """The alternatives of each element of a container."""
    return [part for one in typing.get_args(hint) if one is not Ellipsis for part in _alternatives(one)]


def _check_several(hint: object, successes: AbstractSet[Any], where: str) -> None:
    """A container holds successes of different types; only a list, a tuple or a Sequence of them is looked into."""
    for one in _alternatives(hint):
        parts = set(_parts(one))
        if not typing.get_args(one) or not parts:
            continue
        places = [set(_alternatives(place)) & successes for place in typing.get_args(one) if place is not Ellipsis]
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
    """The classes as a union, by name, None last."""
    return " | ".join(sorted(map(shown, classes), key=lambda name: (name == "None", name)))
