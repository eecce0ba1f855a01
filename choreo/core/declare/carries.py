"""An event that a flow carries to another flow of the project, with the function that makes the other flow's event."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from choreo.core import signatures
from choreo.core.declare.parts import one_class
from choreo.core.definition import CarryDefinition
from choreo.core.errors import DeclarationError
from choreo.core.signatures import EventClass

if TYPE_CHECKING:
    from choreo.core.declare.flow import Flow

Maker = Callable[[Any], Any]
"""Returns the other flow's event for one of this flow's, or None for no event. Pure: the bridge may call it again."""


class Carry:
    """One carried event. Made by `Flow.carries`."""

    def __init__(self, flow: str, on: EventClass, to: Flow, makes: Maker | None) -> None:
        """Check the parts; raises DeclarationError on one of the wrong kind."""
        self.on: EventClass = one_class(on, f"flow {flow}, carries", "event")
        where = f"flow {flow}, carries {self.on.event_type}"
        if not hasattr(to, "event_classes"):
            raise DeclarationError(f"to={to!r} is not a Flow", where=where, remedy="Pass the Flow itself.")
        self.to: Flow = to
        self.makes: Maker | None = makes
        self.says: tuple[EventClass, ...] = (self.on,) if makes is None else _made(makes, self.on, where)
        says = tuple(cls.event_type for cls in self.says)
        self.definition: CarryDefinition = CarryDefinition(self.on.event_type, to.name, says, made=makes is not None)

    def require_same_classes(self, flow: str) -> None:
        """Raise DeclarationError where the other flow knows another class by the name of a carried event."""
        known = self.to.event_classes
        for cls in self.says:
            if known.get(cls.event_type, cls) is not cls:
                raise DeclarationError(
                    f"flow {self.to.name} has another event class called {cls.event_type}",
                    where=f"flow {flow}, carries {self.on.event_type} to {self.to.name}",
                    remedy="Import the one class in both places, or pass makes=, a function that returns the other.",
                    code="C705",
                )


def _made(makes: Maker, on: EventClass, where: str) -> tuple[EventClass, ...]:
    """Return the event classes that the function is hinted to return."""
    if not inspect.isfunction(makes) or inspect.iscoroutinefunction(makes) or inspect.isgeneratorfunction(makes):
        raise DeclarationError(
            f"makes={makes!r} is no plain function",
            where=where,
            remedy=f"Write def make(event: {on.event_type}) -> OtherEvent | None.",
        )
    hints = signatures.resolved(makes, where, (on,))
    takes = [name for name, one in inspect.signature(makes).parameters.items() if one.default is one.empty]
    if len(takes) != 1 or hints.get(takes[0]) is not on:
        raise DeclarationError(
            f"{makes.__name__} does not take one {on.event_type}",
            where=where,
            remedy=f"Write def {makes.__name__}(event: {on.event_type}) -> OtherEvent | None.",
        )
    returns = hints.get("return", inspect.Parameter.empty)
    members = [cls for cls in signatures.alternatives(returns) if cls is not type(None)]
    if not members or not all(isinstance(getattr(cls, "event_type", None), str) for cls in members):
        raise DeclarationError(
            f"{makes.__name__} is hinted to return {signatures.shown(returns)}",
            where=where,
            remedy="Hint the event of the other flow, as in -> OtherEvent | None.",
        )
    return typing.cast("tuple[EventClass, ...]", tuple(members))
