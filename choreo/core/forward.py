"""The forward path: a start, outcomes of steps, events from outside.

These events make steps expected, settle them, and open entries of the ledger. Every function takes the fold and the
run's working copy; the consequences of a failure stand in compensation.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from choreo.core import facts, gates, open_waits, recent
from choreo.core.attribution import answers, step_of, trigger_names
from choreo.core.baggage import after
from choreo.core.branches import Judged, Tested
from choreo.core.compensation import start_compensation
from choreo.core.definition import StepDefinition
from choreo.core.events import Envelope
from choreo.core.fold import TRACKER, Fold
from choreo.core.ledger import doubt, entry_of, opened, settle_doubt
from choreo.core.moments import moments_of
from choreo.core.state import LedgerEntry, Parentage, PendingStep, Run


def start(fold: Fold) -> Run | None:
    """Start a new run, unless the event's id is a known run's.

    A second run of a key with an open run is compensated at once.
    """
    event, flow = fold.event, fold.table.flow
    if fold.knows_run(event.id):
        return None
    busy = fold.state.busy
    version = flow.version if fold.table.is_versioned else event.version
    run = Run(event.id, fold.offset, fold.now_ms, version=version, build=event.build)
    run.parentage = Parentage(event.parent) if event.parent else None
    run.changed, run.changed_ms = fold.offset, fold.now_ms
    run.due_ms = fold.now_ms + flow.deadline_ms if flow.deadline_ms else 0
    run.carried = fold.headers
    fold.state.runs.append(run)
    trigger(fold, run, fresh=True)
    if busy:
        run.duplicate = True
        start_compensation(fold, run, "duplicate start: another run of this key is open")
    return run


def domain(fold: Fold, run: Run) -> None:
    """Fold a domain event that is not a start: its meaning follows from the role of its type in the flow."""
    table, type_ = fold.table, fold.event.type
    name = step_of(table, fold.event)
    step = table.steps.get(name)
    fresh = True
    if step is not None and type_ in step.emits:
        fresh = succeeded(fold, run, step)
    elif step is not None and type_ in step.fails:
        failed(fold, run, name, f"{name} failed: {type_}")
    elif type_ not in table.outside and type_ != table.flow.fails:
        fold.orphan()
        return
    if fresh and type_ not in table.outside:
        carry(fold, run)
    if not run.ended:
        if type_ not in table.satisfies:
            completes(fold, run, type_)
        trigger(fold, run, fresh=fresh)


def carry(fold: Fold, run: Run) -> None:
    """Add the event's headers to the run's; the tracker's own events only repeat the run's, perhaps older ones."""
    if fold.headers is not None and fold.event.source != TRACKER:
        run.carried = after(run.carried, fold.headers)


def completes(fold: Fold, run: Run, type_: str) -> None:
    """Note the event if it completes a run: the first one is the outcome."""
    if type_ in fold.table.flow.ends and not run.completes_seen:
        run.completes_seen = True
        run.completed_by = type_


def trigger(fold: Fold, run: Run, *, fresh: bool) -> None:
    """Make the event's steps expected and open its waits, unless the run's compensation was announced before it.

    An event that is not `fresh` may have been read before.
    """
    table, event = fold.table, fold.event
    if run.announced:
        return
    type_ = event.type
    gated = type_ in table.satisfies
    judged: Judged | None = None
    tested: Tested | None = None
    if type_ in table.decoded:
        judged = table.branches[type_].judge(fold.record) if type_ in table.branches else None
        tested = table.member_tests[type_].test(fold.record) if type_ in table.member_tests else None
    if not gated and type_ in table.triggers:
        _expect(fold, run, event, fold.offset, fresh=fresh, judged=judged)
    if type_ in table.gated:
        moments = moments_of(fold.record, table.moments[type_]) if type_ in table.moments else None
        about = gates.Outside(type_, event.id, fold.offset, event.hops, judged, tested, moments, fold.headers)
        _gate(fold, run, about)


def _expect(
    fold: Fold, run: Run, event: Envelope | gates.Outside, offset: int, *, fresh: bool, judged: Judged | None
) -> None:
    """Make the steps expected that this event triggers by itself; `offset` is its offset.

    A run is compensated if its branch cannot be told: none of the branches is expected.
    """
    for step in fold.table.triggers.get(event.type, ()):
        if judged is None or step.name not in judged.skips:
            _expect_step(fold, run, step, event, offset, fresh=fresh)
    if judged is not None and judged.unreadable:
        start_compensation(fold, run, f"no branch on {event.type} can be chosen: {judged.unreadable}")


def _expect_step(
    fold: Fold, run: Run, step: StepDefinition, event: Envelope | gates.Outside, offset: int, *, fresh: bool
) -> None:
    """Make the step expected, which this event triggers."""
    table, now_ms, hops_max = fold.table, fold.now_ms, fold.table.flow.hops_max
    if not _may_run(fold, run, step.name, event.id, fresh):
        return
    if hops_max and event.hops >= hops_max:
        start_compensation(fold, run, f"more than {hops_max} hops: {event.type} came round too often")
        return
    due_ms = (run.paused_ms or now_ms) + step.deadline_ms
    carried = event.carried if isinstance(event, gates.Outside) else fold.headers
    expected = PendingStep(step.name, event.id, now_ms, due_ms, offset, carried=carried)
    if event is not fold.event or fold.raw_id:
        hops = event.hops if event.type in table.satisfies or step.all_of else 0
        raw = fold.raw_id if event.id == fold.event.id else ""
        expected = replace(expected, hops=hops, raw=raw)
    run.expected = [*run.expected, expected]


def _may_run(fold: Fold, run: Run, name: str, trigger_id: str, fresh: bool) -> bool:  # noqa: FBT001
    """Return whether a host that reads this trigger may start the step, so that an outcome is expected.

    Each trigger of a step is expected. If a step on no cycle has several triggers, only its host knows which one gets
    the slot: it publishes TriggerIgnored for the others. An event that may have been read before counts while the slot
    is free.
    """
    if run.expected and run.expects(name, trigger_id) is not None:
        return False
    if fresh:
        return True
    return name not in fold.table.cyclic and name not in run.taken and (name, trigger_id) not in run.refused


def _gate(fold: Fold, run: Run, event: gates.Outside) -> None:
    """Fold the event into the run's gates: open and satisfy waits, and trigger the steps of ready events."""
    run.gates, moves = gates.came(fold.table, run.gates, event, run.paused_ms or fold.record.stamp_ms)
    for move in moves:
        match move:
            case gates.Opened(wait, opening, by) if not run.compensating:
                open_waits.opened(fold, run, wait, opening, by)
            case gates.Moved(wait, before, opening, by):
                open_waits.moved(fold, run, wait, before, opening, by)
                carry(fold, run)
            case gates.Taken(opening):
                about = (opening.wait, opening.trigger)
                run.waits = [wait for wait in run.waits if (wait.name, wait.trigger) != about]
            case gates.Ready(ready):
                run.carried = after(run.carried, ready.carried)
                completes(fold, run, ready.type)
                if ready.type in fold.table.refusals:
                    start_compensation(fold, run, f"refused from outside: {ready.type}")
                _expect(fold, run, ready, ready.offset, fresh=True, judged=ready.judged)
            case gates.Triggered(step, by, members=members):
                _join(fold, run, step, by, members)
            case gates.Ignored(flood=True):
                fold.orphan()


def _join(fold: Fold, run: Run, step: StepDefinition, by: gates.Outside, members: Mapping[str, gates.Outside]) -> None:
    """Make a join expected whose events are all there, unless its condition is false."""
    branches = fold.table.join_branches.get(step.name)
    if branches is not None:
        tested = {type_: member.tested for type_, member in members.items() if member.tested is not None}
        unreadable = next((each.unreadable for each in tested.values() if each.unreadable), "")
        if unreadable:
            start_compensation(fold, run, f"no branch on {' and '.join(step.all_of)} can be chosen: {unreadable}")
        if unreadable or step.name in branches.skipped_by(tested):
            return
    _expect_step(fold, run, step, by, by.offset, fresh=True)


def succeeded(fold: Fold, run: Run, step: StepDefinition) -> bool:
    """Fold a success: its step is no longer expected, its effect is in the ledger.

    Returns whether it is the first event of its type for its trigger, as far as the state shows.
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

    The first one settles the expectation. More may follow if the handler returns several, or if a foreign outcome was
    accepted first: the run keeps a memory of those only.
    """
    event = fold.event
    if settled and len(step.emits) == 1 and event.causation and not fold.foreign:
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
    """Note that a host has begun the step for one of its triggers: the host ignores the others."""
    if name not in fold.table.cyclic and name not in run.taken:
        run.taken = [*run.taken, name]


def failed(fold: Fold, run: Run, name: str, cause: str) -> None:
    """Fold a final failure: compensation starts; the entry is in doubt unless the failure certainly left no effect."""
    event = fold.event
    if name in fold.table.reactions:
        return
    trigger_id = _trigger_of(fold, run, name)
    redriven = bool(event.trigger and event.causation) and event.trigger != event.causation
    expected = None if redriven else expectation(fold, run, name, trigger_id)
    if expected is not None:
        given_up(run, expected)
        if not event.certain or expected.attempt:  # of several attempts no failure is certain
            doubt(fold, run, expected.step, expected.trigger, raw=expected.raw, stays=True)
        start_compensation(fold, run, cause)
    elif not trigger_id:
        fold.orphan()
    elif not event.certain:
        # The step was not expected: a host whose inbox was lost, or an operator's redrive, may have left an effect.
        doubt(fold, run, name, trigger_id, stays=True)
    elif not redriven:
        settle_doubt(run, entry_of(fold, run, name, trigger_id), trigger_id)


def given_up(run: Run, expected: PendingStep) -> None:
    """Settle the failed step; its trigger makes nothing expected when it is read again."""
    run.settle(expected)
    run.refused = [*run.refused, (expected.step, expected.trigger)]


def expectation(fold: Fold, run: Run, name: str, trigger_id: str) -> PendingStep | None:
    """Return the pending step of this trigger.

    A renamed step continues under its new name if its trigger is the same, whether the state or the fact has the old
    name.
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
    """Return the outcome's trigger.

    A foreign outcome takes that of the run's expected step, or of its entry in doubt.
    """
    event = fold.event
    named = event.trigger or event.causation
    if named and not fold.foreign:
        return named
    if named:
        items: list[PendingStep | LedgerEntry] = [*run.expected, *run.ledger]
        names = trigger_names(event)
        return next((i.trigger for i in items if i.step == name and answers(names, i.trigger, i.raw)), named)
    expected = (expected.trigger for expected in run.expected if expected.step == name)
    doubted = (entry.trigger for entry in run.ledger if entry.step == name and entry.in_doubt)
    return next(expected, "") or next(doubted, "")


def step_completed(fold: Fold, run: Run) -> None:
    """Fold `choreo.StepCompleted`: a success without a domain event."""
    expected = expectation(fold, run, fold.event.step, fold.event.trigger or fold.event.causation)
    step = fold.table.steps.get(expected.step if expected else fold.event.step)
    if step is not None:
        succeeded(fold, run, step)
        carry(fold, run)


def step_failed(fold: Fold, run: Run) -> None:
    """Fold `choreo.StepFailed`: attempts used up, an error that no retry mends, or a dead letter."""
    failed(fold, run, fold.event.step, f"{fold.event.step} failed: {fold.event.reason}")


def step_skipped(fold: Fold, run: Run) -> None:
    """Fold `choreo.StepSkipped`: it settles the expectation; while the run is not compensating it is a failure."""
    failed(fold, run, fold.event.step, f"{fold.event.step} was skipped: {fold.event.reason}")


def trigger_ignored(fold: Fold, run: Run) -> None:
    """Fold `choreo.TriggerIgnored`: another trigger of a step that runs once in a run has its slot."""
    expected = expectation(fold, run, fold.event.step, fold.event.causation)
    if expected is not None:
        run.settle(expected)
        _take_slot(fold, run, expected.step)
        if expected.attempt:  # it had the slot before, and a host with a lost inbox gave the slot to another trigger
            doubt(fold, run, expected.step, expected.trigger, raw=expected.raw)


FACTS = {
    facts.STEP_COMPLETED: step_completed,
    facts.STEP_FAILED: step_failed,
    facts.STEP_SKIPPED: step_skipped,
    facts.TRIGGER_IGNORED: trigger_ignored,
}
