"""Values of a declaration, checked one by one: event classes, durations, numbers.

Each function raises DeclarationError with the place and the remedy.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence

from choreo.core import signatures
from choreo.core.definition import DEADLINE_SLACK_MS, RetryRule
from choreo.core.durations import DURATION_MAX_MS, Duration, milliseconds
from choreo.core.errors import DeclarationError
from choreo.core.signatures import EventClass


def whole(value: object, least: int, where: str, what: str) -> int:
    """Return a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DeclarationError(f"{what}={value!r}", where=where, remedy=f"Give a whole number of at least {least}.")
    return value


def event_classes(value: object, where: str, role: str) -> tuple[EventClass, ...]:
    """Return the event classes in a value: one, several, or none."""
    if value is None:
        return ()
    members = tuple(value) if isinstance(value, tuple | list) else (value,)
    for member in members:
        event_type = getattr(member, "event_type", None)
        if not (isinstance(member, type) and isinstance(event_type, str) and event_type):
            raise DeclarationError(
                f"{role}={member!r} is not an event class", where=where, remedy="Derive it from choreo.Event."
            )
    distinct([member.event_type for member in members], where, f"event in {role}=", "Name each event once.")
    return typing.cast("tuple[EventClass, ...]", members)


def one_class(value: object, where: str, role: str, remedy: str = "Name one event.") -> EventClass:
    """Return the only event class in a value."""
    classes = event_classes(value, where, role)
    if len(classes) != 1:
        got = ", ".join(signatures.shown(cls) for cls in classes) or "none"
        raise DeclarationError(f"{role}= takes one event class, got {got}", where=where, remedy=remedy)
    return classes[0]


def distinct(names: Sequence[str], where: str, what: str, remedy: str) -> None:
    """Check that no name is used twice."""
    for name in names:
        if names.count(name) > 1:
            raise DeclarationError(f"{what} {name} is named twice", where=where, remedy=remedy)


def no_overlap(on: EventClass, good: Sequence[EventClass], bad: Sequence[EventClass], where: str) -> None:
    """Check that an event has one meaning in a step: trigger, success or failure."""
    for cls in good:
        if cls in bad:
            raise DeclarationError(
                f"{cls.event_type} is in emits= and in fails=",
                where=where,
                remedy="An event is a success or a failure.",
            )
    if on in (*good, *bad):
        raise DeclarationError(
            f"{on.event_type} is its own trigger",
            where=where,
            remedy="Emit another event; a step may not feed itself.",
            code="C207",
        )


def positive(value: Duration, where: str, what: str) -> int:
    """Return a duration above 0, in milliseconds."""
    duration_ms = milliseconds(value, where)
    if duration_ms <= 0:
        raise DeclarationError(
            f"{what}={value!r} leaves no time", where=where, remedy="Give a duration above 0.", code="C421"
        )
    return duration_ms


def deadline_of(value: Duration | None, rule: RetryRule, timeout_ms: int, where: str) -> int:
    """Return a deadline; None stands for all attempts, the waits between them, and some slack."""
    if value is None:
        deadline_ms = rule.span_ms(timeout_ms) + DEADLINE_SLACK_MS
        if deadline_ms > DURATION_MAX_MS:
            raise DeclarationError(
                f"its {rule.attempts_max} attempts and the waits between them take more than a thousand years",
                where=where,
                remedy="Lower max_attempts, timeout= or the waits, or give deadline=.",
            )
        return deadline_ms
    deadline_ms = positive(value, where, "deadline")
    if deadline_ms < timeout_ms:
        raise DeclarationError(
            f"deadline={value!r} is shorter than the timeout of one attempt",
            where=where,
            remedy="Raise the deadline or lower the timeout.",
            code="C422",
        )
    return deadline_ms


def heartbeat_of(value: Duration | None, timeout_ms: int, where: str) -> int:
    """Return the longest time without a report; 0 where attempts do not report."""
    if value is None:
        return 0
    heartbeat_ms = positive(value, where, "heartbeat")
    if heartbeat_ms >= timeout_ms:
        raise DeclarationError(
            f"heartbeat={value!r} is not shorter than the timeout of one attempt, which ends a silent one first",
            where=where,
            remedy="Raise timeout= to the longest time of the whole work, or lower heartbeat=.",
            code="C423",
        )
    return heartbeat_ms
