"""The abstract host of one step and its compensation: its jobs one after the other, as the product's rules decide.

It begins an attempt when it publishes the outcome, not before: a host may lag, so that beginning early with its
knowledge of then is the same history (`Reduces.begins`; a test compares both). A host may not have read yet the records
behind a trigger; it has read all that stands before it. The result of a handler is chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msgspec.structs import replace

from choreo.adapters import inbox_rules
from choreo.app.steps.handlers import HandlerSpec
from choreo.app.steps.jobs import Job as StepJob
from choreo.app.steps.jobs import JobResult
from choreo.app.steps.outcomes import Verdict, verdict
from choreo.core import facts
from choreo.core.definition import StepDefinition
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.state import Run
from choreo.ports.inbox import AttemptRequest
from choreo.testing.verification import canonical, reductions
from choreo.testing.verification.attempts import Attempts
from choreo.testing.verification.host_state import HostState, Job
from choreo.testing.verification.marks import Mark
from choreo.testing.verification.pool import Pool
from choreo.testing.verification.reductions import Reduces
from choreo.testing.verification.specs import Rules, compensation, forward

ON_TIME_MS, DEADLINE_MS, TOO_LATE_MS = 0, 10, 20
"""The host's clock before and after the deadline of its job."""
STAMP_MS, _EVERY_MS = 1, 2
"""The stamp of each trigger, and a time after it: after a loss of the inbox nothing is certain for `linger`."""


_STOPPED = "an attempt begins, and its host has read that the run is compensating or has ended"


class Step(NamedTuple):
    """One move of a host: its new state and the records that it publishes, in order."""

    label: str
    host: int
    publishes: tuple[int, ...] = ()
    costs: str = ""
    """The limited move that it needs; "" for the ordinary course."""
    wrong: str = ""
    """The promise that it breaks."""


class Host:
    """The host of one step; its states are numbers."""

    def __init__(
        self,
        table: FlowTable,
        step: StepDefinition,
        records: Pool[Envelope],
        data: dict[str, tuple[bytes, ...]],
        reduces: Reduces,
    ) -> None:
        """Start with nothing read."""
        self.step = step
        self.forward: Rules = forward(table, step, data)
        self.undo: Rules | None = compensation(table, step)
        self.states: Pool[HostState] = Pool()
        self.records = records
        self.table = table
        self.reduces = reduces
        self._one_trigger = not table.cyclic and _comes_once(table, step)
        self._moves: dict[tuple[int, Mark, bool], tuple[Step, ...]] = {}
        self._delivered: dict[tuple[int, Job], int] = {}
        self._attempts = Attempts(self)
        self.nothing: int = self.states.number(HostState())

    def delivered(self, host: int, job: Job) -> int:
        """Return the state with one more job at the end of its queue."""
        key = (host, job)
        known = self._delivered.get(key)
        if known is None:
            state = self.states[host]
            known_begun = any(row.trigger == job.inbox_id and row.begun >= job.failed for row in state.rows)
            asked_for = job
            if self.reduces.pauses and known_begun and (job.undo or job.before):
                # Without pauses nobody reads which record has asked for it.
                asked_for = job._replace(source=job.trigger)
            counted = known_begun and self.reduces.calls
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
        event = self.records[job.trigger]
        if active and not job.undo and not state.outcome(job.inbox_id):
            yield self._set_aside(state, job)
        for seen in self._readings(job, mark, active):
            work = self.work(job)
            for now_ms in (ON_TIME_MS, TOO_LATE_MS) if active or job.redriven else (TOO_LATE_MS,):
                ruling, reason = verdict(work, seen.status(), now_ms, self.table.flow.hops_max)
                if ruling is Verdict.START:
                    yield from self._begun(state, job, event, "" if job.undo or not seen.stopped else _STOPPED)
                elif ruling is Verdict.DROP:
                    yield self.step_of(state._replace(queue=state.queue[1:]), "drops its job: nobody awaits it")
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
            return self.step_of(rest, "publishes its recorded outcome", recorded)
        rules = self.rules(job).rules
        if ruling is Verdict.HOLD:
            return self.done(rest, job, rules.held(work, seen.pause_n, 0), "holds, because the run is paused")
        return self.done(rest, job, rules.skipped(work, reason, 0), f"skips: {reason}")

    def _begun(self, state: HostState, job: Job, event: Envelope, wrong: str) -> Iterator[Step]:
        """Yield the moves of an attempt that may start: the inbox grants it, or has an answer already.

        `wrong`: the promise that an attempt breaks.
        """
        rows, slots = state.inbox(self.step.name, self.records)
        once = self.forward.spec.once and not job.redriven and not job.undo
        request = AttemptRequest(job.inbox_id, self.step.name, event.run, event.run if once else "")
        (grant,), _ = inbox_rules.begin([request], rows, slots, {})
        if not grant.count:
            rest = state._replace(queue=state.queue[1:])
            result = self.rules(job).rules.not_begun(self.work(job), grant, 0)
            if grant.slot_holder:
                yield self.done(rest, job, result, "ignores a second trigger")
            else:
                yield self.step_of(rest, "publishes its recorded outcome", state.outcome(job.inbox_id) or ())
            return
        counted = state.with_inbox(rows, slots, self.records)
        if not job.undo:
            counted = counted.ran_once_more(event.run, self.trigger_id(job))
        running = job._replace(begun=True)
        counted = counted._replace(queue=(running, *counted.queue[1:]))
        if self.reduces.begins and not wrong:
            yield from self._attempts.ends(counted, running)
        else:
            yield self.step_of(counted, "begins", wrong=wrong)

    def _set_aside(self, state: HostState, job: Job) -> Step:
        """Return the move of a trigger that cannot be decoded."""
        result = self.forward.rules.set_aside(self.work(job), ValueError("unreadable"), 0)
        rest = state._replace(queue=state.queue[1:])
        if not job.redriven:
            rest = rest._replace(dead=tuple(sorted({*rest.dead, job.trigger})))
        return self.done(rest, job, result, "sets its trigger aside as a dead letter", "dead-letter")

    def _lost(self, state: HostState, mark: Mark) -> Iterator[Step]:
        """Yield the loss of the inbox: of a host at rest, and of one with a running handler."""
        queue = state.queue
        lost = state._replace(rows=(), slots=(), forgot=True)
        yield self.step_of(lost, "loses its inbox", costs="lost-inbox")
        if queue and not queue[0].begun and not queue[0].undo and (queue[0].before or not mark.stopped):
            job = queue[0]._replace(begun=True)
            ran = lost.ran_once_more(self.records[job.trigger].run, self.trigger_id(job))
            ran = ran._replace(queue=(job, *queue[1:]))
            yield self.step_of(ran, "loses its inbox while its handler runs", costs="lost-inbox")

    # Parts that its attempts use, too.

    def rules(self, job: Job) -> Rules:
        """Return the rules of a job."""
        return self.undo if job.undo and self.undo is not None else self.forward

    def trigger_id(self, job: Job) -> str:
        """Return the id of the trigger that a forward job is about."""
        return self.records[job.trigger].id

    def work(self, job: Job, attempt: int = 0, spec: HandlerSpec | None = None) -> StepJob:
        """Return the job in the form of the product's rules."""
        event, source = self.records[job.trigger], self.records[job.source]
        record = Record("", 0, 0 if job.before else 2, STAMP_MS, event)
        call = record if job.source == job.trigger else Record("", 0, 3, STAMP_MS, source)
        answered = event.id if job.source == job.trigger else source.id
        made = StepJob(
            spec or self.rules(job).spec, call if job.undo else record, event, call, answered, job.inbox_id, DEADLINE_MS
        )
        made.failed, made.redriven, made.attempt = job.failed, job.redriven, attempt
        return made

    def recorded(self, state: HostState, result: JobResult) -> tuple[HostState, tuple[int, ...]]:
        """Return the state after the result is recorded, and the records to publish."""
        events = list(result.facts)
        if result.outcome is not None:
            rows, slots = state.inbox(self.step.name, self.records)
            outcome = replace(result.outcome, events=[made(event) for event in result.outcome.events])
            published, _ = inbox_rules.record([outcome], rows, _EVERY_MS if state.forgot else -1)
            state = state.with_inbox(rows, slots, self.records)
            events += published
        return state, tuple(self.records.number(made(event)) for event in events)

    def done(self, rest: HostState, job: Job, result: JobResult, label: str, costs: str = "") -> Step:
        """Return the move in which a job ends with this result."""
        after, publishes = self.recorded(rest, result)
        return self.step_of(after, label, publishes, costs, self._attempts.lies(after, job, publishes))

    def step_of(
        self, state: HostState, label: str, publishes: tuple[int, ...] = (), costs: str = "", wrong: str = ""
    ) -> Step:
        """Return a move to this state."""
        state, twice = _published(state, [self.records[n] for n in publishes])
        said = ", ".join(self.records[n].type for n in publishes)
        text = f"{self.step.name}: {label}" + (f" → {said}" if said else "")
        return Step(text, self.states.number(self._kept(state)), publishes, costs, wrong or twice)

    def _kept(self, state: HostState) -> HostState:
        """Return the state without the parts that no rule reads any more (reductions.py)."""
        return reductions.kept(state, self.reduces, one_trigger=self._one_trigger)

    def settled(self, host: int, run: Run | None) -> int:
        """Return the state without compensations that the tracker does not await any more: they are dropped."""
        if not self.reduces.dropped or not self.undo:
            return host
        state = self.states[host]
        return self.states.number(self._kept(reductions.settled(state, self.records, self.step.name, run)))


def _comes_once(table: FlowTable, step: StepDefinition) -> bool:
    """Return whether only one event of a run can trigger the step, where the flow has no cycle."""
    if len(step.triggers) > 1:
        return bool(step.all_of)
    (type_,) = step.triggers
    sources = [*table.successes.get(type_, ()), *table.failures.get(type_, ()), *table.compensations.get(type_, ())]
    sources += [wait.name for wait in (*table.satisfies.get(type_, ()), *table.flow.waits) if type_ in wait.answers]
    return len(set(sources)) <= 1 and type_ not in table.reminders


def made(event: Envelope) -> Envelope:
    """Return the canonical form of an event of a host."""
    counted = event.type in (facts.STEP_ATTEMPT_FAILED, facts.STEP_HELD)
    return replace(canonical.fact(event), attempt=event.attempt if counted else 0, content_type="")


def _published(state: HostState, events: list[Envelope]) -> tuple[HostState, str]:
    """Note the events that a host has published; a domain event has one id for its subject, however often it stands."""
    wrong = ""
    for event in events:
        if event.type.startswith(facts.PREFIX):
            continue
        about = event.entry or f"{event.run}/{event.causation}"
        known = next((id_ for subject, type_, id_ in state.published if (subject, type_) == (about, event.type)), "")
        if not known:
            state = state._replace(published=tuple(sorted([*state.published, (about, event.type, event.id)])))
        elif known != event.id:
            wrong = f"promise 2: {event.type} of {event.step} happened twice, under two ids"
    return state, wrong
