"""The ledger: when an entry is opened, in doubt, certain, or settled without a compensation.

Compensations are in compensation.py.

A step on no cycle has one entry per run, under one idempotency key, for all its triggers.
"""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core import ids
from choreo.core.fold import Fold
from choreo.core.state import COMPENSATED, COMPENSATING, FAILED, NOTHING, OPEN, RESOLVED, UNSETTLEABLE, LedgerEntry, Run

IN_DOUBT = "in doubt"
SUCCEEDED_AFTER_ALL = "it succeeded after it was resolved by hand: look whether it is undone"
_DOUBTED_MAX = 16
"""Most triggers that one doubt distinguishes; with more, it is settled as a doubt with unknown triggers."""


def entry_of(fold: Fold, run: Run, name: str, trigger_id: str) -> LedgerEntry | None:
    """Return the entry of this effect."""
    if name in fold.table.cyclic:
        return run.entry(ids.entry(run.id, name, trigger_id))
    for entry in run.ledger:
        if entry.step == name:
            return entry
    return None


def opened(fold: Fold, run: Run, name: str, trigger_id: str, *, raw: str = "") -> None:
    """Open the entry of a success, or make the entry in doubt certain."""
    entry = entry_of(fold, run, name, trigger_id)
    if entry is None:
        entry_id = ids.entry(run.id, name, trigger_id)
        run.ledger = [*run.ledger, LedgerEntry(entry_id, name, trigger_id, fold.offset, fold.offset, raw=raw)]
        _reopen(run)
    elif entry.in_doubt:
        _make_certain(fold, run, entry)


def _make_certain(fold: Fold, run: Run, entry: LedgerEntry) -> None:
    """Fold a late success: it changes nothing if the entry is undone.

    A new round follows a compensation that found nothing or could not be requested. An entry that a person has
    resolved fails: only a person knows whether it was undone by hand.
    """
    certain = replace(entry, outcome=fold.offset, doubted=(), cleared=())
    if entry.state == RESOLVED:
        # The round is a new one: a duplicate of the person's answer to the earlier round does not answer it.
        run.put(replace(certain, state=FAILED, cause=SUCCEEDED_AFTER_ALL, round=entry.round + 1))
        _reopen(run)
    elif entry.state == NOTHING or (entry.state == FAILED and entry.cause == IN_DOUBT):
        run.put(replace(certain, state=OPEN, cause=""))
        _reopen(run)
    else:
        run.put(certain)


def doubt(fold: Fold, run: Run, name: str, trigger_id: str, *, raw: str = "", stays: bool = False) -> None:
    """Note that the step may have left its effect; also for a step that is not declared any more.

    `stays`: no later outcome settles it. So it is once an attempt is known to have begun: a host that then reports that
    none has left anything has lost its inbox. For the same reason such a doubt counts after a certain outcome, too.
    """
    step = fold.table.steps.get(name)
    if step is not None and (step.compensation is None or not step.effect):
        return
    doubted_trigger = UNSETTLEABLE if stays else trigger_id
    entry = entry_of(fold, run, name, trigger_id)
    if entry is None:
        entry_id = ids.entry(run.id, name, trigger_id)
        run.put(LedgerEntry(entry_id, name, trigger_id, fold.offset, doubted=(doubted_trigger,), raw=raw))
        _reopen(run)
    elif entry.in_doubt and trigger_id not in entry.doubted and (stays or trigger_id not in entry.cleared):
        _doubt_more(run, entry, doubted_trigger)


def _doubt_more(run: Run, entry: LedgerEntry, doubted_trigger: str) -> None:
    """Add a trigger to a doubt; a doubt that was settled without an answer of its compensation is open again."""
    if doubted_trigger in entry.doubted:
        return
    doubted_trigger = doubted_trigger if len(entry.doubted) < _DOUBTED_MAX else UNSETTLEABLE
    entry = replace(entry, doubted=tuple(dict.fromkeys((*entry.doubted, doubted_trigger))))
    if entry.state == NOTHING and not entry.nothings:
        run.put(replace(entry, state=OPEN))
        _reopen(run)
    else:
        run.put(entry)


def settle_doubt(run: Run, entry: LedgerEntry | None, trigger_id: str) -> None:
    """Settle a doubt by a late outcome that certainly left nothing; a compensation under way still answers."""
    if entry is None or not entry.in_doubt or trigger_id not in entry.doubted:
        return
    doubted = tuple(other for other in entry.doubted if other != trigger_id)
    entry = replace(entry, doubted=doubted, cleared=(*entry.cleared, trigger_id)[-_DOUBTED_MAX:])
    settled = not doubted and entry.state in (OPEN, FAILED)
    run.put(replace(entry, state=NOTHING, cause="") if settled else entry)


def unanswered(entry: LedgerEntry, cause: str) -> LedgerEntry:
    """Return the entry after a failed compensation; the failure does not matter if certainly nothing was left."""
    if entry.in_doubt and entry.cleared and not entry.doubted:
        return replace(closed(entry, NOTHING), cause="")
    return replace(closed(entry, FAILED), cause=cause)


def closed(entry: LedgerEntry, state: str) -> LedgerEntry:
    """Return the entry in its new state, with no request under way."""
    return replace(entry, state=state, due_ms=0, attempt=0, retry_ms=0, answers="", held=False)


def _reopen(run: Run) -> None:
    """Open a compensated run again: it has something to undo."""
    if run.status == COMPENSATED:
        run.ended_ms = 0
        run.status = COMPENSATING
