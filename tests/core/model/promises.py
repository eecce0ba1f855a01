"""The promises as an auditor holds them against the log, the states and the gateway's books.

Reads the log with its own eyes where it can; of the core it uses the fold, to compare and to know the ledger.
"""

from __future__ import annotations

from collections import Counter

from choreo.core import facts
from choreo.core.events import Envelope
from choreo.core.react import react
from choreo.core.state import (
    COMPENSATED,
    COMPLETED,
    NOTHING,
    OPEN,
    REQUESTED,
    STUCK,
    TERMINATED,
    UNDONE,
    KeyState,
    Run,
    encode,
)
from tests.core.model.scheduler import Scheduler


def broken(history: Scheduler) -> list[str]:
    """Return a sentence for every promise that this history breaks."""
    return [
        *_starts_lost(history),
        *_facts_doubled(history),
        *_not_ended(history),
        *_wrong_undos(history),
        *_wrong_order(history),
        *_early_timers(history),
        *_other_fold(history),
    ]


def _starts_lost(history: Scheduler) -> list[str]:
    """Return the breaches of promise 1: no acknowledged start event is lost."""
    starts = {r.event.id for r in history.world.log if r.event.type == "OrderPlaced"}
    return [f"1: the start {start} has no run" for start in starts if history.tracker.state.run(start) is None]


def _facts_doubled(history: Scheduler) -> list[str]:
    """Return the breaches of promise 2: a visible fact has one id per run, however often it stands in the log."""
    if any(host.forgot >= 0 for host in history.hosts):
        return []  # without its inbox a host has no slots
    ids_by_fact: dict[tuple[str, str], set[str]] = {}
    for record in history.world.log:
        event = record.event
        if event.step and not event.type.startswith(facts.PREFIX):
            ids_by_fact.setdefault((event.run, event.type), set()).add(event.id)
    return [f"2: {type_} happened {len(ids)} times" for (_, type_), ids in ids_by_fact.items() if len(ids) > 1]


def _not_ended(history: Scheduler) -> list[str]:
    """Return the breaches of promise 3: from the last fault on a run ends, or is stuck with a cause, in its bound."""
    flow = history.world.table.flow
    bound_ms = flow.deadline_ms + flow.end_bound_ms + 60_000
    found = []
    for run in history.tracker.state.runs:
        if run.status == STUCK and run.cause and any(entry.cause for entry in run.ledger):
            continue
        if run.status not in (COMPLETED, COMPENSATED, TERMINATED) or not run.ended:
            found.append(f"3: run {run.id[:4]} is {run.shown} when nothing more is due")
        elif run.ended_ms > history.drained_from_ms + bound_ms:
            found.append(f"3: run {run.id[:4]} took {run.ended_ms - history.drained_from_ms} ms after the faults")
    return found


def _wrong_undos(history: Scheduler) -> list[str]:
    """Return the breaches of promise 4: by the gateway's books every effect was undone once, or never was."""
    gateway, found = history.world.gateway, []
    for run in history.tracker.state.runs:
        for step in history.world.table.flow.steps:
            key = f"{run.id}/{step.name}"
            made, unmade = gateway.made[key], gateway.unmade[key]
            if unmade > made:
                found.append(f"4: {step.name} was undone {unmade} times and made {made} times")
            if run.status == COMPENSATED and step.compensation and made != unmade:
                found.append(f"4: {step.name} of a compensated run was made {made} and undone {unmade} times")
            if run.status == COMPLETED and unmade:
                found.append(f"4: {step.name} of a completed run was undone")
        if run.status == COMPENSATED:
            found += [f"4: {e.step} is {e.state}" for e in run.ledger if e.state not in (UNDONE, NOTHING)]
    return found


def _wrong_order(history: Scheduler) -> list[str]:
    """Return the breaches of promise 4: each request was for the newest open entry, none under way; once a round."""
    state, found = KeyState(), []
    rounds: Counter[tuple[str, int]] = Counter()
    for record in history.world.log:
        state, published = react(history.world.table, state, record)
        for request in published:
            run = state.run(request.run)
            if request.type == facts.COMPENSATION_REQUESTED and run is not None:
                rounds[request.entry, request.round] += 1
                found += _misplaced(run, request)
    return found + [f"4: round {n} was asked for {count} times" for (_, n), count in rounds.items() if count > 1]


def _misplaced(run: Run, request: Envelope) -> list[str]:
    asked = run.entry(request.entry)
    opened = asked.opened if asked else -1
    newer = [e.step for e in run.ledger if e.state == OPEN and e.opened > opened]
    beside = [e.step for e in run.ledger if e.state == REQUESTED and e.id != request.entry]
    return [f"4: {request.step} was asked for before {step}" for step in newer] + [
        f"4: {request.step} was asked for beside {step}" for step in beside
    ]


def _early_timers(history: Scheduler) -> list[str]:
    """Return the breaches of promise 5: a timer fact stamped before its time changes nothing."""
    state, found = KeyState(), []
    for record in history.world.log:
        after, published = react(history.world.table, state, record)
        if record.event.due_ms > record.stamp_ms and (published or after.runs != state.runs):
            found.append(f"5: {record.event.type} at {record.offset} was heard before its time")
        state = after
    return found


def _other_fold(history: Scheduler) -> list[str]:
    """Return the breaches of promise 6: the tracker's state is the fold of the log from offset 0, byte for byte."""
    state = KeyState()
    for record in history.world.log:
        state, _ = react(history.world.table, state, record)
    return [] if encode(state) == encode(history.tracker.state) else ["6: the tracker's state is not the fold"]
