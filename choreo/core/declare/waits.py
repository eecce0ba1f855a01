"""Waits and timers in a declaration: each part checked, and made a definition.

A wait is for an event from outside, a timer for its time alone. Each function raises DeclarationError with the place
and the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from choreo.core.checks import checks
from choreo.core.declare.conditions import field_type, require_moment
from choreo.core.declare.parts import event_classes, one_class, positive, whole
from choreo.core.definition import REMINDS_MAX, WaitDefinition
from choreo.core.durations import Duration
from choreo.core.errors import DeclarationError
from choreo.core.signatures import EventClass

Declared: TypeAlias = tuple[WaitDefinition, tuple[EventClass, ...]]
"""A wait with the event classes that it names."""


class Every:
    """Reminders of a wait: one each time that so much time has passed, at most so many."""

    def __init__(self, every: Duration, *, emits: EventClass, at_most: int | None = None) -> None:
        """Keep the parts; the wait checks them. Without `at_most` they come until the time-out."""
        self.every: Duration = every
        self.emits: EventClass = emits
        self.at_most: int | None = at_most


class After:
    """The escalation of a wait: an event, once so much time has passed."""

    def __init__(self, after: Duration, *, emits: EventClass) -> None:
        """Keep the parts; the wait checks them."""
        self.after: Duration = after
        self.emits: EventClass = emits


def wait_of(
    where: str,
    name: str,
    *,
    on: EventClass,
    until: EventClass | Sequence[EventClass],
    timeout: Duration | None,
    fails: EventClass | None,
    then: EventClass | None,
    refused: EventClass | None,
    remind: Every | None,
    escalate: After | None,
    optional: bool,
) -> Declared:
    """Return a wait."""
    opener, answers = one_class(on, where, "on"), event_classes(until, where, "until")
    if not answers:
        raise DeclarationError("until= names no event", where=where, remedy="Name the event that satisfies it.")
    first, *others = (cls.event_type for cls in answers)
    where = f"{where} for {first}"
    if name:
        checks.require_name(name, f"{where}, its name")
    late = _late(where, timeout, fails, then, optional=optional)
    no = one_class(refused, where, "refused") if refused is not None else None
    timeout_ms = positive(timeout, where, "timeout") if timeout is not None else 0
    reminder, remind_ms, reminds_max = _reminders(where, remind, timeout_ms)
    escalation, escalate_ms = _escalation(where, escalate)
    definition = WaitDefinition(
        f"wait.{name or first}",
        opener.event_type,
        first,
        timeout_ms,
        late.event_type if late and fails else "",
        also=tuple(others),
        refused=no.event_type if no else "",
        then=late.event_type if late and then else "",
        remind=reminder.event_type if reminder else "",
        remind_ms=remind_ms,
        reminds_max=reminds_max,
        escalate=escalation.event_type if escalation else "",
        escalate_ms=escalate_ms,
        optional=optional,
    )
    named = (opener, *answers, no, late, reminder, escalation)
    return definition, tuple(cls for cls in named if cls is not None)


def _late(
    where: str, timeout: Duration | None, fails: EventClass | None, then: EventClass | None, *, optional: bool
) -> EventClass | None:
    """Return the event of a wait's time-out; None of an optional wait without one."""
    if optional and timeout is None and fails is None and then is None:
        return None
    if timeout is None:
        raise DeclarationError(
            "it has no timeout=",
            where=where,
            remedy="Give a duration, or optional=True without fails= and then=: such a wait ends with its run.",
            code="C401",
        )
    if (fails is None) == (then is None):
        raise DeclarationError(
            "it has no event of its time-out" if fails is None else "its time-out has two events",
            where=where,
            remedy="Give fails=, which compensates the run, or then=, with which it goes on.",
        )
    return one_class(fails or then, where, "fails" if fails else "then")


def _reminders(where: str, remind: Every | None, timeout_ms: int) -> tuple[EventClass | None, int, int]:
    """Return the event of the reminders, the time between two, and how many there are at most."""
    if remind is None:
        return None, 0, 0
    if not isinstance(remind, Every):
        raise DeclarationError(
            f"remind={remind!r:.60}", where=where, remedy='Write remind=Every("1d", emits=Reminded, at_most=3).'
        )
    where = f"{where}, remind="
    cls = _said(where, remind.emits)
    every_ms = positive(remind.every, where, "every")
    if remind.at_most is not None:
        return cls, every_ms, whole(remind.at_most, 1, where, "at_most")
    if not timeout_ms:
        raise DeclarationError(
            "it has no end: the wait has no timeout=", where=where, remedy="Give at_most= with a number."
        )
    at_most = max(1, (timeout_ms - 1) // every_ms)
    if at_most > REMINDS_MAX:
        raise DeclarationError(
            f"that makes {at_most:,} reminders",
            where=where,
            remedy=f"Remind less often, or give at_most= with at most {REMINDS_MAX:,}.",
        )
    return cls, every_ms, at_most


def _escalation(where: str, escalate: After | None) -> tuple[EventClass | None, int]:
    """Return the event of the escalation, and the time after which it comes."""
    if escalate is None:
        return None, 0
    if not isinstance(escalate, After):
        raise DeclarationError(
            f"escalate={escalate!r:.60}", where=where, remedy='Write escalate=After("3d", emits=Escalated).'
        )
    where = f"{where}, escalate="
    return _said(where, escalate.emits), positive(escalate.after, where, "after")


def _said(where: str, emits: EventClass) -> EventClass:
    """Return the event of a reminder or an escalation; its `n` must be able to hold a number."""
    cls = one_class(emits, where, "emits")
    declared = field_type(cls, "n", where) if "n" in cls.event_fields() else None
    if declared is not None and not (declared.kind == "number" and declared.whole):
        raise DeclarationError(
            f"{cls.event_type}.n is no whole number, and the tracker fills in which reminder it is",
            where=where,
            remedy="Declare it as int, or give the field another name.",
        )
    return cls


def timer_of(
    where: str,
    name: str,
    *,
    on: EventClass,
    after: Duration | None,
    at: str,
    emits: EventClass,
    moved_by: EventClass | None,
    cancelled_by: EventClass | None,
) -> Declared:
    """Return a timer."""
    checks.require_name(name, f"{where}, its name")
    opener, over = one_class(on, where, "on"), one_class(emits, where, "emits")
    stop = one_class(cancelled_by, where, "cancelled_by") if cancelled_by is not None else None
    mover = one_class(moved_by, where, "moved_by") if moved_by is not None else None
    if (after is None) == (not at):
        raise DeclarationError(
            "it has no time" if after is None else "it has both after= and at=",
            where=where,
            remedy='Give after="30d", or at= with the name of a datetime field of its event.',
        )
    for source in (opener, mover) if at else ():
        if source is not None:
            require_moment(source, at, f"{where}, at=")
    definition = WaitDefinition(
        f"timer.{name}",
        opener.event_type,
        stop.event_type if stop else "",
        positive(after, where, "after") if after is not None else 0,
        "",
        then=over.event_type,
        at=at,
        moved_by=mover.event_type if mover else "",
    )
    return definition, tuple(cls for cls in (opener, mover, stop, over) if cls is not None)
