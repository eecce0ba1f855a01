"""Triggers of a step that are more than one event: all of several, or any of several."""

from __future__ import annotations

from typing import NamedTuple

from choreo.core.declare.parts import event_classes
from choreo.core.errors import DeclarationError
from choreo.core.signatures import EventClass


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
