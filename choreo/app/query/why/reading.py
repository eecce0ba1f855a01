"""Read the facts about a run from the ports, in an order in which they fit together. Decides nothing.

Offsets are read before the views: where an offset is past a trigger, the views already have the trigger's outcome.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from choreo.app.query.group_memory import SeenGroup
from choreo.app.query.history import HistoryRow
from choreo.app.query.read_your_writes import token_of
from choreo.app.query.why.facts import GroupFacts, Orphan, RunFacts, StepFacts, work_ms
from choreo.app.tracking.views import Detail, Effect, ExpectedStep, detail_of
from choreo.core import facts
from choreo.core.definition import StepDefinition, is_timer
from choreo.core.errors import ChoreoError, NotFoundError, UnavailableError
from choreo.core.events import Position, Record
from choreo.core.flow_table import FlowTable
from choreo.core.fold import TRACKER
from choreo.core.partition import partition_of
from choreo.core.state import REQUESTED
from choreo.ports.clock import Clock
from choreo.ports.dead_letters import DeadLetter, DeadLetters
from choreo.ports.log import TRACKER_GROUP, Log, service_group
from choreo.ports.read_model import InstanceView, ReadModel

LOOKED_AT = 1_000
"""Records of a partition that are looked at, behind an offset or before the end: some milliseconds."""
LETTERS_MAX = 1_000
"""Dead letters that are looked at, the newest."""
LIKE = 0.75
"""How much alike two keys are of which one may be the other, misspelt."""

Fields = Callable[[str, Record], Mapping[str, Any]]
"""Return the fields of an event of a flow; raises ChoreoError."""
RowOf = Callable[[str, str, str], Awaitable[InstanceView]]
"""Return the shown run of a flow and key; raises NotFoundError."""
History = Callable[[str, str, str], Awaitable[list[HistoryRow]]]
"""Return the events of a run of a flow and key."""
Reached = Callable[[Position, float], Awaitable[None]]
"""Wait for the read model; raises UnavailableError after so many seconds."""
Seen = Callable[[str, str], SeenGroup]
"""Return the observations of this process of a group of a flow."""
Unserved = Callable[[str, int], str]
"""Return why the present code cannot serve runs of a flow and version; "" if it can, or that is not known."""


class Reading:
    """Reads the facts about one run."""

    def __init__(
        self,
        table: FlowTable,
        log: Log,
        read_model: ReadModel,
        dead_letters: DeadLetters,
        clock: Clock,
        *,
        row_of: RowOf,
        history: History,
        reached: Reached,
        fields: Fields,
        unserved: Unserved,
        seen: Seen,
    ) -> None:
        """Keep the parts; nothing is read yet."""
        self._table = table
        self._flow = table.flow.name
        self._log = log
        self._read_model = read_model
        self._dead_letters = dead_letters
        self._clock = clock
        self._row_of = row_of
        self._history = history
        self._reached = reached
        self._fields = fields
        self._unserved = unserved
        self._seen = seen

    async def facts(self, key: str, run: str, patience_s: float) -> RunFacts:
        """Return the facts, of the newest run without `run`; waits so many seconds for the read model.

        Raises NotFoundError if no such run is shown.
        """
        partitions = await self._log.partitions(self._flow)
        partition = partition_of(key, partitions)
        groups: dict[str, GroupFacts] = {}
        needed = await self._expected_groups(key, run)
        while missing := sorted({*needed, TRACKER_GROUP} - groups.keys()):
            # A group that the run turned out to need is read, and the run once more behind it.
            groups |= zip(
                missing, await asyncio.gather(*(self._group(name, partition) for name in missing)), strict=True
            )
            end, reached, shown, row = await self._view(key, run, partition, patience_s, groups[TRACKER_GROUP])
            detail = detail_of(row)
            needed = _service_groups(self._table, detail)
        is_open = not detail.ended_ms
        rows: list[HistoryRow] = []
        tail: list[Record] = []
        letters: list[DeadLetter] = []
        orphan: Orphan | None = None
        if is_open:
            rows, tail, letters, orphan = await asyncio.gather(
                self._history(self._flow, key, row.run),
                self._log.read(self._flow, partition, max(0, end - LOOKED_AT), LOOKED_AT),
                self._letters(row, detail),
                self._orphan(key, detail, partitions),
            )
        steps = [await self._step(each, detail, rows, groups, tail) for each in _awaited(detail)]
        paused = next((each for each in reversed(rows) if each.type == facts.FLOW_PAUSED), None)
        return RunFacts(
            row,
            detail,
            self._clock.now_ms(),
            end,
            shown,
            reached,
            groups[TRACKER_GROUP],
            paused if detail.paused_ms else None,
            letters,
            steps,
            self._unserved(self._flow, detail.version) if is_open else "",
            orphan,
            partitions,
        )

    async def _view(
        self, key: str, run: str, partition: int, patience_s: float, tracker: GroupFacts
    ) -> tuple[int, bool, int, InstanceView]:
        """Return the log's end, whether the views have reached it, how far they show the log, and the run."""
        end = await self._log.stable_end(self._flow, partition)
        reached = await self._caught_up(Position(self._flow, partition, end - 1), patience_s)
        shown = (await self._read_model.positions(self._flow)).get(partition, 0)
        try:
            return end, reached, shown, await self._row_of(self._flow, key, run)
        except NotFoundError as error:
            if reached:
                raise
            raise _unread(self._flow, key, tracker) from error

    async def _expected_groups(self, key: str, run: str) -> set[str]:
        """Return the services' groups that the run waits for as it is shown now, to read them before the run."""
        try:
            return _service_groups(self._table, detail_of(await self._row_of(self._flow, key, run)))
        except NotFoundError:
            return set()

    def _tables(self) -> Iterable[FlowTable]:
        return (self._table, *self._table.versions.values())

    async def _caught_up(self, position: Position, patience_s: float) -> bool:
        if position.offset < 0:
            return True
        try:
            await self._reached(position, patience_s)
        except UnavailableError:
            return False
        return True

    async def _group(self, name: str, partition: int) -> GroupFacts:
        log = self._log
        offsets, members, end = await asyncio.gather(
            log.committed(self._flow, name), log.members(self._flow, name), log.stable_end(self._flow, partition)
        )
        committed = offsets.get(partition, 0)
        unread = await log.read(self._flow, partition, committed, 1) if committed < end else []
        seen, now_ms = self._seen(self._flow, name), self._clock.now_ms()
        seen.add(now_ms, members, offsets, {partition: end})
        return GroupFacts(
            name,
            members,
            partition,
            committed,
            end,
            unread[0].stamp_ms if unread else 0,
            seen.recent(now_ms),
            seen.progress(partition).moved_ms,
            seen.contested(now_ms),
        )

    async def _step(
        self,
        awaited: ExpectedStep | Effect,
        detail: Detail,
        rows: Sequence[HistoryRow],
        groups: Mapping[str, GroupFacts],
        tail: Sequence[Record],
    ) -> StepFacts:
        """Return the facts about a step, or about the undo of one."""
        undo = isinstance(awaited, Effect)
        definition = self._table.nearest(detail.version).steps.get(awaited.step)
        service = definition.service if definition else awaited.step.partition(".")[0]
        group = groups[service_group(service, detail.build)]
        trigger = _trigger_of(awaited, rows)
        failed = [row for row in rows if row.type == facts.STEP_ATTEMPT_FAILED and row.step == awaited.step]
        children = None if undo else next((each for each in detail.children if each.step == awaited.step), None)
        planned = definition.children if definition else None
        before = await self._before(group, service, trigger.offset) if trigger else Counter[str]()
        number = before.total()
        hot_key, hot = before.most_common(1)[0] if number else ("", 0)
        own = [record for record in tail if _is_of(record, service)]
        span_ms = own[-1].stamp_ms - own[0].stamp_ms if own else 0
        return StepFacts(
            awaited.step,
            service,
            undo,
            trigger.offset if trigger else -1,
            trigger.stamp_ms if trigger else getattr(awaited, "since_ms", 0),
            awaited.due_ms,
            0 if isinstance(awaited, Effect) else awaited.attempt,
            awaited.retry_ms,
            not isinstance(awaited, Effect) and awaited.held,
            _work_ms(definition, undo=undo),
            failed[-1].reason if failed else "",
            group,
            children,
            planned.flow if planned else "",
            number,
            hot_key,
            round(100 * hot / number) if number else 0,
            own[-1].stamp_ms if own else 0,
            1_000 * (len(own) - 1) / span_ms if span_ms > 0 else 0.0,
        )

    async def _before(self, group: GroupFacts, service: str, offset: int) -> Counter[str]:
        """Return the unfinished triggers of a service before an offset, counted by key: of the first thousand."""
        triggers = {type_ for each in self._tables() for step in each.flow.steps for type_ in _types_for(step, service)}
        if offset <= group.committed:
            return Counter()
        records = await self._log.read(self._flow, group.partition, group.committed, LOOKED_AT)
        return Counter(each.event.key for each in records if each.offset < offset and each.event.type in triggers)

    async def _letters(self, row: InstanceView, detail: Detail) -> list[DeadLetter]:
        """Return the dead letters that the run needs: of a step that it expects, or of an event that it waits for."""
        steps = {step.step for step in detail.expected}
        needed = {type_ for wait in detail.waits for type_ in self._answers(wait.name, detail.version)}
        needed |= {type_ for name in steps for type_ in self._outcomes(name, detail.version)}
        known = self._table.flow.types

        def is_needed(letter: DeadLetter) -> bool:
            event = letter.record.event
            unknown = event.type not in known and not event.type.startswith(facts.PREFIX)
            of_run = event.run in ("", row.run) and letter.set_aside_ms >= row.started_ms
            return (
                event.key == row.key
                and of_run
                and not letter.redriven
                and (letter.step in steps or event.type in needed or (unknown and bool(detail.waits)))
            )

        letters = await self._dead_letters.list(self._flow, LETTERS_MAX)
        return [letter for letter in letters if is_needed(letter)]

    def _answers(self, wait: str, version: int) -> set[str]:
        found = [each for each in self._table.nearest(version).flow.waits if each.name == wait]
        return {type_ for each in found for type_ in (each.until, *each.also, each.refused) if type_}

    def _outcomes(self, step: str, version: int) -> set[str]:
        found = self._table.nearest(version).steps.get(step)
        return {*found.emits, *found.fails} if found else set()

    async def _orphan(self, key: str, detail: Detail, partitions: int) -> Orphan | None:
        """Return the newest event that the run waits for under a key much like its own, of which there is no run."""
        waits = [wait for wait in detail.waits if not is_timer(wait.name)]
        wanted = frozenset(type_ for wait in waits for type_ in self._answers(wait.name, detail.version))
        since_ms = min((wait.since_ms for wait in waits), default=0)
        found: Record | None = None
        tails = await asyncio.gather(*(self._newest(number, wanted) for number in range(partitions if wanted else 0)))
        for records in tails:
            for record in records:
                is_new = record.stamp_ms >= since_ms and (found is None or record.stamp_ms > found.stamp_ms)
                if is_new and record.event.key != key and alike(record.event.key, key):
                    found = record if await self._is_orphan(record) else found
        return None if found is None else self._orphan_of(found, key)

    async def _newest(self, partition: int, types: frozenset[str]) -> Sequence[Record]:
        end = await self._log.stable_end(self._flow, partition)
        records, _ = await self._log.scan(self._flow, partition, max(0, end - LOOKED_AT), LOOKED_AT, types)
        return records

    async def _is_orphan(self, record: Record) -> bool:
        event = record.event
        return not event.run and await self._read_model.instance(self._flow, event.key) is None

    def _orphan_of(self, record: Record, key: str) -> Orphan:
        event = record.event
        try:
            fields = dict(self._fields(self._flow, record))
        except ChoreoError:
            fields = {}
        text = json.dumps({**fields, self._table.flow.key: key}, default=str) if fields else ""
        return Orphan(event.type, event.key, token_of(record.position), record.stamp_ms, event.source, text)


def alike(one: str, other: str) -> bool:
    """Return whether a key may be another one that was misspelt: other case, other signs, or a few other letters."""
    plain = ["".join(filter(str.isalnum, text.casefold())) for text in (one, other)]
    digits = ["".join(filter(str.isdigit, text)).lstrip("0") for text in (one, other)]
    if plain[0] == plain[1]:
        return True
    if digits[0] != digits[1]:
        return False  # keys differ by their numbers: o-1001 is not o-1002
    return SequenceMatcher(None, plain[0], plain[1], autojunk=False).ratio() >= LIKE


def _unread(flow: str, key: str, tracker: GroupFacts) -> UnavailableError:
    """Return the error for a run that the views may not have yet."""
    away = not tracker.members
    return UnavailableError(
        f"no run of key {key!r} is shown, and the read model is behind the log",
        where=f"flow {flow}, partition {tracker.partition}: {'no tracker is running' if away else 'reading'}",
        remedy="Start a tracker: choreo run tracker." if away else "Ask again in a moment.",
    )


def _service_groups(table: FlowTable, detail: Detail) -> set[str]:
    """Return the groups of the services whose steps and undos a run waits for."""
    steps = table.nearest(detail.version).steps
    names = [each.step for each in _awaited(detail)]
    services = {steps[name].service if name in steps else name.partition(".")[0] for name in names}
    return {service_group(service, detail.build) for service in services}


def _awaited(detail: Detail) -> list[ExpectedStep | Effect]:
    if detail.ended_ms:
        return []
    return [*detail.expected, *(effect for effect in detail.ledger if effect.state == REQUESTED)]


def _trigger_of(awaited: ExpectedStep | Effect, rows: Sequence[HistoryRow]) -> HistoryRow | None:
    """Return the record that starts the present attempts: the trigger or request, or the last retry that was due."""
    if isinstance(awaited, Effect):
        starts = [row for row in rows if row.entry == awaited.entry and row.type in _REQUESTS]
    else:
        retries = [row for row in rows if row.type == facts.STEP_RETRY_DUE and row.trigger == awaited.trigger]
        starts = [row for row in rows if row.id == awaited.trigger and row.type != facts.STEP_RETRY_DUE]
        starts += [row for row in retries if row.step == awaited.step]
    return starts[-1] if starts else None


_REQUESTS = frozenset({facts.COMPENSATION_REQUESTED, facts.STEP_RETRY_DUE})


def _work_ms(step: StepDefinition | None, *, undo: bool) -> int:
    attempts = step.compensation if step and undo else step
    return work_ms(attempts.timeout_ms, attempts.retry) if attempts else 0


def _types_for(step: StepDefinition, service: str) -> Sequence[str]:
    return step.triggers if step.service == service else ()


def _is_of(record: Record, service: str) -> bool:
    """Return whether a fact was published by a process of the service."""
    return record.event.step.partition(".")[0] == service and record.event.source != TRACKER
