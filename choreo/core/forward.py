"""The forward path: a start, outcomes of steps, events from outside.

They make steps expected, settle them, and open entries of the ledger. Every function takes the fold and the run's
working copy; what a failure leads to stands in backward.py.
"""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core import facts, gates, recent
from choreo.core.backward import turn
from choreo.core.definition import StepDefinition
from choreo.core.fold import Fold
from choreo.core.ledger import doubt, entry_of, opened, settle_doubt
from choreo.core.state import Entry, Expected, OpenWait, Run


def start(fold: Fold) -> Run | None:
    """A start event: a new run, unless its id is a known run's. A second open run of a key is turned at once."""
    event, flow = fold.event, fold.table.flow
    if fold.state.run(event.id) is not None:
        return None
    busy = fold.state.busy
    run = Run(event.id, fold.offset, fold.now_ms, version=event.version)
    run.changed, run.changed_ms = fold.offset, fold.now_ms
    run.due_ms = fold.now_ms + flow.deadline_ms if flow.deadline_ms else 0
    fold.state.runs.append(run)
    trigger(fold, run, fresh=True)
    if busy:
        run.duplicate = True
        turn(fold, run, "duplicate start: another run of this key is open")
    return run


def domain(fold: Fold, run: Run) -> None:
    """Any domain event but a start: what it means follows from the role its type plays in the flow."""
    table, type_ = fold.table, fold.event.type
    name = _attributed(fold)
    step = table.steps.get(name)
    fresh = True
    if step is not None and type_ in step.emits:
        fresh = succeeded(fold, run, step)
    elif step is not None and type_ in step.fails:
        failed(fold, run, name, f"{name} failed: {type_}")
    elif type_ not in table.satisfies and type_ != table.flow.fails:
        fold.orphan()
        return
    if not run.ended:
        if type_ == table.flow.completes and type_ not in table.satisfies:
            run.completes_seen = True
        trigger(fold, run, fresh=fresh)


def _attributed(fold: Fold) -> str:
    """The step that made the event; of a foreign one, or of a step declared no longer, the only one that can have."""
    event, table = fold.event, fold.table
    if event.step in table.steps:
        return event.step
    emitters = table.successes.get(event.type, ()) + table.failures.get(event.type, ())
    return emitters[0] if len(emitters) == 1 else event.step


def trigger(fold: Fold, run: Run, *, fresh: bool) -> None:
    """Make the event's steps expected and open its waits, unless its run was announced to be turned before it.

    An event that is not `fresh` may have been read before.
    """
    table, event = fold.table, fold.event
    if run.announced:
        return
    about = gates.Outside(event.type, event.id, fold.offset, event.hops)
    if event.type not in table.satisfies:
        _expect(fold, run, about, fresh=fresh)
    if event.type in table.satisfies or event.type in table.opens:
        _gate(fold, run, about)


def _expect(fold: Fold, run: Run, event: gates.Outside, *, fresh: bool) -> None:
    """Make the steps expected that this event triggers."""
    table = fold.table
    steps = [step for step in table.triggers.get(event.type, ()) if _may_run(fold, run, step.name, event.id, fresh)]
    if steps and table.flow.hops_max and event.hops >= table.flow.hops_max:
        turn(fold, run, f"more than {table.flow.hops_max} hops: {event.type} came round too often")
        return
    from_ms = fold.clock_ms(run)
    hops = event.hops if event.type in table.satisfies else 0
    raw = fold.raw_id if event.id == fold.event.id else ""
    for step in steps:
        due_ms = from_ms + step.deadline_ms
        expected = Expected(step.name, event.id, fold.now_ms, due_ms, event.offset, hops=hops, raw=raw)
        run.expected = [*run.expected, expected]


def _may_run(fold: Fold, run: Run, name: str, trigger_id: str, fresh: bool) -> bool:  # noqa: FBT001
    """Return whether a host that reads this trigger may start the step, so that an outcome is to be waited for.

    Each trigger of a step is expected. Which of several gets the slot of a step on no cycle, only its host knows: it
    says TriggerIgnored of the others. An event that may have been read before counts while the slot is free.
    """
    if run.expects(name, trigger_id) is not None:
        return False
    if fresh:
        return True
    return name not in fold.table.cyclic and name not in run.taken and (name, trigger_id) not in run.refused


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
                _expect(fold, run, ready, fresh=True)
            case gates.Ignored(flood=True):
                fold.orphan()


def succeeded(fold: Fold, run: Run, step: StepDefinition) -> bool:
    """A success: its step is no longer expected, its effect stands in the ledger.

    Return whether it is the first event of its type for its trigger, as far as the state shows.
    """
    if step.name in fold.table.reactions:
        return True
    trigger_id = _trigger_of(fold, run, step.name)
    if not trigger_id:
        fold.orphan()
        return True
    expected = expectation(fold, run, step.name, trigger_id)
    if expected is not None:
        trigger_id = expected.trigger
        run.settle(expected)
    _take_slot(fold, run, step.name)
    fresh = _is_first(fold, run, step, trigger_id, settled=expected is not None)
    if step.compensation is not None and step.effect:
        opened(fold, run, step.name, trigger_id, raw=expected.raw if expected else "")
    return fresh


def _is_first(fold: Fold, run: Run, step: StepDefinition, trigger_id: str, *, settled: bool) -> bool:
    """Return whether no event of this type was read for the step and trigger.

    The first one settles the expectation. More may follow where the handler returns several, or where a foreign
    outcome was believed first: only of those the run keeps a memory.
    """
    event = fold.event
    if settled and event.causation and not fold.foreign and len(step.emits) == 1:
        return True
    group = recent.token(step.name, trigger_id)
    if settled:
        run.recent = recent.with_new(run.recent, group)
    if not event.causation:
        return True  # a duplicate of it was dropped before
    one = recent.token(step.name, trigger_id, event.type, event.id)
    first = settled or (recent.knows(run.recent, group) and not recent.knows(run.recent, one))
    if first:
        run.recent = recent.with_new(run.recent, one)
    return first


def _take_slot(fold: Fold, run: Run, name: str) -> None:
    """Note that a host has begun the step for one of its triggers: it ignores the others."""
    if name not in fold.table.cyclic and name not in run.taken:
        run.taken = [*run.taken, name]


def failed(fold: Fold, run: Run, name: str, cause: str) -> None:
    """A failure for good: the run turns; unless it is certain that nothing was left, the entry is in doubt."""
    event = fold.event
    if name in fold.table.reactions:
        return
    trigger_id = _trigger_of(fold, run, name)
    redriven = bool(event.trigger and event.causation) and event.trigger != event.causation
    expected = None if redriven else expectation(fold, run, name, trigger_id)
    if expected is not None:
        _given_up(run, expected)
        if not event.certain or expected.attempt:  # of several attempts no failure is certain
            doubt(fold, run, expected.step, expected.trigger, raw=expected.raw, unexpected=event.certain)
        turn(fold, run, cause)
    elif not trigger_id:
        fold.orphan()
    elif not event.certain:
        # Nobody expected it: a host whose memory was lost, or an operator's redrive, may have left something.
        doubt(fold, run, name, trigger_id, unexpected=True)
    elif not redriven:
        settle_doubt(run, entry_of(fold, run, name, trigger_id), trigger_id)


def _given_up(run: Run, expected: Expected) -> None:
    """Settle what has failed; read again, its trigger makes nothing expected."""
    run.settle(expected)
    run.refused = [*run.refused, (expected.step, expected.trigger)]


def expectation(fold: Fold, run: Run, name: str, trigger_id: str) -> Expected | None:
    """Return what is expected of the step for this trigger.

    A step that was renamed goes on under its new name where its trigger is the same, whether the state or the fact
    has the old one.
    """
    known = run.expects(name, trigger_id)
    if known is not None:
        return known
    steps, service = fold.table.steps, name.partition(".")[0]
    of_service = [e for e in run.expected if e.trigger == trigger_id and e.step.partition(".")[0] == service]
    renamed = [e for e in of_service if (e.step in steps) != (name in steps)]
    if len(renamed) != 1:
        return None
    if name not in steps:
        return renamed[0]
    expected = replace(renamed[0], step=name)
    run.expected = [expected if other is renamed[0] else other for other in run.expected]
    return expected


def _trigger_of(fold: Fold, run: Run, name: str) -> str:
    """The outcome's trigger; a foreign outcome takes that of the run's expected step, or of its entry in doubt."""
    event = fold.event
    named = event.trigger or event.causation
    if named and fold.foreign:
        items: list[Expected | Entry] = [*run.expected, *run.ledger]
        return next((item.trigger for item in items if item.step == name and item.raw == named), named)
    if named:
        return named
    expected = (expected.trigger for expected in run.expected if expected.step == name)
    doubted = (entry.trigger for entry in run.ledger if entry.step == name and entry.in_doubt)
    return next(expected, "") or next(doubted, "")


def wait_failed(fold: Fold, run: Run) -> None:
    """A wait's timeout, said by the tracker as the wait's `fails` event."""
    _wait_over(fold, run, f": {fold.event.type}")


def _wait_over(fold: Fold, run: Run, because: str) -> None:
    event = fold.event
    run.gates = gates.timed_out(run.gates, event.step, event.trigger, event.due_ms)
    for open_wait in run.waits:
        if (open_wait.name, open_wait.trigger, open_wait.due_ms) == (event.step, event.trigger, event.due_ms):
            wait = next((wait for wait in fold.table.flow.waits if wait.name == open_wait.name), None)
            within = f" within {fold.table.shown(wait.timeout_ms)}" if wait else " in time"
            run.close(open_wait)
            turn(fold, run, f"{open_wait.until} did not come{within}{because}")


def step_completed(fold: Fold, run: Run) -> None:
    """`choreo.StepCompleted`: a success without a domain event."""
    expected = expectation(fold, run, fold.event.step, fold.event.trigger or fold.event.causation)
    step = fold.table.steps.get(expected.step if expected else fold.event.step)
    if step is not None:
        succeeded(fold, run, step)


def step_failed(fold: Fold, run: Run) -> None:
    """`choreo.StepFailed`: attempts used up, an error that no retry mends, or a dead letter."""
    failed(fold, run, fold.event.step, f"{fold.event.step} failed: {fold.event.reason}")


def step_skipped(fold: Fold, run: Run) -> None:
    """`choreo.StepSkipped`: settles the expectation; read while the run is not turned it is a failure."""
    failed(fold, run, fold.event.step, f"{fold.event.step} was skipped: {fold.event.reason}")


def trigger_ignored(fold: Fold, run: Run) -> None:
    """`choreo.TriggerIgnored`: another trigger of a step that runs once a run has got its slot."""
    expected = expectation(fold, run, fold.event.step, fold.event.causation)
    if expected is not None:
        run.settle(expected)
        _take_slot(fold, run, expected.step)
        if expected.attempt:  # it had the slot before, and a host whose memory was lost gave it to another
            doubt(fold, run, expected.step, expected.trigger, raw=expected.raw)


def step_deadline_passed(fold: Fold, run: Run) -> None:
    """A timer fact: the step has failed, in doubt. Also of a wait that is declared no longer."""
    event = fold.event
    expected = run.expects(event.step, event.trigger)
    if expected is None:
        _wait_over(fold, run, "")
    elif expected.due_ms == event.due_ms:
        step = fold.table.steps.get(event.step)
        within = f"within {fold.table.shown(step.deadline_ms)}" if step else "in time"
        _given_up(run, expected)
        doubt(fold, run, event.step, event.trigger, raw=expected.raw)
        turn(fold, run, f"{event.step} gave no outcome {within}")


def flow_deadline_passed(fold: Fold, run: Run) -> None:
    """A timer fact: the flow as a whole took too long."""
    if run.due_ms and fold.event.due_ms == run.due_ms:
        turn(fold, run, f"the flow's deadline of {fold.table.shown(fold.table.flow.deadline_ms)} has passed")


FACTS = {
    facts.STEP_COMPLETED: step_completed,
    facts.STEP_FAILED: step_failed,
    facts.STEP_SKIPPED: step_skipped,
    facts.TRIGGER_IGNORED: trigger_ignored,
    facts.STEP_DEADLINE_PASSED: step_deadline_passed,
    facts.FLOW_DEADLINE_PASSED: flow_deadline_passed,
}
