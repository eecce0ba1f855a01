"""A strike: the fault of one cell meets the attempts of its step, at its point.

`Strike` counts how often the step passed the point. It stands between host and handler; `hosts` has the points after
the handler.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from choreo.core import facts
from choreo.core.definition import FlowDefinition
from choreo.core.events import Envelope, Record
from choreo.hosts.runners.port import Attempt
from choreo.testing.fault_matrix.cells import Cell
from choreo.testing.fault_matrix.table import AFTER, BEFORE, FAULTS
from choreo.testing.simulation.conductor import RESTART_S, Conductor
from choreo.testing.simulation.loop import spawn
from choreo.testing.simulation.script import Handler, PlannedError
from choreo.testing.simulation.world import Process

FOREVER = 1_000_000
"""More attempts than any step has."""
STANDSTILL_S = 9.0
"""A process stands still for longer than its session of six seconds."""
GARBAGE = b"\x07 no event"
_ALMOST_S = 0.01
_ANSWERS = {facts.NOTHING_TO_COMPENSATE, facts.COMPENSATION_FAILED} | facts.ENDS


class Strike:
    """The fault of one cell on a running world."""

    def __init__(self, cell: Cell, conductor: Conductor, *, times: int, deaths: int) -> None:
        """Strike at the first `times` passages of the point; let the process die at so many passages behind them."""
        self.cell = cell
        self.conductor = conductor
        self.passages: int = 0
        """How often the step came to the point."""
        self.hits: int = 0
        """How often the fault struck."""
        self.died: int = 0
        self.flow: str = ""
        self.key: str = ""
        """The key of the run that it meets; "" until then."""
        self.source: Record | None = None
        """The record whose offset the met attempt holds back."""
        self.trigger: Record | None = None
        self.handler: Handler | None = None
        """Calls the user's handler once more."""
        self.outcome: str = ""
        """Id of the published outcome."""
        self.is_late: bool = False
        """Whether a process that stood still went on after its run was given up."""
        self._times = times
        self._deaths = deaths
        self._undo = FAULTS[cell.fault].undo

    # At a handler

    async def call(self, process: Process, attempt: Attempt, handler: Handler, again: Handler) -> Any:
        """Call a handler; the fault strikes if it is the cell's. `again` repeats the call beside the host."""
        if not self._meets(attempt):
            return await handler()
        self.handler = self.handler or again
        if self.cell.point == BEFORE:
            struck = await self.strikes(process)
            return await (self._before(process, attempt, handler) if struck else handler())
        value = await handler()
        if self.cell.point == AFTER and await self.strikes(process):
            return await self._after(process, attempt, value)
        return value

    async def strikes(self, process: Process) -> bool:
        """Count a passage of the point; return whether the fault strikes. Where the process is to die, never return."""
        if self.conductor.is_settled:
            return False
        self.passages += 1
        if self.passages <= self._times:
            self.hits += 1
            self.conductor.note(self.cell.fault, process.name, self.sentence, self.key)
            return True
        if self.died < self._deaths:
            self.died += 1
            self.conductor.note("kill", process.name, f"the process dies {self.cell.point}", self.key)
            await self.die(process)
        return False

    @property
    def sentence(self) -> str:
        """Return the fault in words."""
        place = f"the compensation of {self.cell.step}" if self._undo else self.cell.step
        return f"{place}, {self.cell.fault} {self.cell.point}: {self.cell.meaning}"

    @property
    def service(self) -> str:
        """Return the service of the step."""
        return self.cell.step.partition(".")[0]

    def poisoned(self, process: Process, event: Envelope) -> Envelope:
        """Return the trigger with a payload that nobody can decode; the second and later ones as they are."""
        self.passages += 1
        if self.passages > 1:
            return event
        self.hits += 1
        self.flow, self.key = event.flow, event.key
        self.conductor.note(self.cell.fault, process.name, self.sentence, event.key)
        return msgspec.structs.replace(
            event, data=GARBAGE, content_type=self.conductor.world.project.codec.content_type
        )

    def outcome_types(self, flow: FlowDefinition) -> frozenset[str]:
        """Return the types of the records that end the met attempt."""
        step = next((each for each in flow.steps if each.name == self.cell.step), None)
        if step is None:
            return frozenset()
        if self._undo:
            return frozenset({*(step.compensation.emits if step.compensation else ()), facts.NOTHING_TO_COMPENSATE})
        own = {facts.STEP_COMPLETED, facts.STEP_FAILED, facts.CHILDREN_PLANNED}
        return frozenset(own if step.children else {*own, *step.emits, *step.fails})

    def again(self, *records: Record | None) -> None:
        """Append records once more."""
        for record in records:
            if record is not None:
                self.conductor.world.cluster.topics.append(record.topic, [record.event])

    async def stand_still(self, process: Process, duration_s: float, *, replaced: bool) -> None:
        """Let the process stand still; return once it goes on."""
        self.conductor.world.freeze(process, duration_s)
        if replaced:
            self.conductor.world.later(RESTART_S, self.conductor.restart, process)
        await asyncio.sleep(0)
        records = self.conductor.records(self.flow, self.key)
        self.is_late = any(record.event.type == facts.COMPENSATION_STARTED for record in records)

    async def die(self, process: Process) -> None:
        """Let the process die; never return."""
        self.conductor.die(process, RESTART_S)
        await asyncio.get_running_loop().create_future()

    def _meets(self, attempt: Attempt) -> bool:
        if (attempt.spec.step, attempt.spec.undo) != (self.cell.step, self._undo):
            return False
        event = attempt.job.event
        if not self.key:
            self.flow, self.key, self.source, self.trigger = (
                event.flow,
                event.key,
                attempt.job.source,
                attempt.job.record,
            )
        return event.key == self.key

    async def _at_either_point(self, process: Process, attempt: Attempt) -> None:
        """Strike with a fault that is the same before the handler and after it; others do nothing here."""
        match self.cell.fault:
            case "error" | "compensation-failure":
                raise PlannedError("the fault matrix has planned that it fails")
            case "timeout":
                await asyncio.get_running_loop().create_future()
            case "kill":
                await self.die(process)
            case "duplicate":
                self.again(self.trigger)
            case "late-success":
                await self.stand_still(process, self._too_late_s(attempt), replaced=False)

    async def _before(self, process: Process, attempt: Attempt, handler: Handler) -> Any:
        await self._at_either_point(process, attempt)
        match self.cell.fault:
            case "late-gateway":
                if self.hits == 1:
                    spawn(self.conductor.world.loop, self.conductor.world.loop.main, self._landing())
                await asyncio.get_running_loop().create_future()
            case "double-gateway":
                return await self._at_once(handler)
        return await handler()

    async def _after(self, process: Process, attempt: Attempt, value: Any) -> Any:
        await self._at_either_point(process, attempt)
        match self.cell.fault:
            case "poison":
                return Unreadable()
            case "late-gateway":
                await asyncio.sleep(max(0.0, attempt.timeout_s - _ALMOST_S))
            case "double-gateway":
                return await self._again()
        return value

    @staticmethod
    def _too_late_s(attempt: Attempt) -> float:
        return attempt.spec.deadline_ms / 1_000 + 60.0

    async def _landing(self) -> None:
        """Call the handler once its step was undone, or its run has ended."""
        conductor, flow = self.conductor, self.flow
        undos = conductor.world.project.definitions[flow].steps
        types = {
            type_
            for step in undos
            if step.name == self.cell.step and step.compensation
            for type_ in step.compensation.emits
        }
        types |= _ANSWERS
        while not any(
            record.event.type in types and record.event.step in ("", self.cell.step)
            for record in conductor.records(flow, self.key)
        ):
            await conductor.world.cluster.groups.listen(flow, frozenset(types))
        await self.repeat()

    async def repeat(self) -> None:
        """Call the handler, and drop its answer."""
        cluster = self.conductor.world.cluster
        try:
            await self._again()
        except Exception as error:  # noqa: BLE001 - the gateway may refuse the call
            cluster.note("the gateway", f"a call of {self.cell.step} lands, and is refused: {error}", self.key)
        else:
            cluster.note("the gateway", f"a call of {self.cell.step} lands", self.key)

    async def _again(self) -> Any:
        """Call the user's handler once more, with the same context; its host knows nothing of it."""
        assert self.handler is not None  # noqa: S101 - the fault has met a call
        return await self.handler()

    async def _at_once(self, handler: Handler) -> Any:
        """Call a handler twice at the same time; return the first answer, or raise the first error."""
        answers = await asyncio.gather(handler(), self._again(), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers[0]


class Unreadable:
    """A value that no step may return."""
