"""The forward path: a start, outcomes of steps, events from outside.

They make steps expected, settle them, and open entries of the ledger. Every function takes the fold and the run's
working copy; what a failure leads to stands in backward.py.
"""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core import facts, gates, ids
from choreo.core.backward import IN_DOUBT, reopen, settle_doubt, turn
from choreo.core.definition import StepDefinition
from choreo.core.durations import human
from choreo.core.fold import Fold
from choreo.core.state import FAILED, NOTHING, OPEN, Entry, Expected, OpenWait, Run


def start(fold: Fold) -> Run | None:
    """A start event: a new run, unless its id is a known run's. A second open run of a key is turned at once."""
    event, flow = fold.event, fold.table.flow
    if fold.state.run(event.id) is not None:
        return None
    busy = fold.state.busy
    run = Run(event.id, fold.offset, fold.now_ms, version=event.version, seen={event.id: event.type})
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
    name = _attributed(fold)
    step = table.steps.get(name)
    if step is not None and type_ in step.emits:
        succeeded(fold, run, step)
    elif step is not None and type_ in step.fails:
        failed(fold, run, name, f"{name} failed: {type_}")
    elif type_ not in table.satisfies and type_ != table.flow.fails:
        fold.orphan()
        return
    if not run.ended:
        if type_ == table.flow.completes and type_ not in table.satisfies:
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
    table, event = fold.table, fold.event
    if run.announced:
        return
    about = gates.Outside(event.type, event.id, fold.offset, event.hops)
    if event.type not in table.satisfies:
        _expect(fold, run, about)
    if event.type in table.satisfies or event.type in table.opens:
        _gate(fold, run, about)


def _expect(fold: Fold, run: Run, event: gates.Outside) -> None:
    """Make the steps expected that this event triggers."""
    table = fold.table
    steps = table.triggers.get(event.type, ())
    if steps and table.flow.hops_max and event.hops >= table.flow.hops_max:
        turn(fold, run, f"more than {table.flow.hops_max} hops: {event.type} came round too often")
        return
    from_ms = fold.clock_ms(run)
    hops = event.hops if event.type in table.satisfies else 0
    for step in steps:
        if step.name not in table.cyclic and not _its_turn(run, step.name):
            continue
        due_ms = from_ms + step.deadline_ms
        expected = Expected(step.name, event.id, fold.now_ms, due_ms, event.offset, hops=hops)
        run.expected = [*run.expected, expected]


def _gate(fold: Fold, run: Run, event: gates.Outside) -> None:
    """Fold the event into the run's gates: waits are opened and satisfied, and what is ready triggers its steps."""
    run.gates, moves = gates.came(fold.table, run.gates, event, fold.clock_ms(run))
    for move in moves:
        match move:
            case gates.Opened(wait, opening) if not run.turned:
                opened = OpenWait(wait.name, wait.until, opening.trigger, fold.now_ms, opening.due_ms)
                run.waits = [*run.waits, opened]
            case gates.Taken(opening):
                about = (opening.wait, opening.trigger)
                run.waits = [wait for wait in run.waits if (wait.name, wait.trigger) != about]
            case gates.Ready(ready):
                if ready.type == fold.table.flow.completes:
                    run.completes_seen = True
                _expect(fold, run, ready)
            case gates.Ignored(flood=True):
                fold.orphan()


def _its_turn(run: Run, name: str) -> bool:
    """Whether this is the first event for a step on no cycle: another, of another id, is a stranger's twin.

    The slot in the hosts' inbox lets no second trigger start either.
    """
    if name in run.once:
        return False
    run.once = [*run.once, name]
    return True


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
        run.settle(expected)
    if step.compensation is None or not step.effect:
        return
    entry = _entry(fold, run, step.name, trigger_id)
    if entry is None:
        entry_id = ids.entry(run.id, step.name, trigger_id)
        run.put(Entry(entry_id, step.name, trigger_id, fold.offset, fold.offset))
        reopen(run)
    elif entry.in_doubt:
        _make_certain(fold, run, entry)


def _make_certain(fold: Fold, run: Run, entry: Entry) -> None:
    """A late success: absorbed where it is undone, a new round where the undo found nothing or could not ask."""
    if entry.state == NOTHING or (entry.state == FAILED and entry.cause == IN_DOUBT):
        run.put(replace(entry, outcome=fold.offset, state=OPEN, cause=""))
        reopen(run)
    else:
        run.put(replace(entry, outcome=fold.offset))


def failed(fold: Fold, run: Run, name: str, cause: str) -> None:
    """A failure for good: the run turns; unless it is certain that nothing was left, the entry is in doubt."""
    if name in fold.table.reactions:
        return
    trigger_id = _trigger_of(fold, run, name)
    expected = run.expects(name, trigger_id)
    if expected is not None:
        run.settle(expected)
        if not fold.event.certain:
            _doubt(fold, run, name, trigger_id)
        turn(fold, run, cause)
    elif not trigger_id:
        fold.orphan()
    elif fold.event.certain or not run.turned or run.ended:
        # Once it has ended, what was said before is forgotten, and this may be a twin of it.
        settle_doubt(fold, run, ids.entry(run.id, name, trigger_id))
    elif not any(other.step == name for other in run.expected):
        _doubt(fold, run, name, trigger_id)  # a host whose memory was lost may have begun what stands after the turn


def _doubt(fold: Fold, run: Run, name: str, trigger_id: str) -> None:
    """Open an entry that may or may not stand for an effect, unless one is there; also of a step declared no longer."""
    step = fold.table.steps.get(name)
    if step is not None and (step.compensation is None or not step.effect):
        return
    if _entry(fold, run, name, trigger_id) is None:
        run.put(Entry(ids.entry(run.id, name, trigger_id), name, trigger_id, fold.offset))


def _entry(fold: Fold, run: Run, name: str, trigger_id: str) -> Entry | None:
    """The entry of this effect: a step on no cycle has one a run, under one key, whichever trigger brought it about."""
    if name in fold.table.cyclic:
        return run.entry(ids.entry(run.id, name, trigger_id))
    return next((entry for entry in run.ledger if entry.step == name), None)


def _trigger_of(fold: Fold, run: Run, name: str) -> str:
    """The outcome's trigger; a foreign outcome takes that of the run's expected step, or of its entry in doubt."""
    if fold.event.causation:
        return fold.event.causation
    expected = (expected.trigger for expected in run.expected if expected.step == name)
    doubted = (entry.trigger for entry in run.ledger if entry.step == name and entry.in_doubt)
    return next(expected, "") or next(doubted, "")


def wait_failed(fold: Fold, run: Run) -> None:
    """A wait's timeout, said by the tracker as the wait's `fails` event."""
    _wait_over(fold, run, f": {fold.event.type}")


def _wait_over(fold: Fold, run: Run, because: str) -> None:
    event = fold.event
    if not run.paused_ms:
        run.gates = gates.timed_out(run.gates, event.step, event.trigger, event.due_ms)
    for open_wait in run.waits:
        if (open_wait.name, open_wait.trigger, open_wait.due_ms) == (event.step, event.trigger, event.due_ms):
            wait = next((wait for wait in fold.table.flow.waits if wait.name == open_wait.name), None)
            within = f" within {human(wait.timeout_ms)}" if wait else " in time"
            run.close(open_wait)
            turn(fold, run, f"{open_wait.until} did not come{within}{because}")


def step_completed(fold: Fold, run: Run) -> None:
    """`choreo.StepCompleted`: a success without a domain event."""
    step = fold.table.steps.get(fold.event.step)
    if step is not None:
        succeeded(fold, run, step)


def step_failed(fold: Fold, run: Run) -> None:
    """`choreo.StepFailed`: attempts used up, an error that no retry mends, or a dead letter."""
    failed(fold, run, fold.event.step, f"{fold.event.step} failed: {fold.event.reason}")


def step_skipped(fold: Fold, run: Run) -> None:
    """`choreo.StepSkipped`: settles the expectation; read while the run is not turned it is a failure."""
    failed(fold, run, fold.event.step, f"{fold.event.step} was skipped: {fold.event.reason}")


def trigger_ignored(fold: Fold, run: Run) -> None:
    """`choreo.TriggerIgnored`: a second trigger of a step that runs once a run."""
    expected = run.expects(fold.event.step, fold.event.causation)
    if expected is not None:
        run.settle(expected)


def step_deadline_passed(fold: Fold, run: Run) -> None:
    """A timer fact: the step has failed, in doubt. Also of a wait that is declared no longer."""
    event = fold.event
    expected = run.expects(event.step, event.trigger)
    if expected is None:
        _wait_over(fold, run, "")
    elif expected.due_ms == event.due_ms:
        step = fold.table.steps.get(event.step)
        within = f"within {human(step.deadline_ms)}" if step else "in time"
        run.settle(expected)
        _doubt(fold, run, event.step, event.trigger)
        turn(fold, run, f"{event.step} gave no outcome {within}")


def flow_deadline_passed(fold: Fold, run: Run) -> None:
    """A timer fact: the flow as a whole took too long."""
    if run.due_ms and fold.event.due_ms == run.due_ms:
        turn(fold, run, f"the flow's deadline of {human(fold.table.flow.deadline_ms)} has passed")


FACTS = {
    facts.STEP_COMPLETED: step_completed,
    facts.STEP_FAILED: step_failed,
    facts.STEP_SKIPPED: step_skipped,
    facts.TRIGGER_IGNORED: trigger_ignored,
    facts.STEP_DEADLINE_PASSED: step_deadline_passed,
    facts.FLOW_DEADLINE_PASSED: flow_deadline_passed,
}
