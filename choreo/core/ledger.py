"""The ledger: when an entry is opened, in doubt, certain, or settled without an undo. Undos stand in backward.py.

A step on no cycle has one entry a run, under one idempotency key, whichever trigger brought it about.
"""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core import ids
from choreo.core.fold import Fold
from choreo.core.state import COMPENSATED, COMPENSATING, FAILED, NOTHING, OPEN, RESOLVED, UNSETTLEABLE, Entry, Run

IN_DOUBT = "in doubt"
SUCCEEDED_AFTER_ALL = "it succeeded after it was resolved by hand: look whether it is undone"
_DOUBTED_MAX = 16
"""Triggers told apart in one doubt; with more of them it is settled as one whose triggers nobody knows."""


def entry_of(fold: Fold, run: Run, name: str, trigger_id: str) -> Entry | None:
    """Return the entry of this effect."""
    if name in fold.table.cyclic:
        return run.entry(ids.entry(run.id, name, trigger_id))
    return next((entry for entry in run.ledger if entry.step == name), None)


def opened(fold: Fold, run: Run, name: str, trigger_id: str, *, raw: str = "") -> None:
    """Open the entry of a success, or make the one that is in doubt certain."""
    entry = entry_of(fold, run, name, trigger_id)
    if entry is None:
        entry_id = ids.entry(run.id, name, trigger_id)
        run.put(Entry(entry_id, name, trigger_id, fold.offset, fold.offset, raw=raw))
        _reopen(run)
    elif entry.in_doubt:
        _make_certain(fold, run, entry)


def _make_certain(fold: Fold, run: Run, entry: Entry) -> None:
    """A late success: absorbed where it is undone, a new round where the undo found nothing or could not ask.

    Where a person has resolved it, only a person knows whether it was undone by hand: it has failed.
    """
    certain = replace(entry, outcome=fold.offset, doubted=(), cleared=())
    if entry.state == RESOLVED:
        # The round is another: a duplicate of what the person said of this one is no answer.
        run.put(replace(certain, state=FAILED, cause=SUCCEEDED_AFTER_ALL, round=entry.round + 1))
        _reopen(run)
    elif entry.state == NOTHING or (entry.state == FAILED and entry.cause == IN_DOUBT):
        run.put(replace(certain, state=OPEN, cause=""))
        _reopen(run)
    else:
        run.put(certain)


def doubt(fold: Fold, run: Run, name: str, trigger_id: str, *, raw: str = "", unexpected: bool = False) -> None:
    """Note that the step may have left its effect; also of a step that is declared no longer.

    A doubt about a failure that nobody expected is settled by no certain failure: that one may be older.
    """
    step = fold.table.steps.get(name)
    if step is not None and (step.compensation is None or not step.effect):
        return
    whose = UNSETTLEABLE if unexpected else trigger_id
    entry = entry_of(fold, run, name, trigger_id)
    if entry is None:
        entry_id = ids.entry(run.id, name, trigger_id)
        run.put(Entry(entry_id, name, trigger_id, fold.offset, doubted=(whose,), raw=raw))
        _reopen(run)
    elif entry.in_doubt and trigger_id not in (*entry.doubted, *entry.cleared):
        _doubt_more(run, entry, whose)


def _doubt_more(run: Run, entry: Entry, whose: str) -> None:
    """Add a trigger to a doubt; one that was settled without an answer of its undo is open again."""
    if whose in entry.doubted:
        return
    whose = whose if len(entry.doubted) < _DOUBTED_MAX else UNSETTLEABLE
    entry = replace(entry, doubted=tuple(dict.fromkeys((*entry.doubted, whose))))
    if entry.state == NOTHING and not entry.nothings:
        run.put(replace(entry, state=OPEN))
        _reopen(run)
    else:
        run.put(entry)


def settle_doubt(run: Run, entry: Entry | None, trigger_id: str) -> None:
    """A late outcome that is certain to have left nothing settles its doubt; an undo under way still answers."""
    if entry is None or not entry.in_doubt or trigger_id not in entry.doubted:
        return
    doubted = tuple(other for other in entry.doubted if other != trigger_id)
    entry = replace(entry, doubted=doubted, cleared=(*entry.cleared, trigger_id)[-_DOUBTED_MAX:])
    settled = not doubted and entry.state in (OPEN, FAILED)
    run.put(replace(entry, state=NOTHING, cause="") if settled else entry)


def unanswered(entry: Entry, cause: str) -> Entry:
    """Return the entry whose undo has failed; it does not matter where nothing was left for certain."""
    if entry.in_doubt and entry.cleared and not entry.doubted:
        return replace(closed(entry, NOTHING), cause="")
    return replace(closed(entry, FAILED), cause=cause)


def closed(entry: Entry, state: str) -> Entry:
    """The entry in its new state, with no request under way."""
    return replace(entry, state=state, due_ms=0, attempt=0, retry_ms=0, answers="", held=False)


def _reopen(run: Run) -> None:
    """A run that ended compensated has something to undo again."""
    if run.status == COMPENSATED:
        run.ended_ms = 0
        run.status = COMPENSATING
