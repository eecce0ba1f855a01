"""Fold the timer facts: a wait, a step or the flow has used up its time, or a reminder is due.

A fact about the right subject stands, whatever durations are declared today (timely.py). Every function takes the fold
and the run's working copy.
"""

from __future__ import annotations

from choreo.core import facts, open_waits, openings
from choreo.core.compensation import start_compensation
from choreo.core.fold import Fold
from choreo.core.forward import completes, given_up, trigger
from choreo.core.ledger import doubt
from choreo.core.state import Run
from choreo.core.timely import is_timely


def timed_out(fold: Fold, run: Run) -> None:
    """Fold a wait's time-out, which the tracker publishes as the wait's `fails` or `then` event."""
    _wait_over(fold, run, f": {fold.event.type}")


def reminded(fold: Fold, run: Run) -> None:
    """Fold a reminder or an escalation: the wait stays open, and steps may react to it."""
    if open_waits.reminded(fold, run):
        completes(fold, run, fold.event.type)
        trigger(fold, run, fresh=True)


def _wait_over(fold: Fold, run: Run, because: str) -> None:
    event = fold.event
    before = run.gates
    run.gates = openings.timed_out(before, event, run.pause_n)
    if run.compensating and run.gates is not before and event.type in fold.table.timeouts:
        # It stands before CompensationStarted: hosts take it for a trigger.
        trigger(fold, run, fresh=True)
        return
    for open_wait in run.waits:
        about_it = (open_wait.name, open_wait.trigger) == (event.step, event.trigger)
        if about_it and is_timely(event, open_wait.due_ms, run.pause_n):
            wait = fold.table.waits.get(open_wait.name)
            within = _within(fold, open_wait.due_ms, wait.timeout_ms if wait else 0)
            run.close(open_wait)
            if wait is not None and event.type == wait.then:
                completes(fold, run, event.type)
                trigger(fold, run, fresh=True)
                return
            start_compensation(fold, run, f"{open_wait.until} did not come {within}{because}")


def _within(fold: Fold, due_ms: int, declared_ms: int) -> str:
    """Return the time that a subject had, in words, if the timer fact is by the present declaration."""
    return f"within {fold.table.shown(declared_ms)}" if declared_ms and fold.event.due_ms == due_ms else "in time"


def step_deadline_passed(fold: Fold, run: Run) -> None:
    """Fold a timer fact: the step has failed, in doubt. Also for a wait that is not declared any more."""
    event = fold.event
    expected = run.expects(event.step, event.trigger)
    if expected is None:
        _wait_over(fold, run, "")
    elif is_timely(event, expected.due_ms, run.pause_n):
        step = fold.table.steps.get(event.step)
        within = _within(fold, expected.due_ms, step.deadline_ms if step else 0)
        given_up(run, expected)
        doubt(fold, run, event.step, event.trigger, raw=expected.raw, stays=bool(expected.attempt))
        start_compensation(fold, run, f"{event.step} gave no outcome {within}")


def flow_deadline_passed(fold: Fold, run: Run) -> None:
    """Fold a timer fact: the flow as a whole took too long."""
    event = fold.event
    if event.due_ms and is_timely(event, run.due_ms, run.pause_n):
        of = f" of {fold.table.shown(fold.table.flow.deadline_ms)}" if event.due_ms == run.due_ms else ""
        start_compensation(fold, run, f"the flow's deadline{of} has passed")


FACTS = {
    facts.STEP_DEADLINE_PASSED: step_deadline_passed,
    facts.FLOW_DEADLINE_PASSED: flow_deadline_passed,
}
