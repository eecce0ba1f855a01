"""The tracker's open waits, as its gates move: opened, moved, reminded, closed.

The gates decide what counts (gates.py), alike for tracker and hosts; here the run's state follows them. The working
copy of the run is changed in place.
"""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core import facts, gates, openings
from choreo.core.compensation import start_compensation
from choreo.core.definition import WaitDefinition
from choreo.core.fold import Fold
from choreo.core.state import OpenWait, Run


def opened(fold: Fold, run: Run, wait: WaitDefinition, opening: gates.Opening, by: gates.Outside) -> None:
    """Open a wait; a timer whose moment cannot be read compensates the run, which would wait for ever."""
    known = OpenWait(wait.name, wait.shown, opening.trigger, fold.now_ms, opening.due_ms, opening.hops, bool(wait.at))
    known = replace(known, reminder_ms=opening.reminder_ms, escalation_ms=opening.escalation_ms)
    if wait.at:
        due_ms = _moment(fold, wait, by)
        if due_ms is None:
            cause = by.moments.unreadable if by.moments else "its event was read before it had a moment"
            start_compensation(fold, run, f"{wait.name} has no moment: {cause}")
            return
        known = replace(known, due_ms=due_ms)
    run.waits = [*run.waits, known]


def moved(
    fold: Fold, run: Run, wait: WaitDefinition, before: gates.Opening, opening: gates.Opening, by: gates.Outside
) -> None:
    """Set a timer's time anew. A moment that cannot be read leaves the old one, under the new event's name.

    Hosts know no moment: they drop a fact that was published before this event was read, whatever its payload says.
    """
    due_ms = _moment(fold, wait, by) if wait.at else opening.due_ms
    run.waits = [
        replace(known, trigger=opening.trigger, due_ms=known.due_ms if due_ms is None else due_ms, hops=opening.hops)
        if (known.name, known.trigger) == (before.wait, before.trigger)
        else known
        for known in run.waits
    ]


def _moment(fold: Fold, wait: WaitDefinition, by: gates.Outside) -> int | None:
    """Return the moment that an event sets; one in the past is now. None: it cannot be read."""
    moment_ms = by.moments.of(wait.at) if by.moments else None
    return None if moment_ms is None else max(moment_ms, fold.now_ms)


def reminded(fold: Fold, run: Run) -> bool:
    """Fold a reminder or an escalation; return whether it counts."""
    run.gates, after = openings.reminded(fold.table, run.gates, fold.event, run.pause_n)
    if after is None:
        return False
    about = {"reminder_ms": after.reminder_ms, "reminded": after.reminded, "escalation_ms": after.escalation_ms}
    run.waits = [
        replace(known, **about) if (known.name, known.trigger) == (after.wait, after.trigger) else known
        for known in run.waits
    ]
    return True


def wait_closed(fold: Fold, run: Run) -> None:
    """Fold `choreo.WaitClosed`; without effect where the event from outside stands before it in the log."""
    about = fold.event.step, fold.event.trigger
    run.gates = openings.wait_closed(run.gates, *about)
    run.waits = [wait for wait in run.waits if (wait.name, wait.trigger) != about]


FACTS = {facts.WAIT_CLOSED: wait_closed}
