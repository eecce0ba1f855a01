"""Which jobs a record makes: a trigger one for each step on it, the tracker's and the operator's calls one each.

Facts about runs are read on the way. Only what is called for again, or comes from outside, needs a look into the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from choreo.app.duties import RUN_FACTS, Duties, Duty
from choreo.app.fetch import records_at
from choreo.app.gates import Answer, GateBook
from choreo.app.jobs import Job
from choreo.app.run_finder import RunFinder
from choreo.app.runs import Runs
from choreo.core import facts, ids
from choreo.core.definition import FlowTable
from choreo.core.errors import NotFoundError
from choreo.core.events import Envelope, Position, Record
from choreo.core.fold import identified
from choreo.core.partition import partition_of
from choreo.ports.log import Log

_Gated: TypeAlias = tuple[Answer, Record | None]

_CALLS = frozenset({facts.STEP_RETRY_DUE, facts.REDRIVEN})


class Plan(NamedTuple):
    """What came of some records."""

    jobs: list[Job]
    failed: list[tuple[Job, Exception]]
    """Jobs that cannot be done, because what they need is not there."""
    stopped: list[tuple[str, str]]
    """(key, run) of which a fact was read that stops or holds it."""
    ignored: list[tuple[Job, str]]
    """Jobs that will never start, because their event comes when no wait will take it; and why."""


class Planner:
    """Reads records for one service in one flow."""

    def __init__(
        self, duties: Duties, table: FlowTable, runs: Runs, gates: GateBook, finder: RunFinder, log: Log
    ) -> None:
        """`runs` and `gates` learn from the facts that are read."""
        self._duties = duties
        self._gates = gates
        self._starts = table.flow.starts
        self._runs = runs
        self._log = log
        self._finder = finder

    async def plan(self, records: list[Record], partitions: int) -> Plan:
        """The jobs of these records in their order."""
        plan = Plan([], [], [], [])
        records = [record for record in records if in_place(record, partitions)]
        gated = await self._gated(records) if self._gates.types else {}
        triggers = await self._called_for(records)
        by_trigger = self._duties.by_trigger
        for record in records:
            event = record.event
            if gated:
                self._let_through(record, gated.get(record.position, ()), plan)
            if event.type in by_trigger:
                if event.type in self._gates.gated:
                    continue  # only its gate makes it a trigger
                if event.run or event.type == self._starts:
                    self._triggered(identified(record), record, by_trigger[event.type], plan)
                else:
                    await self._from_outside(record, by_trigger[event.type], plan)
            elif event.type in RUN_FACTS:
                self._runs.read(record)
                plan.stopped.append((event.key, event.run))
            elif event.type == facts.COMPENSATION_REQUESTED:
                self._undo_requested(record, plan)
            elif event.type == facts.STEP_RETRY_DUE:
                self._called_again(record, triggers, plan)
            elif event.type == facts.REDRIVEN:
                await self._redriven(record, triggers, plan)
        return plan

    async def _gated(self, records: Sequence[Record]) -> dict[Position, list[_Gated]]:
        """What these records make of events from outside, with the records of those: they may stand far before."""
        answers = await self._gates.read(records)
        places = {_place(source, answer) for source, answer in answers if answer.event.offset != source.offset}
        earlier = await records_at(self._log, places) if places else {}
        gated: dict[Position, list[_Gated]] = {}
        for source, answer in answers:
            record = source if answer.event.offset == source.offset else earlier.get(_place(source, answer))
            gated.setdefault(source.position, []).append((answer, record))
        return gated

    def _let_through(self, source: Record, gated: Iterable[_Gated], plan: Plan) -> None:
        """Jobs of events from outside that are triggers now, or never will be."""
        for answer, record in gated:
            about = answer.event
            for duty in self._duties.by_trigger.get(about.type, ()):
                stand_in = replace(source.event, id=about.id, type=about.type, run=answer.run)
                event = replace(identified(record), run=answer.run) if record else stand_in
                event = replace(event, hops=about.hops)
                deadline_ms = source.stamp_ms + duty.deadline_ms
                job = Job(duty, record or source, event, source, about.id, about.id, deadline_ms)
                if record is None:
                    plan.failed.append((job, _not_there(about.id, job)))
                elif answer.ignored:
                    plan.ignored.append((job, answer.ignored))
                else:
                    plan.jobs.append(job)

    def _triggered(self, event: Envelope, record: Record, duties: Sequence[Duty], plan: Plan) -> None:
        if event.type == self._starts and event.run != event.id:
            event = replace(event, run=event.id)
        stamp_ms = record.stamp_ms
        for duty in duties:
            plan.jobs.append(Job(duty, record, event, record, event.id, event.id, stamp_ms + duty.deadline_ms))

    async def _from_outside(self, record: Record, duties: Sequence[Duty], plan: Plan) -> None:
        run = await self._finder.run_of(record)
        if run:
            self._triggered(replace(identified(record), run=run), record, duties, plan)

    def _undo_requested(self, record: Record, plan: Plan) -> None:
        event = identified(record)
        duty = self._duties.undo.get(event.step)
        if duty is not None:
            deadline_ms = record.stamp_ms + duty.deadline_ms
            plan.jobs.append(Job(duty, record, event, record, event.id, event.id, deadline_ms))

    async def _called_for(self, records: Sequence[Record]) -> dict[Position, Record]:
        """The triggers that calls among these records want handled again."""
        places = [_called(record) for record in records if record.event.type in _CALLS and not record.event.entry]
        return await records_at(self._log, [place for place in places if place.offset >= 0]) if places else {}

    def _called_again(self, call: Record, triggers: Mapping[Position, Record], plan: Plan) -> None:
        """The tracker's call tells all that is needed. One that does not is not the tracker's: nobody waits for it."""
        event = identified(call)
        if event.n:
            self._runs.read(call)
        if event.deadline_ms and event.entry:
            self._undo_again(event, call, plan)
        elif event.deadline_ms and event.outcome >= 0 and event.step in self._duties.forward:
            duty = self._duties.forward[event.step]
            record = _trigger(call, triggers, duty)
            if record is None:
                self._gone(call, duty, plan, event.trigger)
                return
            origin = self._with_run(record, event.run)
            origin = replace(origin, hops=max(origin.hops, event.hops))
            plan.jobs.append(
                Job(duty, record, origin, call, event.id, event.trigger, event.deadline_ms, failed=event.attempt)
            )

    def _undo_again(self, event: Envelope, call: Record, plan: Plan) -> None:
        duty = self._duties.undo.get(event.step)
        if duty is not None:
            request = ids.of_round("undo-request", event.entry, event.round)
            as_requested = replace(event, id=request, n=event.nothings)
            plan.jobs.append(
                Job(duty, call, as_requested, call, event.id, request, event.deadline_ms, failed=event.attempt)
            )

    async def _redriven(self, call: Record, triggers: Mapping[Position, Record], plan: Plan) -> None:
        event = identified(call)
        duty = self._duties.forward.get(event.step)
        if duty is None:
            return
        record = _trigger(call, triggers, duty)
        if record is None:
            self._gone(call, duty, plan, event.id, redriven=True)
            return
        origin = self._with_run(record, event.run)
        if not origin.run:
            origin = replace(origin, run=await self._finder.run_of(record))
        deadline_ms = call.stamp_ms + duty.deadline_ms
        plan.jobs.append(Job(duty, record, origin, call, event.id, event.id, deadline_ms, redriven=True))

    def _gone(self, call: Record, duty: Duty, plan: Plan, remembered: str, *, redriven: bool = False) -> None:
        event = identified(call)
        stand_in = replace(event, id=event.trigger)
        deadline_ms = call.stamp_ms + duty.deadline_ms
        job = Job(duty, call, stand_in, call, event.id, remembered, deadline_ms, redriven=redriven)
        plan.failed.append((job, _not_there(event.trigger, job)))

    def _with_run(self, record: Record, run: str) -> Envelope:
        event = identified(record)
        if event.type == self._starts:
            run = event.id
        return event if event.run or not run else replace(event, run=run)


def in_place(record: Record, partitions: int) -> bool:
    """Whether the record is to be read: the tracker sets aside what is astray, and says an early timer again."""
    event = record.event
    if not event.key or partition_of(event.key, partitions) != record.partition:
        return False
    return not event.due_ms or record.stamp_ms >= event.due_ms


def _place(source: Record, answer: Answer) -> Position:
    return Position(source.topic, source.partition, answer.event.offset)


def _not_there(event_id: str, job: Job) -> NotFoundError:
    return NotFoundError(
        f"event {event_id}, which the step is to be run for, does not stand in the log",
        where=job.place,
        remedy="It may have been retained away; undo or repeat the step by hand.",
    )


def _called(call: Record) -> Position:
    """Where the record stands that the call is about."""
    return Position(call.topic, call.partition, call.event.outcome)


def _trigger(call: Record, triggers: Mapping[Position, Record], duty: Duty) -> Record | None:
    """The record that the call is about, if it is what the call says it is."""
    record = triggers.get(_called(call))
    if record is None or identified(record).id != call.event.trigger or record.event.type not in duty.takes:
        return None
    return record
