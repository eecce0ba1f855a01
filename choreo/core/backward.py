"""The way back and the end: the turn, undo requests newest entry first, their answers, and when a run has ended.

Every function takes the fold and the run's working copy.
"""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core import facts, ids
from choreo.core.fold import Fold, domain_payload
from choreo.core.gates import Gates
from choreo.core.ledger import IN_DOUBT, closed, unanswered
from choreo.core.state import (
    COMPENSATED,
    COMPENSATING,
    COMPLETED,
    FAILED,
    NOTHING,
    OPEN,
    REQUESTED,
    STUCK,
    TERMINATED,
    UNDONE,
    UNSETTLED,
    Entry,
    Run,
)

COMPLETING = "the run has decided to complete"


def turn(fold: Fold, run: Run, cause: str) -> None:
    """Turn the run back: it closes its waits, announces the turn, and no longer waits for far-off retries.

    Nothing turns a run that has decided to complete.
    """
    if run.turned or run.completing or run.ended:
        return
    run.turned = True
    run.status = COMPENSATING
    run.cause = cause
    run.waits = []
    # A retry that is due next week would hold the end of the run that long; woken now, its host skips it.
    now_ms = fold.clock_ms(run)
    run.expected = [replace(e, retry_ms=min(e.retry_ms, now_ms)) if e.retry_ms else e for e in run.expected]
    fold.say(run, facts.FLOW_TURNED, ids.of_run("turned", run.id), cause)


def advance(fold: Fold, run: Run) -> None:
    """Decide what follows once the event is folded in: complete, ask for the next undo, or end. Not while paused."""
    if run.ended or run.paused_ms:
        return
    if run.turned:
        _go_back(fold, run)
    elif run.completes_seen and not run.completing and not run.expected and not run.waits:
        run.completing = True
        fold.say(run, facts.FLOW_COMPLETED, ids.of_run("completed", run.id), f"{fold.table.flow.completes} was seen")


def _go_back(fold: Fold, run: Run) -> None:
    if not any(entry.state == REQUESTED for entry in run.ledger):
        _request_newest(fold, run)
    failed = next((entry for entry in run.ledger if entry.state == FAILED), None)
    if failed is None:
        run.status = COMPENSATING
        if not run.ending and not run.unsettled:
            _say_compensated(fold, run)
    elif run.status != STUCK:
        run.status = STUCK
        cause = f"{failed.step}: {failed.cause}"
        fold.say(run, facts.FLOW_STUCK, ids.of_run("stuck", run.id, run.stucks), cause, n=run.stucks)
        run.stucks += 1


def _say_compensated(fold: Fold, run: Run) -> None:
    flow = fold.table.flow
    if flow.fails and not run.duplicate and not run.fails_said:
        run.fails_said = True
        payload = domain_payload(fold.table, flow.fails, fold.event.key, run.cause)
        fold.say(run, flow.fails, ids.of_run(flow.fails, run.id), run.cause, **payload)
    run.ending = True
    fold.say(run, facts.FLOW_COMPENSATED, ids.of_run("compensated", run.id, run.ends), run.cause, n=run.ends)


def _request_newest(fold: Fold, run: Run) -> None:
    """Ask for the undo of the newest open entry; one whose doubt cannot be undone fails on the way."""
    while True:
        open_entries = [entry for entry in run.ledger if entry.state == OPEN]
        if not open_entries:
            return
        entry = max(open_entries, key=lambda candidate: candidate.opened)
        step = fold.table.steps.get(entry.step)
        undo = step.compensation if step else None
        if undo is None or (entry.in_doubt and not (undo.takes_none and undo.bars)):
            run.put(replace(entry, state=FAILED, cause=IN_DOUBT if undo else "its compensation is no longer declared"))
            continue
        _request(fold, run, entry)
        return


def _request(fold: Fold, run: Run, entry: Entry) -> None:
    round_ = entry.round + 1
    run.put(replace(closed(entry, REQUESTED), round=round_, given=entry.outcome, asked_n=entry.nothings, cause=""))
    fold.say(
        run,
        facts.COMPENSATION_REQUESTED,
        ids.of_round("undo-request", entry.id, round_),
        run.cause,
        step=entry.step,
        trigger=entry.trigger,
        entry=entry.id,
        round=round_,
        n=entry.nothings,
        outcome=entry.outcome,
    )


def requested(fold: Fold, run: Run) -> None:
    """The undo request read back: its deadline counts from its own stamp."""
    entry = run.entry(fold.event.entry)
    if entry is not None and entry.state == REQUESTED and entry.round == fold.event.round and not entry.due_ms:
        step = fold.table.steps.get(entry.step)
        # Nobody can answer for a compensation that is declared no longer: its time is up at once.
        allowed_ms = step.compensation.deadline_ms if step and step.compensation else 0
        run.put(replace(entry, due_ms=fold.clock_ms(run) + allowed_ms))


def undone(fold: Fold, run: Run) -> None:
    """The undo's own event closes its entry, whatever its state or round."""
    event = fold.event
    declared = event.step in fold.table.steps
    steps = {event.step} if declared else set(fold.table.undos.get(event.type, ()))
    entry = run.entry(event.entry)
    if entry is None and not (event.entry and declared):
        entry = _newest_unsettled(run, steps)  # a foreign one, or of a step that was renamed
    if entry is None:
        fold.orphan()
        return
    run.put(closed(entry, UNDONE))


def _newest_unsettled(run: Run, steps: set[str]) -> Entry | None:
    candidates = [entry for entry in run.ledger if entry.step in steps and entry.state in UNSETTLED]
    return max(candidates, key=lambda entry: entry.opened, default=None)


def nothing_to_undo(fold: Fold, run: Run) -> None:
    """`choreo.NothingToUndo`: counted for every round; one of the present round settles, unless an outcome is known."""
    entry, round_ = run.entry(fold.event.entry), fold.event.round
    if entry is None:
        return
    present = entry.round == round_ and entry.state in (REQUESTED, FAILED)
    if round_ not in entry.nothing_rounds and 0 < round_ <= entry.round:
        entry = replace(entry, nothing_rounds=(*entry.nothing_rounds, round_))
        run.put(entry)
    if not present:
        return
    if entry.given >= 0:
        run.put(replace(closed(entry, FAILED), cause="its undo was given the outcome and answered nothing"))
    else:
        run.put(replace(closed(entry, NOTHING if entry.in_doubt else OPEN), cause=""))


def undo_failed(fold: Fold, run: Run) -> None:
    """`choreo.UndoFailed` of the present round: the entry is failed, the run stuck, the next entry goes on."""
    entry = run.entry(fold.event.entry)
    if entry is not None and entry.state == REQUESTED and entry.round == fold.event.round:
        run.put(unanswered(entry, fold.event.reason or "its undo failed"))


def undo_deadline_passed(fold: Fold, run: Run) -> None:
    """A timer fact: nobody answered the undo request in time."""
    entry = run.entry(fold.event.entry)
    if entry is not None and entry.state == REQUESTED and entry.due_ms and entry.due_ms == fold.event.due_ms:
        step = fold.table.steps.get(entry.step)
        allowed_ms = step.compensation.deadline_ms if step and step.compensation else 0
        within = f"within {fold.table.shown(allowed_ms)}" if allowed_ms else "in time"
        run.put(unanswered(entry, f"its undo gave no answer {within}"))


def turn_announced(_fold: Fold, run: Run) -> None:
    """`choreo.FlowTurned` read back: a trigger that stands after it makes nothing expected."""
    if run.turned:
        run.announced = True


def completed(fold: Fold, run: Run) -> None:
    """`choreo.FlowCompleted` read back: only now the run has ended.

    It stands, also where the present declaration would have decided otherwise: nothing is undone after it.
    """
    if run.status == COMPLETED:
        return
    if not run.completing:
        run.turned, run.cause, run.duplicate = False, "", False
        run.ledger = [closed(entry, OPEN) if entry.state == REQUESTED else entry for entry in run.ledger]
    _end(fold, run, COMPLETED)


def compensated(fold: Fold, run: Run) -> None:
    """`choreo.FlowCompensated` read back; with an entry open or a step expected again it ends nothing.

    One that this fold has not decided was decided by another declaration: it stands, unless an attempt has begun
    that the log has no outcome of.
    """
    if run.status == COMPLETED or fold.event.n < run.ends:
        return
    decided, run.ends, run.ending = run.ending, fold.event.n + 1, False
    held_open = run.unsettled if decided else any(expected.attempt for expected in run.expected)
    if not run.ended and not held_open:
        run.turned = run.announced = True
        run.cause = run.cause or fold.event.reason
        _end(fold, run, COMPENSATED)


def terminated(fold: Fold, run: Run) -> None:
    """`choreo.FlowTerminated`, an operator's: the run ends as it is, nothing is undone or said any more."""
    if run.completing:
        refuse(fold, run, COMPLETING)
    elif not run.ended:
        run.cause = fold.event.reason or "terminated by an operator"
        _end(fold, run, TERMINATED)


def refuse(fold: Fold, run: Run, reason: str) -> None:
    """Answer an operator whose wish comes too late."""
    fold.say(run, facts.CANCEL_REFUSED, ids.answer("cancel-refused", fold.event.id, run.id), reason)


def _end(fold: Fold, run: Run, status: str) -> None:
    """End the run; a decision that is not read back by now, and would move the run, is not published any more."""
    run.status = status
    run.ended_ms = fold.now_ms
    run.paused_ms = 0
    run.due_ms = 0
    run.completing = False
    kept = {facts.CANCEL_REFUSED, fold.table.flow.fails if status == COMPENSATED else ""}
    run.outbox = [fact for fact in run.outbox if fact.type in kept]
    run.ledger = [closed(e, OPEN) if e.state == REQUESTED and not e.due_ms else e for e in run.ledger]
    run.expected, run.waits, run.taken, run.refused = [], [], [], []
    run.gates = Gates(closed="its run has ended")


FACTS = {
    facts.FLOW_TURNED: turn_announced,
    facts.COMPENSATION_REQUESTED: requested,
    facts.NOTHING_TO_UNDO: nothing_to_undo,
    facts.UNDO_FAILED: undo_failed,
    facts.UNDO_DEADLINE_PASSED: undo_deadline_passed,
    facts.FLOW_COMPLETED: completed,
    facts.FLOW_COMPENSATED: compensated,
    facts.FLOW_TERMINATED: terminated,
}
