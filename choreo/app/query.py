"""What doors ask: instances, what one waits for, its history and story, how far everything is.

Answers are values, the same for REST, CLI and web; words for people are made here, layout is the doors' part.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import nullcontext

import msgspec

from choreo.app.pace import Pace
from choreo.app.query_flows import Flows
from choreo.app.query_history import Attribution, Histories, HistoryRow
from choreo.app.query_positions import Positions
from choreo.app.query_timeline import TimelineRow, timeline
from choreo.app.query_words import waiting_for
from choreo.app.views import Detail, detail_of
from choreo.core.errors import DecodeError, NotFoundError
from choreo.core.events import Position
from choreo.ports.clock import Clock
from choreo.ports.codec import Codec
from choreo.ports.dead_letters import DeadLetter, DeadLetters
from choreo.ports.log import TRACKER_GROUP, Log
from choreo.ports.read_model import Filter, InstanceView, Page, ReadModel

FOLLOW_S = 0.2
"""How often a followed instance is looked at: soon enough for people, and 5 indexed reads a second for each of them."""
FOLLOW_FIRST_S = 0.005
"""How soon after news: what follows from an event comes within milliseconds. Each look in vain waits twice as long."""

ATTRIBUTES_MAX = 16
"""Attributes of one question: each is an index that is looked into, and storage takes some 60 at most."""


class Instance(msgspec.Struct, frozen=True):
    """One run of a key, with all that is known of it."""

    row: InstanceView
    detail: Detail
    waiting_for: list[str]
    """Sentences; empty when it has ended."""
    next_timer: str
    """What `detail.next_due_ms` is about."""
    runs: list[str]
    """Every run of the key, oldest first."""


READ_MODEL = "read-model"
"""Stands among the consumer groups where lags are told: how far the views are true."""


class Lag(msgspec.Struct, frozen=True):
    """How far a consumer group, or the read model, is behind in one partition."""

    flow: str
    group: str
    partition: int
    committed: int
    end: int

    @property
    def behind(self) -> int:
        """Records that stand in the log and were not finished."""
        return max(0, self.end - self.committed)


class Queries:
    """The door for questions. Every method raises NotFoundError on a flow or instance that is not there."""

    def __init__(
        self,
        flows: Flows,
        log: Log,
        read_model: ReadModel,
        letters: DeadLetters,
        codec: Codec,
        clock: Clock,
        pace: Pace | None = None,
    ) -> None:
        """Take the parts; nothing is read yet. `pace`: of lists, where they share their loop with the work."""
        self.flows = flows
        self._letters = letters
        self._positions = Positions(log, read_model, clock)
        self._log = log
        self._read_model = read_model
        self._clock = clock
        self._pace = pace
        self._histories = Histories(flows, read_model, codec)

    async def instances(self, wanted: Filter, limit: int, cursor: str = "") -> Page:
        """A page of runs, newest first; an empty flow means every flow."""
        if wanted.flow:
            self.flows.definition(wanted.flow)
        if len(wanted.attributes) > ATTRIBUTES_MAX:
            raise DecodeError(
                f"{len(wanted.attributes)} attributes are asked for, {ATTRIBUTES_MAX} at most",
                where="filter",
                remedy="Ask for those that leave the fewest, and look through what is answered.",
            )
        if wanted.flow:
            wanted = msgspec.structs.replace(wanted, attributes=self._as_shown(wanted))
        async with self._pace.turn() if self._pace else nullcontext():
            return await self._read_model.instances(wanted, limit, cursor)

    def _as_shown(self, wanted: Filter) -> dict[str, str]:
        """The attributes asked for, as the start event's class shows such values: 12.5 finds 12.5000."""
        start = self.flows.classes[wanted.flow].get(self.flows.definition(wanted.flow).starts)
        text_of = getattr(start, "filter_text", lambda _, text: text)
        return {name: text_of(name, text) for name, text in wanted.attributes.items()}

    async def instance(self, flow: str, key: str, run: str = "") -> Instance:
        """One run; without `run` the key's newest."""
        self.flows.definition(flow)
        row = await self._read_model.instance(flow, key, run)
        if row is None:
            what = f"run {run!r} of key {key!r}" if run else f"instance {key!r}"
            raise NotFoundError(
                f"there is no {what}",
                where=f"flow {flow}",
                remedy="If it was started just now, read with the position that its start answered.",
            )
        detail = detail_of(row)
        timers = detail.timers
        runs = [known.run for known in await self._read_model.runs(flow, key)]
        return Instance(row, detail, waiting_for(detail), timers[0][1] if timers else "", runs)

    async def history(
        self, flow: str, key: str, *, run: str = "", after: int = -1, limit: int = 1_000
    ) -> list[HistoryRow]:
        """The key's events from after that offset on, at most `limit`; of every run unless one is named."""
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

    async def timeline(self, flow: str, key: str, run: str = "") -> list[TimelineRow]:
        """One run as a person tells it; without `run` the key's newest."""
        run = run or (await self.instance(flow, key)).row.run
        return timeline(self.flows.table(flow), await self.history(flow, key, run=run, limit=10_000))

    async def follow(self, flow: str, key: str, run: str = "", after: int = -1) -> AsyncIterator[HistoryRow | None]:
        """Every event of a run, those to come as they come; ends when the run has ended and all was told.

        None each time that it has looked in vain, so that the caller can show that it lives, or leave.
        """
        run = run or (await self.instance(flow, key)).row.run
        attribution = Attribution(self.flows.table(flow))
        last, wait_s = -1, FOLLOW_FIRST_S
        while True:
            instance = await self.instance(flow, key, run)
            async for row in self._histories.rows(flow, key, attribution=attribution, after=last):
                last, wait_s = row.offset, FOLLOW_FIRST_S
                if row.run == run and row.offset > after and not row.twin:
                    yield row
            if instance.detail.ended_ms:
                return
            yield None
            await self._clock.sleep(wait_s)
            wait_s = min(2 * wait_s, FOLLOW_S)

    async def counts(self, flow: str) -> dict[str, int]:
        """How many runs there are by status."""
        self.flows.definition(flow)
        return await self._read_model.counts(flow)

    async def lags(self, flow: str) -> list[Lag]:
        """How far the tracker, each service of the flow and the read model are behind, by partition."""
        definition = self.flows.definition(flow)
        groups = [TRACKER_GROUP, *sorted({step.service for step in definition.steps})]
        # What stands behind an open transaction cannot be read by anybody: it is no lag.
        ends = [await self._log.stable_end(flow, number) for number in range(await self._log.partitions(flow))]
        reached = {group: await self._log.committed(flow, group) for group in groups}
        reached[READ_MODEL] = await self._read_model.positions(flow)
        found = []
        for group, committed in reached.items():
            found += [Lag(flow, group, number, committed.get(number, 0), end) for number, end in enumerate(ends)]
        return found

    async def dead_letters(self, flow: str = "", limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Dead letters, newest first, of one flow or of all; `after` is the id the last page ended with."""
        if flow:
            self.flows.definition(flow)
        return await self._letters.list(flow or None, limit, after)

    async def dead_letter(self, letter_id: str) -> DeadLetter:
        """One dead letter."""
        return await self._letters.get(letter_id)

    async def dead_letter_count(self, flow: str) -> int:
        """How many there are of a flow, those given back included."""
        return await self._letters.count(flow)

    async def reached(self, position: Position, timeout_s: float) -> None:
        """Return when the read model has folded the event at this position; see `Positions`."""
        await self._positions.reached(position, timeout_s)
