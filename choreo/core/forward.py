"""The forward path: a start, outcomes of steps, events from outside. They make steps expected, settle them, open entries.

Every function takes the fold and the run's working copy; what a failure leads to stands in backward.py.
"""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core import facts, ids
from choreo.core.backward import IN_DOUBT, reopen, settle_doubt, turn
from choreo.core.definition import StepDefinition
from choreo.core.durations import human
from choreo.core.fold import Fold
from choreo.core.state import COMPLETED, FAILED, NOTHING, OPEN, TERMINATED, Entry, Expected, OpenWait, Run


def start(fold: Fold) -> Run | None:
    """A start event: a new run, unless its id is a known run's. A second open run of a key is turned at once."""
    event, flow = fold.event, fold.table.flow
    if fold.state.run(event.id) is not None:
        return None
    busy = fold.state.oldest_open is not None
    run = Run(event.id, fold.offset, fold.now_ms, version=event.version)
    run.expected, run.waits, run.early, run.ledger, run.outbox, run.seen = [], [], [], [], [], {event.id: event.type}
    run.changed, run.changed_ms = fold.offset, fold.now_ms
    run.due_ms = fold.now_ms + flow.deadline_ms if flow.deadline_ms else 0
    fold.state.runs.append(run)
    trigger(fold, run)
    if busy:
        run.duplicate = True
        turn(fold, run, "duplicate start: another run of this key is open")
    return run


def domain(fold: Fold, run: Run) -> None:
    """Any domain event but a start: what it means follows from the role its type plays in the flow."""
    table, type_ = fold.table, fold.event.type
    step = _attributed(fold)
    definition = table.steps.get(step)
    if definition is not None and type_ in definition.emits:
        succeeded(fold, run, definition)
    elif definition is not None and type_ in definition.fails:
        failed(fold, run, definition, f"{step} failed: {type_}")
    elif type_ in table.satisfies:
        _from_outside(fold, run)
    elif type_ != table.flow.fails:
        fold.orphan()
        return
    if not run.ended:
        if type_ == table.flow.completes:
            run.completes_seen = True
        trigger(fold, run)


def _attributed(fold: Fold) -> str:
    """The step that made the event; of a foreign one, the only step that can have."""
    event, table = fold.event, fold.table
    if event.step:
        return event.step
    emitters = table.successes.get(event.type, ()) + table.failures.get(event.type, ())
    return emitters[0] if len(emitters) == 1 else ""


def trigger(fold: Fold, run: Run) -> None:
    """Make the event's steps expected and open its waits, unless its run was announced to be turned before it."""
    if run.announced:
        return
    event, table = fold.event, fold.table
    steps = table.triggers.get(event.type, ())
    if steps and table.flow.hops_max and event.hops >= table.flow.hops_max:
        turn(fold, run, f"more than {table.flow.hops_max} hops: {event.type} came round too often")
        return
    for step in steps:
        run.expected.append(Expected(step.name, event.id, fold.now_ms, fold.now_ms + step.deadline_ms))
    if run.turned:
        return
    for wait in table.opens.get(event.type, ()):
        if wait.until in run.early:
            run.early.remove(wait.until)
        else:
            due_ms = fold.now_ms + wait.timeout_ms
            run.waits.append(OpenWait(wait.name, wait.until, event.id, fold.now_ms, due_ms))


def succeeded(fold: Fold, run: Run, step: StepDefinition) -> None:
    """A success: its step is no longer expected, its effect stands in the ledger."""
    if step.name in fold.table.reactions:
        return
    trigger_id = _trigger_of(fold, run, step.name)
    if not trigger_id:
        fold.orphan()
        return
    expected = run.expects(step.name, trigger_id)
    if expected is not None:
        run.expected.remove(expected)
    if step.compensation is None or not step.effect:
        return
    entry = run.entry(ids.entry(run.id, step.name, trigger_id))
    if entry is None:
        if run.status not in (COMPLETED, TERMINATED):
            entry_id = ids.entry(run.id, step.name, trigger_id)
            run.put(Entry(entry_id, step.name, trigger_id, fold.offset, fold.offset))
            reopen(run)
    elif entry.in_doubt:
        _make_certain(fold, run, entry)


def _make_certain(fold: Fold, run: Run, entry: Entry) -> None:
    """A late success: absorbed where it is undone, a new round where the undo found nothing or could not ask."""
    reopened = entry.state == NOTHING or (entry.state == FAILED and entry.cause == IN_DOUBT)
    state = OPEN if reopened else entry.state
    run.put(replace(entry, outcome=fold.offset, state=state, cause="" if reopened else entry.cause))
    if reopened:
        reopen(run)


def failed(fold: Fold, run: Run, step: StepDefinition, cause: str) -> None:
    """A failure for good: the run turns; unless it is certain that nothing was left, the entry is in doubt."""
    trigger_id = _trigger_of(fold, run, step.name)
    expected = run.expects(step.name, trigger_id)
    if expected is None:
        settle_doubt(fold, run, ids.entry(run.id, step.name, trigger_id))
        return
    run.expected.remove(expected)
    if not fold.event.certain:
        doubt(fold, run, step, trigger_id)
    turn(fold, run, cause)


def doubt(fold: Fold, run: Run, step: StepDefinition, trigger_id: str) -> None:
    """Open an entry that may or may not stand for an effect."""
    if step.compensation is not None and step.effect:
        entry_id = ids.entry(run.id, step.name, trigger_id)
        if run.entry(entry_id) is None:
            run.put(Entry(entry_id, step.name, trigger_id, fold.offset))


def _trigger_of(fold: Fold, run: Run, step: str) -> str:
    """The outcome's trigger; a foreign outcome takes the run's expected trigger of that step."""
    if fold.event.causation:
        return fold.event.causation
    return next((expected.trigger for expected in run.expected if expected.step == step), "")


def _from_outside(fold: Fold, run: Run) -> None:
    """An event from outside satisfies its open wait; one that comes too early is kept for it."""
    type_ = fold.event.type
    wait = next((wait for wait in run.waits if wait.until == type_), None)
    if wait is not None:
        run.waits.remove(wait)
    elif not run.turned and not run.ended:
        run.early.append(type_)


def wait_failed(fold: Fold, run: Run) -> None:
    """A wait's timeout, said by the tracker as the wait's `fails` event."""
    event = fold.event
    for wait in run.waits:
        if wait.trigger == event.trigger and wait.name == event.step and wait.due_ms == event.due_ms:
            run.waits.remove(wait)
            turn(fold, run, f"{wait.until} did not come within {human(wait.due_ms - wait.since_ms)}: {event.type}")
            return


def step_completed(fold: Fold, run: Run) -> None:
    """`choreo.StepCompleted`: a success without a domain event."""
    step = fold.table.steps.get(fold.event.step)
    if step is not None:
        succeeded(fold, run, step)


def step_failed(fold: Fold, run: Run) -> None:
    """`choreo.StepFailed`: attempts used up, an error that no retry mends, or a dead letter."""
    step = fold.table.steps.get(fold.event.step)
    if step is not None:
        failed(fold, run, step, f"{step.name} failed: {fold.event.reason}")


def step_skipped(fold: Fold, run: Run) -> None:
    """`choreo.StepSkipped`: settles the expectation; read while the run is not turned it is a failure."""
    step = fold.table.steps.get(fold.event.step)
    if step is not None:
        failed(fold, run, step, f"{step.name} was skipped: {fold.event.reason}")


def trigger_ignored(fold: Fold, run: Run) -> None:
    """`choreo.TriggerIgnored`: a second trigger of a step that runs once a run."""
    expected = run.expects(fold.event.step, fold.event.causation)
    if expected is not None:
        run.expected.remove(expected)


def step_deadline_passed(fold: Fold, run: Run) -> None:
    """A timer fact: the step has failed, in doubt."""
    event = fold.event
    expected = run.expects(event.step, event.trigger)
    step = fold.table.steps.get(event.step)
    if expected is None or step is None or expected.due_ms != event.due_ms:
        return
    run.expected.remove(expected)
    doubt(fold, run, step, event.trigger)
    turn(fold, run, f"{event.step} gave no outcome within {human(expected.due_ms - expected.since_ms)}")


def flow_deadline_passed(fold: Fold, run: Run) -> None:
    """A timer fact: the flow as a whole took too long."""
    if fold.event.due_ms == run.due_ms:
        turn(fold, run, f"the flow's deadline of {human(run.due_ms - run.started_ms)} has passed")


FACTS = {
    facts.STEP_COMPLETED: step_completed,
    facts.STEP_FAILED: step_failed,
    facts.STEP_SKIPPED: step_skipped,
    facts.TRIGGER_IGNORED: trigger_ignored,
    facts.STEP_DEADLINE_PASSED: step_deadline_passed,
    facts.FLOW_DEADLINE_PASSED: flow_deadline_passed,
}
