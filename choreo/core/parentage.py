"""Fold a child's side of its parentage: the parent's orders, and the end, which is reported to the parent.

Every function takes the fold and the run's working copy. An order of the parent acts as a person's would; only to undo
a run that has completed is the parent's alone.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from choreo.core import facts, ids
from choreo.core.compensation import start_compensation
from choreo.core.crossing import JSON, Ended
from choreo.core.fold import Fold
from choreo.core.state import COMPENSATED, COMPLETED, RUNNING, STUCK, TERMINATED, Run


def compensation_requested(_fold: Fold, run: Run) -> None:
    """Fold `choreo.ParentCompensationRequested`: the run is undone, also once it has completed; `advance` begins."""
    if run.status != TERMINATED and run.parentage is not None:
        run.parentage = replace(run.parentage, compensating=True)


def paused(fold: Fold, run: Run) -> None:
    """Fold `choreo.ParentPaused`: pause the run unless it is paused."""
    if _is_news(fold, run) and not run.paused_ms and not run.ended:
        _of_pause(fold, run, facts.FLOW_PAUSED)


def resumed(fold: Fold, run: Run) -> None:
    """Fold `choreo.ParentResumed`: resume the run if it is paused, also by a person."""
    if _is_news(fold, run) and run.paused_ms:
        _of_pause(fold, run, facts.FLOW_RESUMED)


def terminated(fold: Fold, run: Run) -> None:
    """Fold `choreo.ParentTerminated`: terminate a run that is open."""
    if not run.ended and not run.completing:
        reason = f"its parent was terminated: {fold.event.reason}"
        fold.emit(run, facts.FLOW_TERMINATED, ids.of_run("terminated-by-parent", run.id), reason)


def _is_news(fold: Fold, run: Run) -> bool:
    """Return whether this is the newest fact of the parent's pause series."""
    known = run.parentage
    if known is None or fold.event.n <= known.pause_n:
        return False
    run.parentage = replace(known, pause_n=fold.event.n)
    return True


def _of_pause(fold: Fold, run: Run, type_: str) -> None:
    n = run.pause_n + 1
    fold.emit(run, type_, ids.of_run("pause", run.id, n), "with its parent", n=n)


def compensate(fold: Fold, run: Run) -> None:
    """Begin to undo a run that its parent undoes, unless that has begun; a completed run opens again."""
    if run.compensating or run.completing or run.status == TERMINATED:
        return
    if run.status == COMPLETED:
        run.ended_ms, run.status = 0, RUNNING
    is_request = fold.event.type == facts.PARENT_COMPENSATION_REQUESTED  # it may be acted on later
    reason = fold.event.reason if is_request else ""
    start_compensation(fold, run, f"undone with its parent: {reason}".removesuffix(": "))


def tell(fold: Fold, run: Run) -> None:
    """Tell the parent how the run stands, whenever it has ended or is stuck."""
    stands = run.status if run.ended_ms or run.status == STUCK else ""
    known = run.parentage
    if known is None or stands == known.told:
        return
    run.parentage = replace(known, told=stands)
    if stands not in (COMPLETED, COMPENSATED, STUCK, TERMINATED):
        return
    n = known.tellings
    run.parentage = replace(known, told=stands, tellings=n + 1)
    content = msgspec.json.encode(Ended(fold.event.key, stands))
    fold.emit(
        run,
        facts.CHILD_ENDED,
        ids.of_run("child-ended", run.id, n),
        run.cause,
        n=n,
        parent=known.place,
        content_type=JSON,
        data=content,
    )


FACTS = {
    facts.PARENT_COMPENSATION_REQUESTED: compensation_requested,
    facts.PARENT_PAUSED: paused,
    facts.PARENT_RESUMED: resumed,
    facts.PARENT_TERMINATED: terminated,
}
