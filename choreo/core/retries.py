"""Fold the facts about attempts that come later: steps that are held by a pause, and attempts that failed.

Every function takes the fold and the run's working copy. `retry` has the declared policy; here its result is stored,
and `timers` publishes `choreo.StepRetryDue` when an attempt is due.
"""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core import facts, ids
from choreo.core.baggage import NOTHING, traced_by
from choreo.core.fold import Fold, wake
from choreo.core.forward import expectation
from choreo.core.ledger import doubt
from choreo.core.state import REQUESTED, LedgerEntry, PendingStep, Run


def wake_now(fold: Fold, run: Run, item: PendingStep | LedgerEntry) -> None:
    """Call for the next attempt of a held step or compensation at once."""
    fields = wake(run, item)
    fold.emit(run, facts.STEP_RETRY_DUE, fields.pop("id"), "the run was resumed", **fields)


def held(fold: Fold, run: Run) -> None:
    """Fold `choreo.StepHeld`: the step stays expected; if the run has been resumed already, it is woken at once.

    A run that has ended holds nothing. A step held for the same pause again is a duplicate.
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
        wake_now(fold, run, item)


def attempt_failed(fold: Fold, run: Run) -> None:
    """Fold `choreo.StepAttemptFailed`: the next attempt is far off; the tracker publishes when it is due.

    An unexpected step is not tried again: its effect is in doubt.
    """
    event, item = fold.event, _subject(fold, run)
    step = fold.table.steps.get(event.step)
    if item is None:
        _begun_unexpectedly(fold, run)
    elif step is not None and event.attempt > item.attempt:
        retry = step.compensation.retry if isinstance(item, LedgerEntry) and step.compensation else step.retry
        given_up = run.compensating and isinstance(item, PendingStep)
        delay_ms = 0 if given_up else retry.delay_ms(max(1, event.attempt))
        retry_ms = fold.clock_ms(run) + delay_ms
        carried = traced_by(item.carried or NOTHING, fold.headers)  # the next attempt follows from the failed one
        carried = None if carried == NOTHING else carried
        _store(run, replace(item, attempt=event.attempt, retry_ms=retry_ms, answers=event.id, carried=carried))


def _begun_unexpectedly(fold: Fold, run: Run) -> None:
    """Put a forward step in doubt whose attempt has begun without being expected: no further attempt follows."""
    event = fold.event
    if not event.entry and event.step not in fold.table.reactions:
        doubt(fold, run, event.step, event.trigger or event.causation, stays=True)


def retry_due(fold: Fold, run: Run) -> None:
    """Fold `choreo.StepRetryDue`: the log has it, so it is not published again."""
    item = _subject(fold, run)
    if item is not None and fold.event.id == ids.answer("retry-due", item.answers, item.step):
        _store(run, replace(item, retry_ms=0, answers="", held=False))


def _subject(fold: Fold, run: Run) -> PendingStep | LedgerEntry | None:
    """Return the expected step or the ledger entry under compensation that a host's fact is about."""
    event = fold.event
    if event.entry:
        entry = run.entry(event.entry)
        return entry if entry is not None and entry.state == REQUESTED and entry.round == event.round else None
    return expectation(fold, run, event.step, event.trigger or event.causation)


def _store(run: Run, item: PendingStep | LedgerEntry) -> None:
    if isinstance(item, LedgerEntry):
        run.put(item)
        return
    run.expected = [item if (e.step, e.trigger) == (item.step, item.trigger) else e for e in run.expected]


FACTS = {
    facts.STEP_HELD: held,
    facts.STEP_ATTEMPT_FAILED: attempt_failed,
    facts.STEP_RETRY_DUE: retry_due,
}
