"""Check whether a run can still take an event from outside, as far as the read model knows.

An event that no run will ever take is refused before it stands in the log for ever. A read model that is behind does
not know a run that has just started: the check waits for it within a bound. If it does not catch up the event is
published, because the tracker decides about it.
"""

from __future__ import annotations

from choreo.app.query.read_your_writes import Positions
from choreo.app.tracking.views import Detail, detail_of, shown_runs
from choreo.core.attribution import oldest_open
from choreo.core.errors import ChoreoError, ConflictError, NotFoundError, UnavailableError
from choreo.core.events import Position
from choreo.core.flow_table import FlowTable
from choreo.core.partition import partition_of
from choreo.ports.clock import Clock
from choreo.ports.log import Log
from choreo.ports.read_model import ReadModel

CATCH_UP_S = 1.0
"""A tracker that runs is some milliseconds behind, a projector some ten."""

_ALLOW = "To publish it all the same: `--allow-early`, `?allow_early=true`."


class Awaiting:
    """Searches the read model for a run that awaits an event."""

    def __init__(self, log: Log, read_model: ReadModel, clock: Clock) -> None:
        """Keep the parts; nothing is read yet."""
        self._log = log
        self._read_model = read_model
        self._positions = Positions(log, read_model, clock)

    async def refusal(self, table: FlowTable, type_: str, key: str, run: str) -> ChoreoError | None:
        """Return why no run can take the event, None where one can or may."""
        refusal = await self._refusal(table, type_, key, run)
        if refusal is None or not await self._caught_up(table.flow.name, key):
            return None
        return await self._refusal(table, type_, key, run)

    async def _refusal(self, table: FlowTable, type_: str, key: str, run: str) -> ChoreoError | None:
        flow = table.flow.name
        subject = await self._read_model.instance(flow, key, run)
        if subject is None:
            return NotFoundError(
                f"there is no run that could take {type_}",
                where=_place(flow, key, run),
                remedy=f"Start one with {table.flow.starts}. {_ALLOW}",
            )
        if not run:
            open_ = oldest_open(shown_runs(await self._read_model.runs(flow, key)))
            subject = open_.row if open_ else subject
        cause = _why_not(table, type_, detail_of(subject))
        if not cause:
            return None
        return ConflictError(f"nothing awaits {type_} any more: {cause}", where=_place(flow, key, run), remedy=_ALLOW)

    async def _caught_up(self, flow: str, key: str) -> bool:
        partition = partition_of(key, await self._log.partitions(flow))
        end = await self._log.end(flow, partition)
        try:
            if end:
                await self._positions.reached(Position(flow, partition, end - 1), CATCH_UP_S)
        except UnavailableError:
            return False
        return True


def _why_not(table: FlowTable, type_: str, detail: Detail) -> str:
    """Return why this run will not take the event; empty if it may."""
    if detail.ended_ms:
        return f"the run has ended ({detail.status})"
    if detail.compensating:
        return f"the run is compensating ({detail.cause})"
    if not table.knows(detail.version):
        return ""
    table = table.of(detail.version)
    if type_ not in table.satisfies and any(type_ in part for part in (table.triggers, table.joins, table.opens)):
        return ""  # an event that only moves a timer starts steps and opens waits at any time
    waits = (*table.satisfies.get(type_, ()), *table.moves.get(type_, ()))
    if all(wait.name in detail.over for wait in waits):
        return "the wait for it is over"
    return ""


def _place(flow: str, key: str, run: str) -> str:
    return f"flow {flow}, key {key!r}" + (f", run {run!r}" if run else "")
