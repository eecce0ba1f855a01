"""The transitions of one abstract host: a result is recorded in its inbox, its records are published, its job is over.

Each transition is checked here for the promises that it breaks.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from choreo.adapters import inbox_rules
from choreo.app.steps.handlers import HandlerSpec
from choreo.app.steps.jobs import Job as StepJob
from choreo.app.steps.jobs import JobResult
from choreo.core import facts
from choreo.core.definition import FlowDefinition, StepDefinition
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.testing.verification import canonical, reductions
from choreo.testing.verification.host_state import HostState, Job
from choreo.testing.verification.pool import Pool
from choreo.testing.verification.reductions import Reduces
from choreo.testing.verification.specs import Rules, compensation, forward, parental

ON_TIME_MS, DEADLINE_MS, TOO_LATE_MS = 0, 10, 20
"""The host's clock before and after the deadline of its job."""
STAMP_MS, _EVERY_MS = 1, 2
"""The stamp of each trigger, and a time after it: after a loss of the inbox nothing is certain for `linger`."""


class Step(NamedTuple):
    """One move of a host: its new state and the records that it publishes, in order."""

    label: str
    host: int
    publishes: tuple[int, ...] = ()
    costs: str = ""
    """The limited move that it needs; "" for the ordinary course."""
    wrong: str = ""
    """The promise that it breaks."""


class Transitions:
    """Makes the transitions of the host of one step; its states are numbers."""

    def __init__(
        self,
        table: FlowTable,
        step: StepDefinition,
        records: Pool[Envelope],
        data: dict[str, tuple[bytes, ...]],
        reduces: Reduces,
        child: FlowDefinition | None = None,
    ) -> None:
        """Begin with the state in which nothing was read. `child` is the flow of the children that the step starts."""
        self.step = step
        self.table = table
        self.records = records
        self.reduces = reduces
        self.forward: Rules = forward(table, step, data) if child is None else parental(table, step, child)
        self.undo: Rules | None = compensation(table, step) if child is None else None
        self.states: Pool[HostState] = Pool()
        self.nothing: int = self.states.number(HostState())
        self._one_trigger = not table.cyclic and _comes_once(table, step)

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
        return self.step_of(after, label, publishes, costs, self._lies(after, job, publishes))

    def step_of(
        self, state: HostState, label: str, publishes: tuple[int, ...] = (), costs: str = "", wrong: str = ""
    ) -> Step:
        """Return a move to this state."""
        state, twice = _published(state, [self.records[n] for n in publishes])
        said = ", ".join(self.records[n].type for n in publishes)
        text = f"{self.step.name}: {label}" + (f" → {said}" if said else "")
        return Step(text, self.states.number(self.kept(state)), publishes, costs, wrong or twice)

    def kept(self, state: HostState) -> HostState:
        """Return the state without the parts that no rule reads any more (reductions.py)."""
        return reductions.kept(state, self.reduces, one_trigger=self._one_trigger)

    def _lies(self, after: HostState, job: Job, publishes: tuple[int, ...]) -> str:
        """Return the promise that an outcome breaks: it is certain to have left nothing, and may have left something.

        Or the step has run for two triggers of a run.
        """
        event = self.records[job.trigger]
        ran = [trigger for run, trigger, _ in after.ran if run == event.run]
        if not job.undo and self.forward.spec.once and len(ran) > 1 and not (after.forgot or job.redriven):
            return f"promise 2: {self.step.name} has run for {len(ran)} triggers of one run"
        if job.undo or job.redriven or not any(self.records[n].certain for n in publishes):
            return ""
        trigger = self.trigger_id(job)
        types = [self.records[n].type for n in publishes]
        allowed = 0 if any(type_.startswith(facts.PREFIX) for type_ in types) else 1
        times = after.times(trigger)
        if times > allowed:
            return f"{types[0]} is certain to have left nothing, and {times} attempts have begun"
        return ""


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
