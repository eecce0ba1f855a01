"""Checks of what a wait says while it is open, and of waits that do not hold the end."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from choreo.core.checks.finding import Finding
from choreo.core.checks.graph import reached
from choreo.core.definition import REMINDS_MAX, FlowDefinition, WaitDefinition
from choreo.core.durations import human


def reminders(flow: FlowDefinition) -> Iterator[Finding]:
    """Check that reminders and escalations come before the time-out, and that each has a time and a number."""
    for wait in flow.waits:
        where = f"flow {flow.name}, {wait.name}"
        if wait.says and wait.is_timer:
            yield Finding("C415", where, "a timer has no reminders", "Declare another timer that ends before it.")
        if bool(wait.remind) != (wait.remind_ms > 0 and wait.reminds_max > 0):
            yield Finding("C412", where, "its reminders lack their event, time or number", "Give all three, or none.")
        elif wait.reminds_max > REMINDS_MAX:
            what = f"it may remind {wait.reminds_max:,} times"
            yield Finding("C412", where, what, f"Remind less often: at most {REMINDS_MAX:,} times.")
        if bool(wait.escalate) != (wait.escalate_ms > 0):
            yield Finding("C412", where, "its escalation lacks its event or its time", "Give both, or none.")
        yield from _too_late(where, wait)


def _too_late(where: str, wait: WaitDefinition) -> Iterator[Finding]:
    if not wait.timeout_ms:
        return
    limit = f"the wait times out after {human(wait.timeout_ms)}"
    if wait.escalate_ms >= wait.timeout_ms:
        what = f"{wait.escalate} never comes: it is due after {human(wait.escalate_ms)}, and {limit}"
        yield Finding("C413", where, what, "Escalate earlier, or raise timeout=.")
    if wait.remind_ms >= wait.timeout_ms:
        what = f"{wait.remind} never comes: it is due after {human(wait.remind_ms)}, and {limit}"
        yield Finding("C413", where, what, "Remind earlier, or raise timeout=.")
    elif wait.remind_ms > 0 and wait.remind_ms * wait.reminds_max >= wait.timeout_ms:
        number = (wait.timeout_ms - 1) // wait.remind_ms
        what = f"only {number} of {wait.reminds_max} reminders can come: {limit}"
        yield Finding("C414", where, what, f"Give at_most={number}, or remind more often.")


def optional(flow: FlowDefinition) -> Iterator[Finding]:
    """Check that the flow can complete without each optional wait."""
    for wait in flow.waits:
        where = f"flow {flow.name}, {wait.name}"
        if wait.optional and wait.is_timer:
            yield Finding(
                "C415", where, "a timer is not optional", "Cancel it by an event, or declare an optional wait."
            )
        if not wait.optional:
            continue
        if wait.on in flow.ends:
            yield Finding(
                "C416",
                where,
                f"it opens on {wait.on}, which completes the run: it is closed at once, unless a step is under way",
                "Open it on an earlier event, or let a later event complete the flow.",
            )
        others = tuple(other for other in flow.waits if other is not wait)
        if reached(replace(flow, waits=others), {flow.starts}).isdisjoint(flow.ends):
            yield Finding(
                "C417",
                where,
                f"it is optional, and no way to {' or '.join(flow.ends)} goes without it: a run may wait for ever",
                "Leave optional=True out and give timeout=, or complete the flow on another way.",
            )
