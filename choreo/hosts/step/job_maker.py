"""Job maker: the records of a poll become jobs.

A trigger makes a job for each step on it, the tracker's and the operator's calls one each; facts about runs are taken
over on the way. Only a call, an event from outside, or a handler that takes several events needs a look into the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from choreo.app.steps.admission import in_place
from choreo.app.steps.branches import BranchJudge
from choreo.app.steps.gated_runs import Answer
from choreo.app.steps.handlers import RUN_FACTS, HandlerSpec
from choreo.app.steps.jobs import Job
from choreo.app.steps.log_lookup import records_at
from choreo.app.steps.run_finder import RunFinder
from choreo.core import facts, ids
from choreo.core.baggage import carried_of, carrying
from choreo.core.errors import NotFoundError
from choreo.core.events import Envelope, Position, Record
from choreo.core.gates import Arguments
from choreo.core.identity import identified
from choreo.hosts.step.context import HostContext

_Gated: TypeAlias = tuple[Answer, Record | None, tuple[tuple[Envelope, ...], ...] | None]
"""An answer, the record of its event, and the events of the handler's arguments; None where one is gone."""

_CALLS = frozenset({facts.STEP_RETRY_DUE, facts.REDRIVEN})


class Made(NamedTuple):
    """The jobs of some records."""

    jobs: list[Job]
    failed: list[tuple[Job, Exception]]
    """Jobs that cannot be done, because a record that they need is deleted."""
    stopped: list[tuple[str, str]]
    """(key, run) of the facts that stop or hold a run."""
    ignored: list[tuple[Job, str]]
    """Jobs that will never start, because their event comes when no wait will take it; and why."""


NOTHING = Made([], [], [], [])


class JobMaker:
    """Makes the jobs of records, for one service in one flow."""

    def __init__(self, context: HostContext, finder: RunFinder) -> None:
        """Update the runs and gates of `context` from the records."""
        self._handlers = context.handlers
        self._version = context.handlers.version
        self._build = context.build
        self._table = context.table
        self._gates = context.gates
        self._starts = context.table.flow.starts
        self._runs = context.runs
        self._log = context.ports.log
        self._finder = finder
        self._branches = BranchJudge(context.table, context.handlers, context.ports.codec)

    async def make(self, records: list[Record], partitions: int) -> Made:
        """Return the jobs of these records in their order."""
        made = Made([], [], [], [])
        records = [record for record in records if in_place(record, partitions)]
        gated = await self._gated(records) if self._gates.types else {}
        triggers = await self._called_for(records)
        own, version = self._handlers.by_trigger, self._version
        for record in records:
            event = record.event
            if gated:
                self._let_through(record, gated.get(record.position, ()), made)
            is_others = event.build != self._build and self._is_of_its_build(event)
            if is_others or (event.type in self._gates.gated and self._is_gated(event)):
                continue  # the hosts of its build run its steps; or only its gate makes it a trigger
            by_trigger = own if event.version == version else self._handlers.of(event.version).by_trigger
            if event.type in by_trigger or (not event.run and event.type in self._handlers.triggers):
                if event.run or event.type == self._starts:
                    self._triggered(identified(record), record, by_trigger.get(event.type, ()), made)
                else:
                    await self._from_outside(record, partitions, made)
            elif event.type in RUN_FACTS:
                self._runs.read(record)
                made.stopped.append((event.key, event.run))
            elif event.type == facts.COMPENSATION_REQUESTED:
                await self._compensation_requested(record, made)
            elif event.type == facts.STEP_RETRY_DUE:
                await self._called_again(record, triggers, made)
            elif event.type == facts.REDRIVEN:
                await self._redriven(record, partitions, triggers, made)
        return made

    async def _gated(self, records: Sequence[Record]) -> dict[Position, list[_Gated]]:
        """Return the gates' answers to these records, with the records of the events, which may stand far before."""
        answers = await self._gates.read(records)
        found = {source.position: source for source, _ in answers}
        places = {place for source, answer in answers for place in _places(source, answer)} - found.keys()
        found |= await records_at(self._log, places) if places else {}
        gated: dict[Position, list[_Gated]] = {}
        for source, answer in answers:
            record = found.get(_place(source, answer.event.offset))
            gated.setdefault(source.position, []).append((answer, record, _parts(source, answer.arguments, found)))
        return gated

    def _let_through(self, source: Record, gated: Iterable[_Gated], made: Made) -> None:
        """Make the jobs of events from outside that are triggers now, or never will be."""
        for answer, record, parts in gated:
            if answer.build != self._build:
                continue
            about = answer.event
            skipped = self._branches.skipped(record, answer.version) if record else ()
            for spec in self._specs_of(answer):
                if spec.step in skipped or self._branches.skips_join(spec, parts, answer.version):
                    continue
                stand_in = replace(source.event, id=about.id, type=about.type, run=answer.run)
                event = replace(identified(record), run=answer.run) if record else stand_in
                event = replace(event, hops=about.hops, version=answer.version, build=answer.build)
                event = carrying(event, about.carried)
                deadline_ms = source.stamp_ms + spec.deadline_ms
                job = Job(spec, record or source, event, source, about.id, about.id, deadline_ms)
                job.parts = parts if spec.parameters else None
                if record is None or (spec.parameters and parts is None and not answer.ignored):
                    made.failed.append((job, _not_there(about.id, job)))
                elif answer.ignored:
                    made.ignored.append((job, answer.ignored))
                else:
                    made.jobs.append(job)

    def _specs_of(self, answer: Answer) -> Sequence[HandlerSpec]:
        handlers = self._handlers.of(answer.version)
        if not answer.step:
            return handlers.by_trigger.get(answer.event.type, ())
        spec = handlers.forward.get(answer.step)
        return (spec,) if spec else ()

    def _triggered(self, event: Envelope, record: Record, handlers: Sequence[HandlerSpec], made: Made) -> None:
        if event.type == self._starts and event.run != event.id:
            event = replace(event, run=event.id)
        stamp_ms, skipped = record.stamp_ms, self._branches.skipped(record, event.version)
        for spec in handlers:
            if spec.step in skipped:
                continue
            made.jobs.append(Job(spec, record, event, record, event.id, event.id, stamp_ms + spec.deadline_ms))

    def _is_of_its_build(self, event: Envelope) -> bool:
        """Return whether this event has the build of its run, and is no fact that hosts of every build must know."""
        has_build = event.run or event.type in (self._starts, facts.REDRIVEN)
        return bool(has_build) and event.type not in RUN_FACTS

    def _is_gated(self, event: Envelope) -> bool:
        """Return whether a wait decides about this event: in another version a step may emit it."""
        if not self._table.is_versioned or not event.run:
            return True
        table = self._table.nearest(event.version)
        return event.type in table.satisfies or event.type in table.timeouts or event.type in table.reminders

    async def _from_outside(self, record: Record, partitions: int, made: Made) -> None:
        """Make the jobs of an event that names no run: it is of the run's version."""
        run = await self._finder.run_of(record, partitions)
        if not run:
            return
        version, build = self._finder.version_and_build(record, run)
        handlers = self._handlers.of(version).by_trigger.get(record.event.type, ())
        if build != self._build:
            return
        event = replace(identified(record), run=run, version=version, build=build)
        self._triggered(event, record, handlers, made)

    async def _compensation_requested(self, record: Record, made: Made) -> None:
        event = identified(record)
        spec = self._handlers.of(event.version).undo.get(event.step)
        if spec is not None:
            deadline_ms = record.stamp_ms + spec.deadline_ms
            await self._with_parts(Job(spec, record, event, record, event.id, event.id, deadline_ms), made)

    async def _called_for(self, records: Sequence[Record]) -> dict[Position, Record]:
        """Read the triggers that the calls among these records name."""
        places = [_called(record) for record in records if record.event.type in _CALLS and not record.event.entry]
        return await records_at(self._log, [place for place in places if place.offset >= 0]) if places else {}

    async def _called_again(self, call: Record, triggers: Mapping[Position, Record], made: Made) -> None:
        """Make the job of a tracker's call. A call without a deadline is not the tracker's: nothing waits for it."""
        event = identified(call)
        if event.n:
            self._runs.read(call)
        if event.deadline_ms and event.entry:
            await self._compensation_again(event, call, made)
            return
        spec = self._handlers.of(event.version).forward.get(event.step)
        if spec is not None and event.deadline_ms and event.outcome >= 0:
            record = _trigger(call, triggers, spec)
            if record is None:
                self._gone(call, spec, made, event.trigger)
                return
            origin = self._with_run(record, event.run)
            origin = replace(origin, hops=max(origin.hops, event.hops), version=event.version, build=event.build)
            origin = carrying(origin, carried_of(event))
            await self._with_parts(
                Job(spec, record, origin, call, event.id, event.trigger, event.deadline_ms, failed=event.attempt), made
            )

    async def _compensation_again(self, event: Envelope, call: Record, made: Made) -> None:
        spec = self._handlers.of(event.version).undo.get(event.step)
        if spec is not None:
            request = ids.of_round("undo-request", event.entry, event.round)
            as_requested = replace(event, id=request, n=event.nothings)
            await self._with_parts(
                Job(spec, call, as_requested, call, event.id, request, event.deadline_ms, failed=event.attempt), made
            )

    async def _redriven(self, call: Record, partitions: int, triggers: Mapping[Position, Record], made: Made) -> None:
        event = identified(call)
        spec = self._handlers.of(event.version).forward.get(event.step)
        if spec is None:
            return
        record = _trigger(call, triggers, spec)
        if record is None:
            self._gone(call, spec, made, event.id, redriven=True)
            return
        origin = replace(self._with_run(record, event.run), version=event.version, build=event.build)
        origin = carrying(origin, carried_of(event))
        if not origin.run:
            origin = replace(origin, run=await self._finder.run_of(record, partitions))
        deadline_ms = call.stamp_ms + spec.deadline_ms
        await self._with_parts(Job(spec, record, origin, call, event.id, event.id, deadline_ms, redriven=True), made)

    async def _with_parts(self, job: Job, made: Made) -> None:
        """Add a job that a call asks for, with the same arguments in each attempt."""
        if not job.spec.parameters:
            made.jobs.append(job)
            return
        call = job.source
        if job.spec.undo:
            arguments = await self._gates.arguments_to_undo(call, job.spec.parameters)
        else:
            arguments = await self._gates.arguments_of(call, job.event.id)
        places = {_place(call, offset) for offsets in arguments or () for offset in offsets}
        found = await records_at(self._log, places) if places else {}
        job.parts = _parts(call, arguments, found) if arguments is not None else None
        if job.parts is None:
            made.failed.append((job, _not_there(job.event.id, job)))
        else:
            made.jobs.append(job)

    def _gone(self, call: Record, spec: HandlerSpec, made: Made, remembered: str, *, redriven: bool = False) -> None:
        event = identified(call)
        stand_in = replace(event, id=event.trigger)
        deadline_ms = call.stamp_ms + spec.deadline_ms
        job = Job(spec, call, stand_in, call, event.id, remembered, deadline_ms, redriven=redriven)
        made.failed.append((job, _not_there(event.trigger, job)))

    def _with_run(self, record: Record, run: str) -> Envelope:
        event = identified(record)
        if event.type == self._starts:
            run = event.id
        return event if event.run or not run else replace(event, run=run)


def _place(source: Record, offset: int) -> Position:
    return Position(source.topic, source.partition, offset)


def _places(source: Record, answer: Answer) -> Iterable[Position]:
    """Yield the positions of the records that an answer is about: its event, and the handler's arguments."""
    yield _place(source, answer.event.offset)
    for offsets in answer.arguments:
        for offset in offsets:
            yield _place(source, offset)


def _parts(
    source: Record, arguments: Arguments, found: Mapping[Position, Record]
) -> tuple[tuple[Envelope, ...], ...] | None:
    """Return the events of a handler's arguments; None where the log has one of them no more."""
    parts: list[tuple[Envelope, ...]] = []
    for offsets in arguments:
        records = [found.get(_place(source, offset)) for offset in offsets]
        if None in records:
            return None
        parts.append(tuple(identified(record) for record in records if record is not None))
    return tuple(parts)


def _not_there(event_id: str, job: Job) -> NotFoundError:
    return NotFoundError(
        f"event {event_id}, the trigger of the step to run, or an event that its handler takes is not in the log",
        where=job.place,
        remedy="Retention may have deleted it; undo or repeat the step by hand.",
    )


def _called(call: Record) -> Position:
    """Return the position of the record that the call names."""
    return Position(call.topic, call.partition, call.event.outcome)


def _trigger(call: Record, triggers: Mapping[Position, Record], spec: HandlerSpec) -> Record | None:
    """Return the record that the call names, if it is the trigger that the call describes."""
    record = triggers.get(_called(call))
    if record is None or identified(record).id != call.event.trigger or record.event.type not in spec.takes:
        return None
    return record
