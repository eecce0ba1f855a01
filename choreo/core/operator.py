"""What operators do to a run (pause, resume, cancel, retry or resolve an undo), and steps that are held or tried later.

Every function takes the fold and the run's working copy.
"""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core import facts, gates, ids
from choreo.core.backward import COMPLETING, refuse, turn
from choreo.core.fold import Fold, wake
from choreo.core.forward import expectation
from choreo.core.ledger import closed, doubt
from choreo.core.state import FAILED, OPEN, REQUESTED, RESOLVED, UNSETTLED, Entry, Expected, Run


def cancel_requested(fold: Fold, run: Run) -> None:
    """Turn the run, or say why not: from the decision to complete on, nothing turns it. A turned run is as wished."""
    if run.ended and not run.turned:
        refuse(fold, run, f"the run has ended: {run.status}")
    elif run.completing:
        refuse(fold, run, COMPLETING)
    else:
        turn(fold, run, f"cancelled: {fold.event.reason or 'no reason given'}")


def paused(fold: Fold, run: Run) -> None:
    """One of the pause series: the highest number rules. From here on the run's deadlines stand still."""
    if fold.event.n <= run.pause_n:
        return
    run.pause_n = fold.event.n
    if not run.ended:
        run.paused_ms = run.paused_ms or fold.now_ms


def resumed(fold: Fold, run: Run) -> None:
    """Every due time moves by as long as the run was paused; each held step is woken."""
    if fold.event.n <= run.pause_n:
        return
    run.pause_n = fold.event.n
    if not run.paused_ms:
        return
    by_ms = fold.now_ms - run.paused_ms
    run.paused_ms = 0
    run.due_ms = _moved(run.due_ms, by_ms)
    run.expected = [replace(e, due_ms=e.due_ms + by_ms, retry_ms=_moved(e.retry_ms, by_ms)) for e in run.expected]
    run.waits = [replace(w, due_ms=w.due_ms + by_ms) for w in run.waits]
    run.gates = gates.moved(run.gates, by_ms)
    run.ledger = [replace(e, due_ms=_moved(e.due_ms, by_ms), retry_ms=_moved(e.retry_ms, by_ms)) for e in run.ledger]
    items: list[Expected | Entry] = [*run.expected, *run.ledger]
    for item in items:
        if item.held:
            _wake(fold, run, item)


def _moved(due_ms: int, by_ms: int) -> int:
    return due_ms + by_ms if due_ms else 0


def _wake(fold: Fold, run: Run, item: Expected | Entry) -> None:
    fields = wake(run, item)
    fold.say(run, facts.STEP_RETRY_DUE, fields.pop("id"), "the run was resumed", **fields)


def held(fold: Fold, run: Run) -> None:
    """`choreo.StepHeld`: the step stays expected; if the run goes on already, it is woken at once.

    A run that has ended holds nothing. One that is held for the same pause again is a duplicate.
    """
    event, item = fold.event, _subject(fold, run)
    if item is None:
        if event.attempt:
            _begun_unexpectedly(fold, run)
        return
    if event.n <= item.held_n and (event.n or event.id == item.answers):
        return
    attempt = max(item.attempt, event.attempt)
    item = replace(item, held=True, held_n=event.n, attempt=attempt, retry_ms=0, answers=event.id)
    _store(run, item)
    if not run.paused_ms and not run.ended:
        _wake(fold, run, item)


def attempt_failed(fold: Fold, run: Run) -> None:
    """`choreo.StepAttemptFailed`: the next attempt is far off; the tracker says when it is time.

    One of a step that nobody expects is not tried again: what it has left is in doubt.
    """
    event, item = fold.event, _subject(fold, run)
    step = fold.table.steps.get(event.step)
    if item is None:
        _begun_unexpectedly(fold, run)
    elif step is not None and event.attempt > item.attempt:
        retry = step.compensation.retry if isinstance(item, Entry) and step.compensation else step.retry
        given_up = run.turned and isinstance(item, Expected)
        delay_ms = 0 if given_up else retry.delay_ms(max(1, event.attempt))
        retry_ms = fold.clock_ms(run) + delay_ms
        _store(run, replace(item, attempt=event.attempt, retry_ms=retry_ms, answers=event.id))


def _begun_unexpectedly(fold: Fold, run: Run) -> None:
    """An attempt of a step forward has begun for which nobody waits, and nobody will call for the next one."""
    event = fold.event
    if not event.entry and event.step not in fold.table.reactions:
        doubt(fold, run, event.step, event.trigger or event.causation, unexpected=True)


def retry_due(fold: Fold, run: Run) -> None:
    """`choreo.StepRetryDue` read back: it is said."""
    item = _subject(fold, run)
    if item is not None and fold.event.id == ids.answer("retry-due", item.answers, item.step):
        _store(run, replace(item, retry_ms=0, answers="", held=False))


def _subject(fold: Fold, run: Run) -> Expected | Entry | None:
    """The expected step, or the ledger entry under undo, that a host's fact is about."""
    event = fold.event
    if event.entry:
        entry = run.entry(event.entry)
        return entry if entry is not None and entry.state == REQUESTED and entry.round == event.round else None
    return expectation(fold, run, event.step, event.trigger or event.causation)


def _store(run: Run, item: Expected | Entry) -> None:
    if isinstance(item, Entry):
        run.put(item)
        return
    run.expected = [item if (e.step, e.trigger) == (item.step, item.trigger) else e for e in run.expected]


def undo_retry_requested(fold: Fold, run: Run) -> None:
    """An operator lets a failed undo be tried again: a new round after the one he saw."""
    entry = run.entry(fold.event.entry)
    if entry is not None and entry.state == FAILED and entry.round == fold.event.round and not run.ended:
        run.put(replace(entry, state=OPEN, cause=""))


def undo_resolved(fold: Fold, run: Run) -> None:
    """An operator has undone it by hand, and says why; of no use if another round was asked for meanwhile."""
    entry = run.entry(fold.event.entry)
    if entry is not None and entry.state in UNSETTLED and entry.round == fold.event.round:
        cause = f"resolved by hand: {fold.event.reason}"
        run.put(replace(closed(entry, RESOLVED), cause=cause))


FACTS = {
    facts.CANCEL_REQUESTED: cancel_requested,
    facts.FLOW_PAUSED: paused,
    facts.FLOW_RESUMED: resumed,
    facts.STEP_HELD: held,
    facts.STEP_ATTEMPT_FAILED: attempt_failed,
    facts.STEP_RETRY_DUE: retry_due,
    facts.UNDO_RETRY_REQUESTED: undo_retry_requested,
    facts.UNDO_RESOLVED: undo_resolved,
}
