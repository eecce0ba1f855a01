"""Queries about instances: lists, one instance with its waits, its history and timeline, and the lag of each group.

Answers are values, the same for REST, CLI and web; sentences for people are made here, the layout by the surfaces.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import msgspec

from choreo.app.pace import Pace
from choreo.app.query.attribute_filters import checked
from choreo.app.query.catalogue import Catalogue, catalogue
from choreo.app.query.child_results import ChildEnds, WantedEnds, child_ends
from choreo.app.query.flows import Flows
from choreo.app.query.freshness import Freshness, freshness
from choreo.app.query.group_memory import GroupMemory
from choreo.app.query.groups import Group, Groups
from choreo.app.query.history import Attribution, Histories, HistoryRow
from choreo.app.query.read_your_writes import IF_JUST_STARTED, Positions
from choreo.app.query.sightings import Sightings
from choreo.app.query.stalled import DuePage, DueRun, Stalled, StalledRun, Stalls
from choreo.app.query.status_text import waiting_for
from choreo.app.query.timeline import TimelineRow, timeline
from choreo.app.query.why.reading import Reading
from choreo.app.query.why.rules import Why, why
from choreo.app.tracking.views import Detail, detail_of
from choreo.core.crossing import Place, place_of
from choreo.core.declare.steps import Step
from choreo.core.errors import NotFoundError
from choreo.core.events import Position, Record
from choreo.core.serving import stranding
from choreo.core.trace_ids import trace_id
from choreo.ports.clock import Clock
from choreo.ports.codec import Codec
from choreo.ports.dead_letters import DeadLetter, DeadLetters
from choreo.ports.log import Log
from choreo.ports.read_model import Filter, InstanceView, Page, ReadModel

FOLLOW_S = 0.2
"""How often a followed instance is read: soon enough for people, and 5 indexed reads a second for each of them."""
FOLLOW_FIRST_S = 0.005
"""First delay after an event: its consequences come within milliseconds. The delay doubles after each empty read."""


class Instance(msgspec.Struct, frozen=True):
    """One run of a key, with its details."""

    row: InstanceView
    detail: Detail
    waiting_for: list[str]
    """Sentences; empty when it has ended."""
    next_timer: str
    """The timer that `detail.next_due_ms` belongs to."""
    runs: list[str]
    """The key's newest runs, oldest first: at most 100."""

    @property
    def trace(self) -> str:
        """Return the id of the run's first trace; later segments, after a long wait or a timer, link to it."""
        return trace_id(self.row.run)


READ_MODEL = "read-model"
"""Name of the read model among the consumer groups of `lags`: the offset up to which the views are true."""


class Lag(msgspec.Struct, frozen=True):
    """The lag of a consumer group, or of the read model, in one partition."""

    flow: str
    group: str
    partition: int
    committed: int
    end: int

    @property
    def behind(self) -> int:
        """Return the number of records in the log that were not finished."""
        return max(0, self.end - self.committed)


class Queries:
    """Answers queries. Every method raises NotFoundError on an unknown flow or instance."""

    def __init__(
        self,
        flows: Flows,
        log: Log,
        read_model: ReadModel,
        dead_letters: DeadLetters,
        codec: Codec,
        clock: Clock,
        pace: Pace | None = None,
        *,
        steps: Mapping[str, Mapping[str, Step]] | None = None,
        memory: GroupMemory | None = None,
        build: str = "",
    ) -> None:
        """Keep the parts; nothing is read yet. `pace` slows lists down where they share their loop with the work.

        `steps`: by flow, the steps of this process's code; without them `why` says nothing of versions.
        `memory` of the groups that the process observes; its services' groups are those of `build`.
        """
        self._steps: Mapping[str, Mapping[str, Step]] = steps or {}
        self._codec = codec
        self.flows = flows
        self._dead_letters = dead_letters
        self._positions = Positions(log, read_model, clock)
        self._log = log
        self._read_model = read_model
        self._clock = clock
        self._pace = pace
        self._histories = Histories(flows, read_model, codec)
        self._sightings: dict[str, Sightings] = {}
        self._stalls = Stalls(flows, log, read_model, clock)
        self._groups = Groups(flows, log, clock, memory, build)

    async def instances(self, wanted: Filter, limit: int, cursor: str = "") -> Page:
        """Return a page of runs, newest first; an empty flow means every flow.

        Conditions have a person's text as their key. Raises FilterError on one that no run of the flow can meet.
        """
        if wanted.flow:
            self.flows.definition(wanted.flow)
        wanted = checked(self.flows, wanted)
        async with self._pace.slot() if self._pace else nullcontext():
            return await self._read_model.instances(wanted, limit, cursor)

    async def instance(self, flow: str, key: str, run: str = "") -> Instance:
        """Return one run; without `run` the key's newest."""
        self.flows.definition(flow)
        row = await self._read_model.instance(flow, key, run)
        if row is None:
            what = f"run {run!r} of key {key!r}" if run else f"instance {key!r}"
            raise NotFoundError(
                f"there is no {what}",
                where=f"flow {flow}",
                remedy=IF_JUST_STARTED,
            )
        detail = detail_of(row)
        timers = detail.timers
        runs = [known.run for known in await self._read_model.runs(flow, key)]
        return Instance(row, detail, waiting_for(detail), timers[0][1] if timers else "", runs)

    async def history(
        self, flow: str, key: str, *, run: str = "", after: int = -1, limit: int = 1_000
    ) -> list[HistoryRow]:
        """Return the key's events after that offset, at most `limit`; of every run unless one is named."""
        found: list[HistoryRow] = []
        known = False
        async for row in self._histories.rows(flow, key, run):
            known = True
            if row.offset > after:
                found.append(row)
            if len(found) == limit:
                break
        if not known:
            await self.instance(flow, key, run)
        return found

    async def child_ends(self, flow: str, key: str, wanted: WantedEnds) -> ChildEnds:
        """Return a page of the ends of a step's children."""
        run = (await self.instance(flow, key, wanted.run)).row.run
        return await child_ends(self._read_model, flow, key, wanted._replace(run=run))

    async def parent(self, flow: str, key: str, run: str) -> Place | None:
        """Return the place of a run in its parent; None for one that no parent has started."""
        if not self.flows.definition(flow).parents:
            return None
        after = -1
        while True:
            page = await self._read_model.history(flow, key, after)
            found = next((record.event for record in page if record.event.id == run), None)
            if found is not None or not page:
                return place_of(found.parent) if found else None
            after = page[-1].offset

    async def timeline(self, flow: str, key: str, run: str = "") -> list[TimelineRow]:
        """Return one run's timeline; without `run` the key's newest."""
        instance = await self.instance(flow, key, run)
        run, table = instance.row.run, self.flows.table(flow).nearest(instance.detail.version)
        return timeline(table, await self.history(flow, key, run=run, limit=10_000))

    async def follow(self, flow: str, key: str, run: str = "", after: int = -1) -> AsyncIterator[HistoryRow | None]:
        """Yield every event of a run, future ones as they come; end with the run's last event.

        Yields None after each empty read, so that the caller can send a heartbeat, or stop.
        """
        run = run or (await self.instance(flow, key)).row.run
        attribution = Attribution(self.flows.table(flow))
        last, wait_s = -1, FOLLOW_FIRST_S
        while True:
            instance = await self.instance(flow, key, run)
            async for row in self._histories.rows(flow, key, attribution=attribution, after=last):
                last, wait_s = row.offset, FOLLOW_FIRST_S
                if row.run == run and row.offset > after and not row.duplicate:
                    yield row
            if instance.detail.ended_ms:
                return
            yield None
            await self._clock.sleep(wait_s)
            wait_s = min(2 * wait_s, FOLLOW_S)

    async def why(self, flow: str, key: str, run: str = "", patience_s: float = 2.0) -> Why:
        """Return the cause for which a run stands still; without `run` of the key's newest.

        Waits so many seconds for the read model to have read the log.
        """
        reading = Reading(
            self.flows.table(flow),
            self._log,
            self._read_model,
            self._dead_letters,
            self._clock,
            row_of=self._row,
            history=self._whole_history,
            reached=self.reached,
            fields=self._fields,
            unserved=self.unserved,
            seen=self._groups.seen,
        )
        return why(await reading.facts(key, run, patience_s))

    async def _row(self, flow: str, key: str, run: str) -> InstanceView:
        return (await self.instance(flow, key, run)).row

    async def _whole_history(self, flow: str, key: str, run: str) -> list[HistoryRow]:
        return await self.history(flow, key, run=run, limit=10_000)

    def _fields(self, flow: str, record: Record) -> Mapping[str, Any]:
        event = record.event
        return self._codec.fields(self.flows.event_class(flow, event.type), event.content_type, event.data)

    def unserved(self, flow: str, version: int) -> str:
        """Return why this project's services cannot finish a run of that version; "" if they can."""
        steps = self._steps.get(flow)
        return "; ".join(stranding(self.flows.table(flow), version, steps)) if steps else ""

    @property
    def now_ms(self) -> int:
        """Return the present moment."""
        return self._clock.now_ms()

    async def counts(self, flow: str) -> dict[str, int]:
        """Return the number of runs by status."""
        self.flows.definition(flow)
        return await self._read_model.counts(flow)

    async def outcomes(self, flow: str) -> dict[str, int]:
        """Return the number of completed runs by outcome; of a flow with one way to complete, none."""
        definition = self.flows.definition(flow)
        if not definition.outcomes:
            return {}
        known = dict.fromkeys(definition.outcomes.values(), 0)
        return known | await self._read_model.outcomes(flow)

    async def standing(self, flow: str, places: Sequence[str]) -> dict[str, int]:
        """Return the number of runs that stand in each of these places; see `InstanceView.place`."""
        self.flows.definition(flow)
        return await self._read_model.standing(flow, places)

    async def lags(self, flow: str) -> list[Lag]:
        """Return lags by partition: of the tracker, each service, the bridge if it reads here, and the read model."""
        groups = self._groups.names(flow)
        # No consumer can read the records behind an open transaction: they are no lag.
        ends = [await self._log.stable_end(flow, number) for number in range(await self._log.partitions(flow))]
        reached = {group: await self._log.committed(flow, group) for group in groups}
        reached[READ_MODEL] = await self._read_model.positions(flow)
        found = []
        for group, committed in reached.items():
            found += [Lag(flow, group, number, committed.get(number, 0), end) for number, end in enumerate(ends)]
        return found

    async def groups(self, flow: str) -> list[Group]:
        """Return the consumer groups of a flow, and observe them: rates and changes are those between observations."""
        return await self._groups.groups(flow)

    async def group(self, flow: str, name: str) -> Group:
        """Return one consumer group of a flow, and observe it; raises NotFoundError."""
        return await self._groups.group(flow, name)

    async def stalled(self, flow: str, limit: int = 50) -> Stalled:
        """Return all that stands still: runs longer in a step than usual, orphans, overdue timers."""
        return await self._stalls.stalled(flow, limit)

    async def held_up(self, flow: str, group: str, partition: int, limit: int = 50) -> list[StalledRun]:
        """Return the runs that wait for a group in one partition, the longest first; raises NotFoundError."""
        self._groups.require(flow, group)
        return await self._stalls.held_up(flow, group, partition, limit)

    async def timers(self, flow: str, limit: int = 50, cursor: str = "") -> DuePage:
        """Return a page of runs by their next due time, the earliest first."""
        return await self._stalls.timers(flow, limit, cursor)

    async def oldest_ages(self, flow: str) -> dict[str, int]:
        """Return for each step, wait and undo the age of the run that stands there longest, in ms."""
        return await self._stalls.oldest_ages(flow)

    async def overdue(self, flow: str, limit: int = 1_000) -> list[DueRun]:
        """Return runs with a due time that has passed and that no fact in the log has settled, at most `limit`."""
        return await self._stalls.overdue(flow, limit)

    async def freshness(self, flow: str) -> Freshness:
        """Return how far the read model shows the flow's log."""
        self.flows.definition(flow)
        return await freshness(flow, self._log, self._read_model, self._clock)

    async def catalogue(self, flow: str) -> Catalogue:
        """Return the events of a flow: declared, and seen in the newest records of its log."""
        table = self.flows.table(flow)
        seen = self._sightings.setdefault(flow, Sightings(flow, self._log))
        await seen.look()
        return catalogue(table, self.flows.classes.get(flow, {}), self._codec, seen)

    async def dead_letters(self, flow: str = "", limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Return dead letters, newest first, of one flow or of all; `after` is the last id of the page before."""
        if flow:
            self.flows.definition(flow)
        return await self._dead_letters.list(flow or None, limit, after)

    async def dead_letter(self, dead_letter_id: str) -> DeadLetter:
        """Return one dead letter; raises NotFoundError."""
        return await self._dead_letters.get(dead_letter_id)

    async def dead_letter_count(self, flow: str) -> int:
        """Return the number of a flow's dead letters, redriven ones included."""
        return await self._dead_letters.count(flow)

    async def reached(self, position: Position, timeout_s: float) -> None:
        """Wait until the read model has folded the event at this position; see `Positions`."""
        await self._positions.reached(position, timeout_s)
