"""Compensation and the end of a run: start it, request compensations newest entry first, read the answers, end the run.

Every function takes the fold and the run's working copy.
"""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core import facts, ids
from choreo.core.baggage import after
from choreo.core.fold import Fold, domain_payload
from choreo.core.gates import ENDED
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
    LedgerEntry,
    Run,
)
from choreo.core.timely import is_timely

COMPLETING = "the run has decided to complete"


def start_compensation(fold: Fold, run: Run, cause: str) -> None:
    """Start the run's compensation: close its waits, publish the fact, and wait no longer for distant retries.

    A run that has decided to complete is not compensated.
    """
    if _compensate(fold, run, cause):
        fold.emit(run, facts.COMPENSATION_STARTED, ids.of_run("turned", run.id), cause)


def _compensate(fold: Fold, run: Run, cause: str) -> bool:
    """Let the run compensate; return whether it does so only from now on."""
    if run.compensating or run.completing or run.ended:
        return False
    run.compensating = True
    run.status = COMPENSATING
    run.cause = cause
    run.waits = []
    # A retry that is due next week would delay the end of the run that long; woken now, its host skips it.
    now_ms = fold.clock_ms(run)
    run.expected = [replace(e, retry_ms=min(e.retry_ms, now_ms)) if e.retry_ms else e for e in run.expected]
    return True


def advance(fold: Fold, run: Run) -> None:
    """Decide the next fact after the event is folded: complete, request the next undo, or end.

    Nothing during a pause.
    """
    if run.ended_ms or run.paused_ms:
        return
    if run.compensating:
        _go_back(fold, run)
    elif run.completes_seen and not run.completing and not run.expected and not _awaits(fold, run):
        run.completing = True
        fold.emit(
            run,
            facts.FLOW_COMPLETED,
            ids.of_run("completed", run.id),
            f"{run.completed_by or fold.table.flow.completes} was seen",
        )


def _awaits(fold: Fold, run: Run) -> bool:
    """Return whether a wait holds the end; where only optional ones are open, decide to close them first."""
    if not run.waits:
        return False
    declared = [fold.table.waits.get(wait.name) for wait in run.waits]
    if all(wait is not None and wait.optional for wait in declared):
        for wait in run.waits:
            if not wait.closing:
                id_ = ids.timer("wait-closed", f"{wait.trigger}/{wait.name}", 0)
                about = {"step": wait.name, "trigger": wait.trigger}
                fold.emit(run, facts.WAIT_CLOSED, id_, "all else of the run is done", **about)
        run.waits = [replace(wait, closing=True) for wait in run.waits]
    return True


def _go_back(fold: Fold, run: Run) -> None:
    if not any(entry.state == REQUESTED for entry in run.ledger):
        _request_newest(fold, run)
    failed = next((entry for entry in run.ledger if entry.state == FAILED), None)
    if failed is None:
        run.status = COMPENSATING
        if not run.ending and not run.unsettled:
            _emit_compensated(fold, run)
    elif run.status != STUCK:
        run.status = STUCK
        cause = f"{failed.step}: {failed.cause}"
        fold.emit(run, facts.FLOW_STUCK, ids.of_run("stuck", run.id, run.stucks), cause, n=run.stucks)
        run.stucks += 1


def _emit_compensated(fold: Fold, run: Run) -> None:
    flow = fold.table.flow
    if flow.fails and not run.duplicate and not run.fails_emitted:
        run.fails_emitted = True
        payload = domain_payload(fold.table, flow.fails, fold.event.key, run.cause)
        fold.emit(run, flow.fails, ids.of_run(flow.fails, run.id), run.cause, **payload)
    run.ending = True
    fold.emit(run, facts.FLOW_COMPENSATED, ids.of_run("compensated", run.id, run.ends), run.cause, n=run.ends)


def _request_newest(fold: Fold, run: Run) -> None:
    """Request the compensation of the newest open entry; an entry whose doubt cannot be undone fails on the way."""
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


def _request(fold: Fold, run: Run, entry: LedgerEntry) -> None:
    round_ = entry.round + 1
    asked = {"round": round_, "asked_outcome": entry.outcome, "asked_n": entry.nothings, "carried": fold.carried(run)}
    run.put(replace(closed(entry, REQUESTED), **asked, cause=""))
    fold.emit(
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
    """Fold the compensation request from the log: its deadline counts from its own timestamp."""
    entry = run.entry(fold.event.entry)
    if entry is not None and entry.state == REQUESTED and entry.round == fold.event.round and not entry.due_ms:
        step = fold.table.steps.get(entry.step)
        # No service can answer for a compensation that is not declared any more: its time is up at once.
        allowed_ms = step.compensation.deadline_ms if step and step.compensation else 0
        run.put(replace(entry, due_ms=fold.clock_ms(run) + allowed_ms))


def undone(fold: Fold, run: Run) -> None:
    """Close the entry of a compensation's own event, in every state and round."""
    event = fold.event
    declared = event.step in fold.table.steps
    steps = {event.step} if declared else set(fold.table.compensations.get(event.type, ()))
    entry = run.entry(event.entry)
    if entry is None and not (event.entry and declared):
        entry = _newest_unsettled(run, steps)  # a foreign event, or one of a step that was renamed
    if entry is None:
        fold.orphan()
        return
    run.put(closed(entry, UNDONE))
    run.carried = after(run.carried, fold.headers)


def _newest_unsettled(run: Run, steps: set[str]) -> LedgerEntry | None:
    candidates = [entry for entry in run.ledger if entry.step in steps and entry.state in UNSETTLED]
    return max(candidates, key=lambda entry: entry.opened, default=None)


def nothing_to_compensate(fold: Fold, run: Run) -> None:
    """Fold `choreo.NothingToCompensate`.

    It counts for every round; an answer of the present round settles the entry, unless an outcome is known.
    """
    entry, round_ = run.entry(fold.event.entry), fold.event.round
    if entry is None:
        return
    present = entry.round == round_ and entry.state in (REQUESTED, FAILED)
    if round_ not in entry.nothing_rounds and 0 < round_ <= entry.round:
        entry = replace(entry, nothing_rounds=(*entry.nothing_rounds, round_))
        run.put(entry)
    if not present:
        return
    if entry.asked_outcome >= 0:
        run.put(replace(closed(entry, FAILED), cause="its undo was given the outcome and answered nothing"))
    else:
        run.put(replace(closed(entry, NOTHING if entry.in_doubt else OPEN), cause=""))


def compensation_failed(fold: Fold, run: Run) -> None:
    """Fold `choreo.CompensationFailed` of the present round.

    The entry fails, the run is stuck, the next entry goes on.
    """
    entry = run.entry(fold.event.entry)
    if entry is not None and entry.state == REQUESTED and entry.round == fold.event.round:
        run.put(unanswered(entry, fold.event.reason or "its undo failed"))


def compensation_deadline_passed(fold: Fold, run: Run) -> None:
    """Fold a timer fact: the compensation request had no answer in time."""
    entry = run.entry(fold.event.entry)
    event = fold.event
    if entry is None or entry.state != REQUESTED or not entry.due_ms or entry.round != event.round:
        return
    if is_timely(event, entry.due_ms, run.pause_n):
        step = fold.table.steps.get(entry.step)
        allowed_ms = step.compensation.deadline_ms if step and step.compensation else 0
        declared = allowed_ms and event.due_ms == entry.due_ms
        within = f"within {fold.table.shown(allowed_ms)}" if declared else "in time"
        run.put(unanswered(entry, f"its undo gave no answer {within}"))


def compensation_announced(fold: Fold, run: Run) -> None:
    """Fold `choreo.CompensationStarted` from the log: a later trigger makes no step expected.

    The fact and its reason stand, also where the present declaration would not have started the compensation: the
    hosts have read it, and start nothing more.
    """
    if not run.compensating:
        _compensate(fold, run, fold.event.reason)
    if run.compensating:
        run.announced = True
        run.cause = run.cause if run.cause.startswith(fold.event.reason) else fold.event.reason


def completed(fold: Fold, run: Run) -> None:
    """Fold `choreo.FlowCompleted` from the log: only now the run has ended.

    The fact stands, even if the present declaration would have decided otherwise: nothing is undone after it.
    """
    if run.status == COMPLETED or (run.parentage is not None and run.parentage.compensating and run.compensating):
        return
    if not run.completing:
        run.compensating, run.cause, run.duplicate = False, "", False
        run.ledger = [closed(entry, OPEN) if entry.state == REQUESTED else entry for entry in run.ledger]
    end(fold, run, COMPLETED)


def compensated(fold: Fold, run: Run) -> None:
    """Fold `choreo.FlowCompensated` from the log; with an open entry or an expected step it ends nothing.

    A fact that this fold has not decided was decided by another declaration: it stands, unless an attempt has begun
    without an outcome in the log.
    """
    if run.status == COMPLETED or fold.event.n < run.ends:
        return
    decided, run.ends, run.ending = run.ending, fold.event.n + 1, False
    held_open = run.unsettled if decided else any(expected.attempt for expected in run.expected)
    if not run.ended and not held_open:
        run.compensating = run.announced = True
        run.cause = run.cause or fold.event.reason
        end(fold, run, COMPENSATED)


def terminated(fold: Fold, run: Run) -> None:
    """Fold an operator's `choreo.FlowTerminated`: the run ends as it is, nothing is undone or published any more."""
    if run.completing:
        refuse(fold, run, COMPLETING)
    elif not run.ended:
        run.cause = fold.event.reason or "terminated by an operator"
        end(fold, run, TERMINATED)


def refuse(fold: Fold, run: Run, reason: str) -> None:
    """Refuse an operator's request that comes too late."""
    fold.emit(run, facts.CANCEL_REFUSED, ids.answer("cancel-refused", fold.event.id, run.id), reason)


def end(fold: Fold, run: Run, status: str) -> None:
    """End the run; a pending decision that would change the run is not published any more."""
    run.status = status
    run.ended_ms = fold.now_ms
    run.paused_ms = 0
    run.due_ms = 0
    run.completing = False
    if run.outbox:
        kept = {facts.CANCEL_REFUSED, facts.CHILDREN_COMPENSATION_REQUESTED, facts.CHILDREN_RESUMED}
        kept.add(fold.table.flow.fails if status == COMPENSATED else "")
        run.outbox = [fact for fact in run.outbox if fact.type in kept]
    run.ledger = [closed(e, OPEN) if e.state == REQUESTED and not e.due_ms else e for e in run.ledger]
    run.expected, run.waits, run.taken, run.refused = [], [], [], []
    run.gates = ENDED


FACTS = {
    facts.COMPENSATION_STARTED: compensation_announced,
    facts.COMPENSATION_REQUESTED: requested,
    facts.NOTHING_TO_COMPENSATE: nothing_to_compensate,
    facts.COMPENSATION_FAILED: compensation_failed,
    facts.COMPENSATION_DEADLINE_PASSED: compensation_deadline_passed,
    facts.FLOW_COMPLETED: completed,
    facts.FLOW_COMPENSATED: compensated,
    facts.FLOW_TERMINATED: terminated,
}
