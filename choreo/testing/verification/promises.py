"""The promises that can be stated over states (DESIGN: promises 2 to 5): of one state, of one change, and of an end.

Each function returns a sentence about the promise that is broken, or "". They look at the ledger and at the books of
the outside systems, and ask the rules under test as little as possible.
"""

from __future__ import annotations

from collections.abc import Sequence

from choreo.core import facts
from choreo.core.declare.invariants import name_of
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.run_view import Invariant, broken, view_of
from choreo.core.state import (
    COMPENSATED,
    COMPLETED,
    FAILED,
    NOTHING,
    OPEN,
    REQUESTED,
    RESOLVED,
    STUCK,
    TERMINATED,
    UNDONE,
    KeyState,
    LedgerEntry,
    Run,
    encode,
)
from choreo.core.timers import due
from choreo.testing.verification import canonical
from choreo.testing.verification.books import PRESENT, Effect
from choreo.testing.verification.books import UNDONE as TAKEN_BACK

_LATER_MS = canonical.NOW_MS + 10**15
_SETTLED = frozenset({UNDONE, NOTHING, RESOLVED})
_ENDS = frozenset({COMPLETED, COMPENSATED, TERMINATED})


def of_flow(table: FlowTable, state: KeyState, invariants: Sequence[Invariant]) -> str:
    """Return the flow's own invariant that this state breaks."""
    for run in state.runs if invariants else ():
        view = view_of(table, canonical.KEY, run)
        for invariant in invariants:
            why = broken(invariant, view)
            if why:
                return f"invariant {name_of(invariant)}: {why}"
    return ""


def of_state(table: FlowTable, state: KeyState) -> str:
    """Return the promise that this state breaks by itself."""
    facts_due = due(table, canonical.KEY, state, _LATER_MS)
    if sum(not (run.ended or run.compensating) for run in state.runs) > 1:
        return "promise 2: two runs of one key go forward"
    for run in state.runs:
        foreign = next((expected.step for expected in run.expected if expected.step not in table.steps), "")
        if foreign:
            return f"the run awaits {foreign}, which is no step of the version that started it"
        mine = [fact for fact in facts_due if fact.run == run.id]
        wrong = _of_run(run, mine)
        if wrong:
            return wrong
    return _early(table, state, facts_due)


def _of_run(run: Run, facts_due: Sequence[Envelope]) -> str:
    if run.ended:
        return _of_ended(run)
    if run.paused_ms:
        return f"promise 5: {facts_due[0].type} is due in a pause" if facts_due else ""
    if run.status == STUCK and not (run.cause and any(e.cause for e in run.ledger if e.state == FAILED)):
        return "promise 3: the run is stuck without a cause"
    if run.completing:
        return ""
    if not (run.compensating or run.expected or run.waits or run.outbox):
        return "promise 3: nothing is awaited, and the run has not come to its end: only a deadline ends it"
    return _undated(run, facts_due)


def _of_ended(run: Run) -> str:
    unsettled = [entry.step for entry in run.ledger if entry.state not in _SETTLED]
    if run.status == COMPENSATED and unsettled:
        return f"promise 4: the run is compensated, and the effect of {unsettled[0]} is not settled"
    requested = [entry.step for entry in run.ledger if entry.state in (REQUESTED, UNDONE)]
    if run.status == COMPLETED and run.parentage is None and requested:
        return f"promise 4: the run is completed, and {requested[0]} is undone"
    return ""


def _undated(run: Run, facts_due: Sequence[Envelope]) -> str:
    """Return promise 3 if something is awaited without a deadline."""
    steps = {(fact.step, fact.trigger) for fact in facts_due if fact.type == facts.STEP_DEADLINE_PASSED}
    for expected in run.expected:
        if (expected.step, expected.trigger) not in steps:
            return f"promise 3: {expected.step} is expected without a deadline"
    rounds = {(fact.entry, fact.round) for fact in facts_due if fact.type == facts.COMPENSATION_DEADLINE_PASSED}
    waiting = {fact.entry for fact in run.outbox if fact.type == facts.COMPENSATION_REQUESTED}
    for entry in run.ledger:
        if entry.state == REQUESTED and (entry.id, entry.round) not in rounds and entry.id not in waiting:
            return f"promise 3: the compensation of {entry.step} is requested without a deadline"
    return ""


def _early(table: FlowTable, state: KeyState, facts_due: Sequence[Envelope]) -> str:
    """Return promise 5 if a timer fact that is stamped before its due time changes anything."""
    for fact in facts_due:
        record = Record(table.flow.name, 0, state.position + 1, fact.due_ms - 1, fact)
        after, decisions = react(table, state, record)
        if decisions or after.runs != state.runs:
            return f"promise 5: {fact.type} of {fact.step or 'the run'} counts before its time"
    return ""


def of_change(
    table: FlowTable, before: KeyState, record: Record, after: KeyState, decisions: Sequence[Envelope]
) -> str:
    """Return the promise that this change breaks."""
    for decision in decisions:
        wrong = _of_decision(before, after, decision)
        if wrong:
            return wrong
    for run in after.runs:
        known = before.run(run.id)
        if known is not None:
            wrong = _of_run_change(table, known, run, record) or _unkept(table, known, run, record)
            if wrong:
                return wrong
    return _void(table, before, record, after)


def _of_decision(before: KeyState, after: KeyState, decision: Envelope) -> str:
    run, known = after.run(decision.run), before.run(decision.run)
    if run is None:
        return ""
    if decision.type == facts.FLOW_COMPLETED and (run.expected or run.waits):
        open_ = run.expected[0].step if run.expected else run.waits[0].name
        return f"promise 3: the run decides to complete, and {open_} is awaited"
    return _of_request(known, run, decision) if decision.type == facts.COMPENSATION_REQUESTED else ""


def _of_request(known: Run | None, run: Run, decision: Envelope) -> str:
    entry = run.entry(decision.entry)
    if entry is None:
        return f"promise 4: an effect of {decision.step} is to be undone that the ledger has not"
    newer = [other.step for other in run.ledger if other.state == OPEN and other.opened > entry.opened]
    if newer:
        return f"promise 4: {entry.step} is to be undone before {newer[0]}, which is newer"
    beside = [other.step for other in run.ledger if other.state == REQUESTED and other.id != entry.id]
    if beside:
        return f"promise 4: {entry.step} is to be undone beside {beside[0]}"
    earlier = known.entry(entry.id) if known else None
    if earlier is not None and earlier.round >= decision.round:
        return f"promise 4: round {decision.round} of the undo of {entry.step} is requested twice"
    return ""


def _of_run_change(table: FlowTable, known: Run, run: Run, record: Record) -> str:
    if known.completing and run.compensating and not known.parentage:
        return "promise 4: the run has decided to complete, and its compensation starts"
    if known.status == COMPLETED and known.ended and run.status != COMPLETED and not known.parentage:
        return f"promise 3: the run was completed, and is {run.status}"
    event = record.event
    if known.paused_ms and not run.paused_ms and event.type == facts.FLOW_RESUMED:
        return _unmoved(known, run)
    if event.type == facts.STEP_DEADLINE_PASSED and record.stamp_ms >= event.due_ms and not known.paused_ms:
        return _undoubted(table, known, run, event)
    return ""


def _unkept(table: FlowTable, known: Run, run: Run, record: Record) -> str:
    """Return the rule of early events if one that came before its wait is not kept for it."""
    event = record.event
    waits = table.satisfies.get(event.type, ())
    before = known.gates
    if not waits or known.ended or before.closed or (event.run and event.run != run.id) or run.gates == before:
        return ""
    names = {wait.name for wait in waits}
    if names & {opening.wait for opening in before.openings} or names & set(before.once):
        return ""
    if any(kept.type == event.type for kept in run.gates.kept):
        return ""
    return f"{event.type} came before its wait, and is not kept for it"


def _unmoved(known: Run, run: Run) -> str:
    """Return promise 5 if a deadline has run on during a pause."""
    before = {(e.step, e.trigger): e.due_ms for e in known.expected}
    for expected in run.expected:
        if before.get((expected.step, expected.trigger)) == expected.due_ms:
            return f"promise 5: the deadline of {expected.step} ran on in a pause"
    entries = {entry.id: entry.due_ms for entry in known.ledger if entry.due_ms}
    for entry in run.ledger:
        if entry.due_ms and entries.get(entry.id) == entry.due_ms:
            return f"promise 5: the deadline of the undo of {entry.step} ran on in a pause"
    if known.due_ms and known.due_ms == run.due_ms:
        return "promise 5: the deadline of the run ran on in a pause"
    return ""


def _undoubted(table: FlowTable, known: Run, run: Run, event: Envelope) -> str:
    """Return promise 4 if a step may have left an effect at its deadline, and the ledger has none."""
    expected = known.expects(event.step, event.trigger)
    if expected is None or expected.due_ms != event.due_ms or run.ended:
        return ""
    if run.expects(event.step, event.trigger) is not None:
        return f"promise 3: the deadline of {event.step} has passed, and it is expected still"
    step = table.steps.get(event.step)
    if step is None or step.compensation is None or not step.effect or any(e.step == step.name for e in run.ledger):
        return ""
    return f"promise 4: {event.step} gave no outcome in time, and nothing is in doubt"


def _void(table: FlowTable, before: KeyState, record: Record, after: KeyState) -> str:
    """Return promise 5 if a timer fact changes something although it is not due any more."""
    event = record.event
    run = before.run(event.run)
    if not event.due_ms or run is None or run.compensating or run.ended:
        return ""
    if event.id in {fact.id for fact in due(table, canonical.KEY, before, _LATER_MS)}:
        return ""
    left = after.run(event.run)
    if left is not None and _form(left) != _form(run):
        return f"promise 5: {event.type} of {event.step or 'the run'} is void, and changes the run"
    return ""


def _form(run: Run) -> bytes:
    form = canonical.state(KeyState(0, 0, [run]))
    form.runs[0].outbox, form.runs[0].recent = [], b""
    form.runs[0].gates = canonical.gates(run.gates, run.pause_n)
    form.runs[0].gates = form.runs[0].gates.__class__(openings=form.runs[0].gates.openings)
    return encode(form)


def of_effects(run: Run, step: str, effects: Sequence[Effect]) -> str:
    """Return promise 4 if the books of the outside system do not fit the end of the run."""
    if not run.ended:
        return ""
    entry = next((entry for entry in run.ledger if entry.step == step), None)
    for effect in effects:
        if run.status == COMPENSATED and effect.status == PRESENT and not _by_hand(entry):
            return f"promise 4: the run is compensated, and the effect of {step} is in the world"
        if run.status == COMPLETED and effect.status == TAKEN_BACK and not run.parentage:
            return f"promise 4: the run is completed, and the effect of {step} was undone"
    return ""


def _by_hand(entry: LedgerEntry | None) -> bool:
    return entry is not None and entry.state == RESOLVED


def of_end(run: Run) -> str:
    """Return promise 3 if nothing can happen to this run any more and it has not ended well or with a cause."""
    if run.ended and run.status in _ENDS:
        return ""
    if run.status == STUCK and run.cause and not run.paused_ms:
        return ""
    return f"promise 3: nothing more can happen, and the run is {run.shown}"
