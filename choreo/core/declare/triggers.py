"""Triggers of a step that are more than one event: all of several, or any of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from choreo.core.declare.parts import event_classes, one_class
from choreo.core.definition import ParameterDefinition
from choreo.core.errors import DeclarationError
from choreo.core.signatures import EventClass, Taken


class AllOf(NamedTuple):
    """All of these events, in any order. Made by `all_of`."""

    classes: tuple[EventClass, ...]


class AnyOf(NamedTuple):
    """Any one of these events. Made by `any_of`."""

    classes: tuple[EventClass, ...]


def all_of(*events: EventClass) -> AllOf:
    """Return the trigger of a step that starts when all of these events are there: `on=all_of(A, B)`.

    They may come in any order. Raises DeclarationError unless they are at least two different event classes.
    """
    return AllOf(_several(events, "all_of"))


def any_of(*events: EventClass) -> AnyOf:
    """Return the trigger of a step that starts at each of these events: `on=any_of(A, B)`.

    A step on no cycle starts at the first of them and ignores the others. Raises DeclarationError unless they are at
    least two different event classes.
    """
    return AnyOf(_several(events, "any_of"))


def _several(events: tuple[EventClass, ...], where: str) -> tuple[EventClass, ...]:
    if len(events) < 2:
        raise DeclarationError(
            "it takes at least two event classes", where=where, remedy="Name a single event as on=A."
        )
    return event_classes(events, where, "on")


def triggers_of(on: object, where: str) -> tuple[EventClass, ...]:
    """Return the event classes of a trigger: of one event, or of `all_of` or `any_of`. Raises DeclarationError."""
    if isinstance(on, AllOf | AnyOf):
        return on.classes
    remedy = "Write on=all_of(A, B) if it needs all of them, on=any_of(A, B) if each starts it."
    return (one_class(on, where, "on", remedy),)


def parameters_of(taken: Sequence[Taken]) -> tuple[ParameterDefinition, ...]:
    """Return the arguments of a handler as plain data; none if there is only one."""
    found = [("" if each.cls is None else each.cls.event_type, each.optional, each.many) for each in taken]
    return tuple(ParameterDefinition(*each) for each in found) if len(found) > 1 else ()
