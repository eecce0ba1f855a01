"""The abstract host of one step and its compensation: its jobs one after the other, as the product's rules decide.

It begins an attempt when it publishes the outcome, not before: a host may lag, so that beginning early with its
knowledge of then is the same history (`Reduces.begins`; a test compares both). A host may not have read yet the records
behind a trigger; it has read all that stands before it. The result of a handler is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator

from choreo.adapters import inbox_rules
from choreo.app.steps.jobs import Job as StepJob
from choreo.app.steps.outcomes import Verdict, verdict
from choreo.core.events import Envelope
from choreo.core.state import Run
from choreo.ports.inbox import AttemptRequest
from choreo.testing.verification import reductions
from choreo.testing.verification.attempts import Attempts
from choreo.testing.verification.host_state import HostState, Job
from choreo.testing.verification.marks import Mark
from choreo.testing.verification.pool import Pool
from choreo.testing.verification.transitions import ON_TIME_MS, TOO_LATE_MS, Step, Transitions

_STOPPED = "an attempt begins, and its host has read that the run is compensating or has ended"


class Host:
    """The host of one step; its states are numbers."""

    def __init__(self, transitions: Transitions) -> None:
        """Start with nothing read."""
        self._make = transitions
        self.step = transitions.step
        self.states: Pool[HostState] = transitions.states
        self.nothing: int = transitions.nothing
        self._records = transitions.records
        self._table = transitions.table
        self._reduces = transitions.reduces
        self._moves: dict[tuple[int, Mark, bool], tuple[Step, ...]] = {}
        self._delivered: dict[tuple[int, Job], int] = {}
        self._attempts = Attempts(self._make)

    def delivered(self, host: int, job: Job) -> int:
        """Return the state with one more job at the end of its queue."""
        key = (host, job)
        known = self._delivered.get(key)
        if known is None:
            state = self.states[host]
            known_begun = any(row.trigger == job.inbox_id and row.begun >= job.failed for row in state.rows)
            asked_for = job
            if self._reduces.pauses and known_begun and (job.undo or job.before):
                # Without pauses nobody reads which record has asked for it.
                asked_for = job._replace(source=job.trigger)
            counted = known_begun and self._reduces.calls
            job = asked_for._replace(failed=0 if counted else job.failed)
            known = self.states.number(state._replace(queue=(*state.queue, job)))
            self._delivered[key] = known
        return known

    def moves(self, host: int, mark: Mark, *, active: bool) -> tuple[Step, ...]:
        """Return all that this host may do next.

        `active`: the tracker awaits an answer to its first job, or answers that it does not await are explored, too.
        """
        key = (host, mark, active)
        known = self._moves.get(key)
        if known is None:
            known = self._moves[key] = tuple(dict.fromkeys(self._all(self.states[host], mark, active)))
        return known

    def _all(self, state: HostState, mark: Mark, active: bool) -> Iterator[Step]:  # noqa: FBT001 - part of the key
        if state.queue:
            yield from self._first(state, state.queue[0], mark, active)
        for zombie in state.zombies:
            yield from self._attempts.zombie(state, zombie)
        if (state.rows or state.queue or state.ran) and not state.forgot:
            yield from self._lost(state, mark)

    def _first(self, state: HostState, job: Job, mark: Mark, active: bool) -> Iterator[Step]:  # noqa: FBT001
        if job.begun:
            yield from self._attempts.ends(state, job)
            return
        event = self._records[job.trigger]
        if active and not job.undo and not state.outcome(job.inbox_id):
            yield self._set_aside(state, job)
        for seen in self._readings(job, mark, active):
            work = self._make.work(job)
            for now_ms in (ON_TIME_MS, TOO_LATE_MS) if active or job.redriven else (TOO_LATE_MS,):
                ruling, reason = verdict(work, seen.status(), now_ms, self._table.flow.hops_max)
                if ruling is Verdict.START:
                    yield from self._begun(state, job, event, "" if job.undo or not seen.stopped else _STOPPED)
                elif ruling is Verdict.DROP:
                    yield self._make.step_of(state._replace(queue=state.queue[1:]), "drops its job: nobody awaits it")
                else:
                    yield self._not_started(state, job, work, ruling, reason, seen)

    def _readings(self, job: Job, mark: Mark, active: bool) -> Iterator[Mark]:  # noqa: FBT001
        """Yield the facts of the run that the host may have read: all, or only those before its job."""
        yield mark
        if not active:
            return
        if job.undo and mark.terminated:
            yield mark._replace(terminated=False)
        paused = {(mark.paused, mark.pause_n)}
        if mark.pause_n > job.known:
            paused.add((job.paused, job.known))
            yield mark._replace(paused=job.paused, pause_n=job.known)
        if job.before and mark.stopped:
            for is_paused, n in sorted(paused):
                yield Mark(paused=is_paused, pause_n=n)

    def _not_started(self, state: HostState, job: Job, work: StepJob, ruling: Verdict, reason: str, seen: Mark) -> Step:
        rest = state._replace(queue=state.queue[1:])
        recorded = state.outcome(job.inbox_id)
        if recorded is not None:
            return self._make.step_of(rest, "publishes its recorded outcome", recorded)
        rules = self._make.rules(job).rules
        if ruling is Verdict.HOLD:
            return self._make.done(rest, job, rules.held(work, seen.pause_n, 0), "holds, because the run is paused")
        return self._make.done(rest, job, rules.skipped(work, reason, 0), f"skips: {reason}")

    def _begun(self, state: HostState, job: Job, event: Envelope, wrong: str) -> Iterator[Step]:
        """Yield the moves of an attempt that may start: the inbox grants it, or has an answer already.

        `wrong`: the promise that an attempt breaks.
        """
        rows, slots = state.inbox(self.step.name, self._records)
        once = self._make.forward.spec.once and not job.redriven and not job.undo
        request = AttemptRequest(job.inbox_id, self.step.name, event.run, event.run if once else "")
        (grant,), _ = inbox_rules.begin([request], rows, slots, {})
        if not grant.count:
            rest = state._replace(queue=state.queue[1:])
            result = self._make.rules(job).rules.not_begun(self._make.work(job), grant, 0)
            if grant.slot_holder:
                yield self._make.done(rest, job, result, "ignores a second trigger")
            else:
                yield self._make.step_of(rest, "publishes its recorded outcome", state.outcome(job.inbox_id) or ())
            return
        counted = state.with_inbox(rows, slots, self._records)
        if not job.undo:
            counted = counted.ran_once_more(event.run, self._make.trigger_id(job))
        running = job._replace(begun=True)
        counted = counted._replace(queue=(running, *counted.queue[1:]))
        if self._reduces.begins and not wrong:
            yield from self._attempts.ends(counted, running)
        else:
            yield self._make.step_of(counted, "begins", wrong=wrong)

    def _set_aside(self, state: HostState, job: Job) -> Step:
        """Return the move of a trigger that cannot be decoded."""
        result = self._make.forward.rules.set_aside(self._make.work(job), ValueError("unreadable"), 0)
        rest = state._replace(queue=state.queue[1:])
        if not job.redriven:
            rest = rest._replace(dead=tuple(sorted({*rest.dead, job.trigger})))
        return self._make.done(rest, job, result, "sets its trigger aside as a dead letter", "dead-letter")

    def _lost(self, state: HostState, mark: Mark) -> Iterator[Step]:
        """Yield the loss of the inbox: of a host at rest, and of one with a running handler."""
        queue = state.queue
        lost = state._replace(rows=(), slots=(), forgot=True)
        yield self._make.step_of(lost, "loses its inbox", costs="lost-inbox")
        if queue and not queue[0].begun and not queue[0].undo and (queue[0].before or not mark.stopped):
            job = queue[0]._replace(begun=True)
            ran = lost.ran_once_more(self._records[job.trigger].run, self._make.trigger_id(job))
            ran = ran._replace(queue=(job, *queue[1:]))
            yield self._make.step_of(ran, "loses its inbox while its handler runs", costs="lost-inbox")

    def settled(self, host: int, run: Run | None) -> int:
        """Return the state without compensations that the tracker does not await any more: they are dropped."""
        if not self._reduces.dropped or not self._make.undo:
            return host
        state = self.states[host]
        return self.states.number(self._make.kept(reductions.settled(state, self._records, self.step.name, run)))
