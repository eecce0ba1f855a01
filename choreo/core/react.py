"""The fold: one event of the log into one key's state, and the decisions that follow. Pure.

Every state is `react` over the log from offset 0; the tracker, the projector and the simulator all fold with this one.
"""

from __future__ import annotations

from choreo.core import backward, facts, forward, gates, operator
from choreo.core.definition import FlowTable
from choreo.core.events import Envelope, Record
from choreo.core.fold import Fold
from choreo.core.state import TRUNCATED, KeyState, Run

# What each fact of choreo's own does. A domain event's meaning follows from its role in the flow (forward.domain).
FACTS = {**forward.FACTS, **backward.FACTS, **operator.FACTS}

# Facts that are read without meaning for the fold: they announce what the state knows.
ANNOUNCEMENTS = frozenset({facts.FLOW_STUCK, facts.CANCEL_REFUSED, facts.REDRIVEN})


def react(table: FlowTable, state: KeyState, record: Record) -> tuple[KeyState, list[Envelope]]:
    """The state after this record, and the facts now to be said.

    A record at or before the state's position changes and decides nothing. The state given is left as it was.
    """
    if record.offset <= state.position:
        return state, []
    fold = Fold(table, state, record)
    event = fold.event
    if event.due_ms and record.stamp_ms < event.due_ms:
        return fold.state, []  # a timer fact that came too early: dropped, its id not remembered
    fold.forget_lingered()
    if event.type == table.flow.starts:
        started = forward.start(fold)
        if started is not None:
            backward.advance(fold, started)
        return fold.state, fold.decisions
    found = fold.find_run()
    if found is None or found.status == TRUNCATED:
        return fold.state, fold.decisions
    run = fold.touch(found)
    if run.outbox:
        run.outbox = [said for said in run.outbox if said.id != event.id or said.type != event.type]
    if event.due_ms and run.paused_ms:
        return fold.state, []  # its tracker had not read the pause: it comes again after the resume
    if not fold.is_duplicate(run):
        _apply(fold, run)
        backward.advance(fold, run)
    return fold.state, fold.decisions


def _apply(fold: Fold, run: Run) -> None:
    event = fold.event
    meaning = FACTS.get(event.type)
    if event.type in facts.ENDS:
        run.closed = True
    if event.type in gates.CLOSES:
        run.gates = gates.closed(run.gates, event.type)
    if meaning is not None:
        meaning(fold, run)
    elif event.type in fold.table.wait_failures:
        forward.wait_failed(fold, run)
    elif event.type in fold.table.undos:
        backward.undone(fold, run)
    elif not event.type.startswith(facts.PREFIX):
        forward.domain(fold, run)
    elif event.type not in ANNOUNCEMENTS:
        fold.orphan()
