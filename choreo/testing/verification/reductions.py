"""Reductions of a host's state, each with its argument: two states that no later move tells apart become one.

Which of them hold follows from the moves that are explored; `NONE` explores without any, and a test compares both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from choreo.core.events import Envelope
from choreo.core.state import FAILED, REQUESTED, Run
from choreo.testing.verification.books import PRESENT, UNDONE
from choreo.testing.verification.host_state import HostState, Job, Row
from choreo.testing.verification.pool import Pool


class Reduces(NamedTuple):
    """The reductions of hosts that are used."""

    begins: bool = False
    """An attempt begins with its outcome: a host may lag, so that it may know no more then than when it began."""
    counts: bool = False
    """Of a job that waits, one attempt that has begun is as good as two: the next one is not the first."""
    untracked: bool = False
    """Attempts of a step without a compensation that end without an outcome are as if they had not been: nothing but a
    doubt depends on their number, and such a step leaves none."""
    over: bool = False
    """The inbox's rows of jobs that are over are forgotten. Not where a trigger may come again."""
    dropped: bool = False
    """A compensation that the tracker does not await any more is dropped at once: that is all that its host would do
    with it, and nobody sees when. Not where late answers are explored. Whether a failed one had its effect is not read
    again, unless it can be requested again."""
    calls: bool = False
    """The number of failed attempts in a call is forgotten where the inbox has counted them. Not where it may lose its
    memory."""
    answers: bool = False
    """The books answer a compensation by the status of the effect, and forget earlier answers. Not where a call may
    land behind a bar: an earlier answer stands, then, against the status."""
    pauses: bool = False
    """Which record has asked for a job is forgotten, unless a pause can hold it."""


NONE = Reduces()
REPEATING = frozenset(
    {"duplicate", "foreign", "second-start", "lost-inbox", "dead-letter", "late-timer", "late-success", "early"}
)
"""Moves after which a trigger, a call for it, or another trigger of the same step may come once more."""
RETRYING = frozenset({"operator"})
"""Moves after which a compensation that has failed may be requested once more."""


def reduces_of(budget: Mapping[str, int]) -> Reduces:
    """Return the reductions that are sound with these moves."""
    repeats = any(budget.get(name, 0) for name in REPEATING)
    retries = any(budget.get(name, 0) for name in RETRYING)
    return Reduces(
        begins=True,
        counts=True,
        untracked=not repeats,
        over=not repeats,
        dropped=not (repeats or retries),
        calls=not repeats,
        answers=not budget.get("late-success", 0),
        pauses=not (repeats or budget.get("pause", 0)),
    )


def kept(state: HostState, reduces: Reduces, *, one_trigger: bool) -> HostState:
    """Return the state without the parts that no rule reads any more.

    A recorded outcome makes the count of attempts irrelevant. `one_trigger`: only one event can trigger the step.
    """
    if not reduces.begins:
        return state
    effects = tuple(each._replace(maker="", answers=() if reduces.answers else each.answers) for each in state.effects)
    begun = {job.inbox_id for job in state.queue if job.begun}
    rows = tuple(_counted(row, reduces, waits=row.trigger not in begun) for row in state.rows)
    ran = state.ran
    if reduces.counts:
        ran = tuple((run, trigger, n if trigger in begun else min(1, n)) for run, trigger, n in ran)
    state = state._replace(effects=effects, rows=rows, ran=ran)
    if not reduces.over:
        return state
    open_ = {job.inbox_id for job in state.queue} | {zombie.job.inbox_id for zombie in state.zombies}
    rows = tuple(row._replace(slot="") for row in rows if row.outcome is None or row.trigger in open_)
    open_ |= {row.trigger for row in rows}
    ran = tuple(each for each in state.ran if each[1] in open_)
    slots = () if one_trigger else state.slots
    published = tuple(each for each in state.published if "/" not in each[0])
    return state._replace(rows=rows, ran=ran, slots=slots, published=published)


def _counted(row: Row, reduces: Reduces, *, waits: bool) -> Row:
    if row.outcome is not None or (reduces.counts and waits):
        return row._replace(begun=min(1, row.begun))
    return row


def settled(state: HostState, records: Pool[Envelope], step: str, run: Run | None) -> HostState:
    """Return the state without compensations of this run that the tracker does not await."""
    if run is None:
        return state
    undos = (job for job in state.queue if job.undo and records[job.trigger].run == run.id)
    gone = [job for job in undos if not _awaits(run, job, records)]
    requests = {job.inbox_id for job in gone}
    awaited = any(entry.state == REQUESTED for entry in run.ledger if entry.step == step)
    failed = any(entry.state == FAILED for entry in run.ledger if entry.step == step)
    forward = {job.inbox_id for job in state.queue if not job.undo} | {trigger for _, trigger, _ in state.ran}
    rows = tuple(row for row in state.rows if row.trigger not in requests and (awaited or row.trigger in forward))
    effects = state.effects
    if failed and not awaited:
        found = (each for each in effects if each.status in (PRESENT, UNDONE))
        effects = tuple(each._replace(status=PRESENT) for each in found)
    queue = tuple(job for job in state.queue if job not in gone)
    return state._replace(queue=queue, rows=rows, effects=effects)


def _awaits(run: Run, job: Job, records: Pool[Envelope]) -> bool:
    event = records[job.trigger]
    entry = run.entry(event.entry)
    return entry is not None and entry.state == REQUESTED and entry.round == event.round
