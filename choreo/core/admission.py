"""When an event counts: not a timer fact that is too early or falls into a pause, and not a duplicate. Pure."""

from __future__ import annotations

from choreo.core import facts, recent
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.state import Run


def early_ms(record: Record) -> int:
    """Return by how many milliseconds a timer fact is too early; 0 if it counts, or is not a timer fact.

    Every reader drops a timer fact that is too early and does not remember its id: the tracker publishes it again.
    """
    due_ms = record.event.due_ms
    return due_ms - record.stamp_ms if due_ms and record.stamp_ms < due_ms else 0


def stands_still(event: Envelope, paused_ms: int) -> bool:
    """Return whether a timer fact falls into a pause of its run.

    Its tracker had not read the pause and publishes the fact again.
    """
    return bool(event.due_ms and paused_ms)


def is_duplicate(table: FlowTable, run: Run, event: Envelope) -> bool:
    """Return whether the run has read this event before; remember an event that nothing else would recognise.

    The state's change shows a duplicate of an event that names its cause, and of choreo's own facts about runs. The
    gates have a memory of their own.
    """
    if event.run:
        if event.causation or event.trigger or event.entry or event.due_ms or event.type in table.satisfies:
            return False
        if not event.step and event.type.startswith(facts.PREFIX):
            return False
    token = recent.token(event.type, event.id)
    if recent.knows(run.recent, token):
        return True
    run.recent = recent.with_new(run.recent, token)
    return False
