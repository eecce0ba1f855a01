"""Openings of waits and the facts of the tracker about them: a reminder, an escalation, the close of an optional wait.

Pure, and a part of the gates: tracker and hosts fold alike. A fact that stands in the log after the answer is void.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from choreo.core.flow_table import FlowTable
from choreo.core.gates import Gates, Opening


class Said(NamedTuple):
    """The subject of a timer fact, or of choreo.WaitClosed: a wait as one event opened it."""

    type: str
    wait: str
    trigger: str
    due_ms: int


def reminded(table: FlowTable, gates: Gates, said: Said) -> tuple[Gates, Opening | None]:
    """Return the gates after a reminder or an escalation, and its opening; None: it does not count.

    It counts while the wait is open, in its turn, and once: one from before a pause or after the answer is void.
    """
    wait = table.reminders[said.type]
    for opening in gates.openings:
        if (opening.wait, opening.trigger) != (said.wait, said.trigger):
            continue
        if said.type == wait.escalate and said.due_ms == opening.escalation_ms:
            after = replace(opening, escalation_ms=0)
        elif said.type == wait.remind and said.due_ms == opening.reminder_ms:
            n = opening.reminded + 1
            next_ms = opening.reminder_ms + wait.remind_ms if n < wait.reminds_max else 0
            after = replace(opening, reminder_ms=next_ms, reminded=n)
        else:
            continue
        openings = tuple(after if other is opening else other for other in gates.openings)
        return replace(gates, openings=openings), after
    return gates, None


def wait_closed(gates: Gates, wait: str, trigger: str) -> Gates:
    """Return the gates without the optional wait that choreo.WaitClosed is about."""
    left = tuple(o for o in gates.openings if (o.wait, o.trigger) != (wait, trigger))
    return gates if len(left) == len(gates.openings) else replace(gates, openings=left)
