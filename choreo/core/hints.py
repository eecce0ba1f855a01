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


def check_handler(hints: Hints, on: EventClass, outcomes: AbstractSet[Any], where: str) -> None:
    """A step's handler takes its trigger and returns its outcomes, each of them and no other."""
    if hints.event is not on:
        raise DeclarationError(
            f"the handler's event is hinted {shown(hints.event)}, the step is on {shown(on)}",
            where=where,
            remedy=f"Hint it as {shown(on)}.",
        )
    _check_returns(hints, outcomes, where)


def check_compensation(
    hints: Hints, successes: AbstractSet[EventClass], emits: AbstractSet[EventClass], where: str
) -> bool:
    """A compensation takes any success of its step and returns its events; whether it also takes None (in doubt)."""
    taken, wanted = _members(hints.event), successes or {_NONE}
    if taken - {_NONE} - successes or wanted - taken:
        raise DeclarationError(
            f"the handler's outcome is hinted {shown(hints.event)}",
            where=where,
            remedy=f"Hint it as {_joined(successes | {_NONE})}.",
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
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return set().union(*(_members(member) for member in typing.get_args(hint)))
    if typing.get_origin(hint) in (list, tuple, Sequence):
        return set().union(*(_members(member) for member in typing.get_args(hint) if member is not Ellipsis))
    return {hint}


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
