"""Declared invariants of a flow: rules of its author that hold in every state of every run."""

from __future__ import annotations

import inspect

from choreo.core.errors import DeclarationError
from choreo.core.run_view import Invariant


def name_of(invariant: Invariant) -> str:
    """Return the name of an invariant for people: that of its function."""
    return getattr(invariant, "__name__", type(invariant).__name__)


def declared(invariant: object, known: tuple[Invariant, ...], where: str) -> None:
    """Raise DeclarationError unless this is a function of one argument with a new name."""
    remedy = "Write @flow.invariant above a plain function of one RunView that returns True, False or a message."
    if not callable(invariant) or inspect.isclass(invariant):
        raise DeclarationError(f"{invariant!r:.80} is no function", where=where, remedy=remedy)
    if inspect.iscoroutinefunction(invariant):
        raise DeclarationError("it is async, and an invariant is a pure function", where=where, remedy=remedy)
    try:
        inspect.signature(invariant).bind(None)
    except (TypeError, ValueError) as error:
        raise DeclarationError(f"it does not take one argument: {error}", where=where, remedy=remedy) from error
    name = name_of(invariant)
    if any(name_of(other) == name for other in known):
        raise DeclarationError(
            f"two invariants are called {name}", where=where, remedy="Give each a name of its own: reports show it."
        )
