"""Openings of waits and the facts of the tracker about them: a time-out, a reminder, an escalation, a close.

Pure, and a part of the gates: tracker and hosts fold alike. A fact that stands in the log after the answer is void.
"""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.core.gates import Gates, Opening
from choreo.core.timely import is_timely


def timed_out(gates: Gates, event: Envelope, pause_n: int) -> Gates:
    """Return the gates without the opening that a timer fact is about; an opening that was moved meanwhile stays."""
    about = event.step, event.trigger
    left = tuple(
        o
        for o in gates.openings
        if (o.wait, o.trigger) != about or not is_timely(event, o.due_ms or event.due_ms, pause_n)
    )
    return gates if len(left) == len(gates.openings) else replace(gates, openings=left)


def reminded(table: FlowTable, gates: Gates, event: Envelope, pause_n: int) -> tuple[Gates, Opening | None]:
    """Return the gates after a reminder or an escalation, and its opening; None: it does not count.

    It counts while the wait is open, in its turn, and once: one from before a pause or after the answer is void.
    """
    wait = table.reminders[event.type]
    for opening in gates.openings:
        if (opening.wait, opening.trigger) != (event.step, event.trigger):
            continue
        n = opening.reminded + 1
        if event.type == wait.escalate and _counts(event, opening.escalation_ms, pause_n):
            after = replace(opening, escalation_ms=0)
        elif event.type == wait.remind and event.n == n and _counts(event, opening.reminder_ms, pause_n):
            next_ms = event.due_ms + wait.remind_ms if n < wait.reminds_max else 0
            after = replace(opening, reminder_ms=next_ms, reminded=n)
        else:
            continue
        openings = tuple(after if other is opening else other for other in gates.openings)
        return replace(gates, openings=openings), after
    return gates, None


def _counts(event: Envelope, due_ms: int, pause_n: int) -> bool:
    """Return whether a reminder or an escalation is still to come, and this fact is it."""
    return bool(due_ms) and is_timely(event, due_ms, pause_n)


def wait_closed(gates: Gates, wait: str, trigger: str) -> Gates:
    """Return the gates without the optional wait that choreo.WaitClosed is about."""
    left = tuple(o for o in gates.openings if (o.wait, o.trigger) != (wait, trigger))
    return gates if len(left) == len(gates.openings) else replace(gates, openings=left)
