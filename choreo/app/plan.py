"""Which jobs a record makes: a trigger one for each step on it, the tracker's and the operator's calls one each.

Facts about runs are read on the way. Only what is woken by its id, or comes from outside, needs a look into the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from choreo.app.duties import RUN_FACTS, Duties, Duty
from choreo.app.jobs import Job
from choreo.app.origins import Origins
from choreo.app.run_finder import RunFinder
from choreo.app.runs import Runs
from choreo.core import facts, ids
from choreo.core.definition import FlowTable
from choreo.core.errors import NotFoundError
from choreo.core.events import Envelope, Record
from choreo.core.fold import identified
from choreo.core.partition import partition_of


class Plan(NamedTuple):
    """What came of some records."""

    jobs: list[Job]
    failed: list[tuple[Job, Exception]]
    """Jobs that cannot be done, because what they need is not there."""
    stopped: list[tuple[str, str]]
    """(key, run) of which a fact was read that stops or holds it."""


class Planner:
    """Reads records for one service in one flow."""

    def __init__(self, duties: Duties, table: FlowTable, runs: Runs, origins: Origins, finder: RunFinder) -> None:
        """`runs` learns from the facts that are read."""
        self._duties = duties
        self._starts = table.flow.starts
        self._runs = runs
        self._origins = origins
        self._finder = finder

    async def plan(self, records: list[Record], partitions: int) -> Plan:
        """The jobs of these records in their order."""
        plan = Plan([], [], [])
        by_trigger = self._duties.by_trigger
        for record in records:
            event = record.event
            if not event.key or partition_of(event.key, partitions) != record.partition:
                continue  # the tracker sets it aside or says it again where it belongs
            if event.due_ms and record.stamp_ms < event.due_ms:
                continue  # a timer fact that came too early
            if event.type in by_trigger:
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
                await self._called_again(record, plan)
            elif event.type == facts.REDRIVEN:
                await self._redriven(record, plan)
        return plan

    def _triggered(self, event: Envelope, record: Record, duties: Sequence[Duty], plan: Plan) -> None:
        if event.type == self._starts and event.run != event.id:
            event = replace(event, run=event.id)
        plan.jobs.extend(Job(duty, record, event, record, event.id, event.id) for duty in duties)

    async def _from_outside(self, record: Record, duties: Sequence[Duty], plan: Plan) -> None:
        run = await self._finder.run_of(record)
        if run:
            self._triggered(replace(identified(record), run=run), record, duties, plan)

    def _undo_requested(self, record: Record, plan: Plan) -> None:
        event = identified(record)
        duty = self._duties.undo.get(event.step)
        if duty is not None:
            plan.jobs.append(Job(duty, record, event, record, event.id, event.id))

    async def _called_again(self, call: Record, plan: Plan) -> None:
        event = identified(call)
        duty = (self._duties.undo if event.entry else self._duties.forward).get(event.step)
        if duty is None:
            return
        trigger = ids.of_round("undo-request", event.entry, event.round) if event.entry else event.trigger
        record = await self._origins.find(call, trigger, event.step)
        if record is None:
            stand_in = replace(event, id=trigger, trigger=event.trigger or trigger)
            job = Job(duty, call, stand_in, call, event.id, trigger)
            plan.failed.append((job, _gone(call, trigger)))
            return
        origin = self._with_run(record, event.run)
        job = Job(duty, record, origin, call, event.id, trigger, failed=event.attempt)
        plan.jobs.append(job)

    async def _redriven(self, call: Record, plan: Plan) -> None:
        event = identified(call)
        duty = self._duties.forward.get(event.step)
        if duty is None:
            return
        record = await self._origins.at(call, event.outcome, event.trigger)
        if record is None or record.event.type not in duty.takes:
            stand_in = replace(event, id=event.trigger)
            job = Job(duty, call, stand_in, call, event.id, event.id, redriven=True)
            plan.failed.append((job, _gone(call, event.trigger)))
            return
        origin = self._with_run(record, event.run)
        if not origin.run:
            origin = replace(origin, run=await self._finder.run_of(record))
        plan.jobs.append(Job(duty, record, origin, call, event.id, event.id, redriven=True))

    def _with_run(self, record: Record, run: str) -> Envelope:
        event = identified(record)
        if event.type == self._starts:
            run = event.id
        return event if event.run or not run else replace(event, run=run)


def _gone(call: Record, trigger: str) -> NotFoundError:
    return NotFoundError(
        f"event {trigger}, which the step is to be run for, does not stand in the log",
        where=f"{call.topic}/{call.partition}/{call.offset}",
        remedy="It may have been retained away; undo or repeat the step by hand.",
    )
