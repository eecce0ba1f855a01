"""The fold: one event of the log into one key's state, and the decisions that follow. Pure.

Every state is `react` over the log from offset 0; the tracker, the projector and the simulator all fold with this one.
"""

from __future__ import annotations

from collections.abc import Container

from choreo.core import (
    compensation,
    deadlines,
    facts,
    family,
    forward,
    gates,
    open_waits,
    operator_actions,
    parentage,
    retries,
)
from choreo.core.admission import early_ms, is_duplicate, stands_still
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.fold import Fold
from choreo.core.state import TRUNCATED, KeyState, Run

# The effect of each fact of choreo. The meaning of a domain event follows from its role in the flow (forward.domain).
FACTS = {
    **forward.FACTS,
    **deadlines.FACTS,
    **open_waits.FACTS,
    **compensation.FACTS,
    **retries.FACTS,
    **operator_actions.FACTS,
    **family.FACTS,
    **parentage.FACTS,
}

# Facts without meaning for the fold: they announce a decision that the state has already.
ANNOUNCEMENTS = frozenset(
    {
        facts.FLOW_STUCK,
        facts.CANCEL_REFUSED,
        facts.REDRIVEN,
        facts.CHILDREN_COMPENSATION_REQUESTED,
        facts.CHILDREN_PAUSED,
        facts.CHILDREN_RESUMED,
        facts.CHILDREN_TERMINATED,
    }
)


def react(table: FlowTable, state: KeyState, record: Record) -> tuple[KeyState, list[Envelope]]:
    """Return the state after this record, and the facts to publish now.

    A record at or before the state's position changes and decides nothing. The given state stays as it was. A run is
    folded by the table of its version; raises VersionError where there is none.
    """
    if record.offset <= state.position:
        return state, []
    fold = Fold(table, state, record)
    event = fold.event
    if event.due_ms and early_ms(record):
        return fold.state, []  # a timer fact that is too early: dropped, its id is not remembered
    fold.forget_lingered()
    if event.type == table.flow.starts:
        fold.table = table.of_event(event.version)
        started = forward.start(fold)
        if started is not None:
            compensation.advance(fold, started)
        return fold.state, fold.decisions
    found = fold.find_run()
    if found is None or found.status == TRUNCATED:
        return fold.state, fold.decisions
    attributes = table.attributes
    fold.table = table = table.of(found.version)
    run = fold.touch(found)
    if run.outbox:
        run.outbox = [published for published in run.outbox if published.id != event.id or published.type != event.type]
    if event.due_ms and stands_still(event, run.paused_ms):
        return fold.state, []  # its tracker had not read the pause: the fact comes again after the resume
    if not is_duplicate(table, run, event):
        _apply(fold, run, attributes)
        _advance(fold, run)
    if run.ended_ms:
        fold.retire()
    return fold.state, fold.decisions


def _advance(fold: Fold, run: Run) -> None:
    if run.parentage is not None and run.parentage.compensating:
        parentage.compensate(fold, run)
    compensation.advance(fold, run)
    if fold.table.families:
        family.advance(fold, run)
    if run.parentage is not None:
        parentage.tell(fold, run)


def _apply(fold: Fold, run: Run, attributes: Container[str]) -> None:
    event = fold.event
    if event.type in attributes:
        run.note_attributes(event)
    meaning = FACTS.get(event.type)
    if event.type in facts.ENDS:
        run.closed = True
    if event.type in gates.CLOSES:
        run.gates = gates.closed(run.gates, event.type)
    if meaning is not None:
        meaning(fold, run)
    elif event.type in fold.table.timeouts:
        deadlines.timed_out(fold, run)
    elif event.type in fold.table.reminders:
        deadlines.reminded(fold, run)
    elif event.type in fold.table.compensations:
        compensation.undone(fold, run)
    elif not event.type.startswith(facts.PREFIX):
        forward.domain(fold, run)
    elif event.type not in ANNOUNCEMENTS:
        fold.orphan()
