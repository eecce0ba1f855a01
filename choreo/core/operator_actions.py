"""Fold the facts by which operators steer a run: pause, resume, cancel, retry or resolve a compensation.

Every function takes the fold and the run's working copy.
"""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core import facts, gates
from choreo.core.compensation import COMPLETING, refuse, start_compensation
from choreo.core.fold import Fold
from choreo.core.ledger import closed
from choreo.core.retries import wake_now
from choreo.core.state import FAILED, OPEN, RESOLVED, UNSETTLED, LedgerEntry, OpenWait, PendingStep, Run


def cancel_requested(fold: Fold, run: Run) -> None:
    """Start the run's compensation, or publish a refusal: after the decision to complete, nothing starts it.

    A run that is compensating already needs no change.
    """
    if run.ended and not run.compensating:
        refuse(fold, run, f"the run has ended: {run.status}")
    elif run.completing:
        refuse(fold, run, COMPLETING)
    else:
        start_compensation(fold, run, f"cancelled: {fold.event.reason or 'no reason given'}")


def paused(fold: Fold, run: Run) -> None:
    """Fold a fact of the pause series: the highest number counts. From here on the run's deadlines stand still."""
    if fold.event.n <= run.pause_n:
        return
    run.pause_n = fold.event.n
    if not run.ended:
        run.paused_ms = run.paused_ms or fold.record.stamp_ms


def resumed(fold: Fold, run: Run) -> None:
    """Move every due time by the length of the pause; wake each held step."""
    if fold.event.n <= run.pause_n:
        return
    run.pause_n = fold.event.n
    if not run.paused_ms:
        return
    by_ms = max(0, fold.record.stamp_ms - run.paused_ms)
    run.paused_ms = 0
    run.due_ms = _moved(run.due_ms, by_ms)
    run.expected = [replace(e, due_ms=e.due_ms + by_ms, retry_ms=_moved(e.retry_ms, by_ms)) for e in run.expected]
    run.waits = [_later(wait, by_ms) for wait in run.waits]
    run.gates = gates.moved(run.gates, by_ms)
    run.ledger = [replace(e, due_ms=_moved(e.due_ms, by_ms), retry_ms=_moved(e.retry_ms, by_ms)) for e in run.ledger]
    items: list[PendingStep | LedgerEntry] = [*run.expected, *run.ledger]
    for item in items:
        if item.held:
            wake_now(fold, run, item)


def _later(wait: OpenWait, by_ms: int) -> OpenWait:
    return replace(
        wait,
        due_ms=wait.due_ms if wait.fixed else _moved(wait.due_ms, by_ms),
        reminder_ms=_moved(wait.reminder_ms, by_ms),
        escalation_ms=_moved(wait.escalation_ms, by_ms),
    )


def _moved(due_ms: int, by_ms: int) -> int:
    return due_ms + by_ms if due_ms else 0


def compensation_retry_requested(fold: Fold, run: Run) -> None:
    """Fold an operator's request to try a failed compensation again, in a round after the one that failed."""
    entry = run.entry(fold.event.entry)
    if entry is not None and entry.state == FAILED and entry.round == fold.event.round and not run.ended:
        run.put(replace(entry, state=OPEN, cause=""))


def compensation_resolved(fold: Fold, run: Run) -> None:
    """Fold an operator's resolution with its reason; without effect if another round was requested meanwhile."""
    entry = run.entry(fold.event.entry)
    if entry is not None and entry.state in UNSETTLED and entry.round == fold.event.round:
        cause = f"resolved by hand: {fold.event.reason}"
        run.put(replace(closed(entry, RESOLVED), cause=cause))


FACTS = {
    facts.CANCEL_REQUESTED: cancel_requested,
    facts.FLOW_PAUSED: paused,
    facts.FLOW_RESUMED: resumed,
    facts.COMPENSATION_RETRY_REQUESTED: compensation_retry_requested,
    facts.COMPENSATION_RESOLVED: compensation_resolved,
}
