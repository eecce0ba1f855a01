"""Gates as a step host folds them: the open runs of each key, and which events from outside trigger its steps.

Only services with a step behind a wait have them. The states are kept in the inbox with the commits, and loaded from it
key by key. What was folded is not folded again; what became ready stays answerable until the position behind it is
committed, so that a record that is read again makes its jobs again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from choreo.app.duties import RUN_FACTS
from choreo.core import facts, gates
from choreo.core.definition import FlowTable, WaitDefinition
from choreo.core.events import Envelope, Record
from choreo.core.fold import identified
from choreo.core.gates import Gates, Outside
from choreo.ports.inbox import GateRow, GateSave, Inbox

CACHED_MAX = 50_000
"""States in memory, some 500 bytes each: 25 MB. The others are loaded again."""


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a record made of an event from outside: a trigger, or with `ignored` the reason why it is none."""

    source: int
    """Offset of the record that decided it."""
    run: str
    event: Outside
    ignored: str = ""


class GatedRun(msgspec.Struct, array_like=True, gc=False):
    """One run of a key, as far as its gates need it. Times are the log's stamps in epoch milliseconds."""

    id: str
    ended_ms: int = 0
    paused_ms: int = 0
    pause_n: int = 0
    gates: Gates = Gates()


class GatedKey(msgspec.Struct, array_like=True, gc=False):
    """The runs of one key in the order of their starts, up to and including the record at `position`."""

    position: int = -1
    now_ms: int = 0
    runs: list[GatedRun] = []
    answers: list[Answer] = []

    def read(self, table: FlowTable, record: Record) -> list[Answer]:
        """Fold one record in and return what it decides; one that was read before decides the same again."""
        if record.offset <= self.position:
            return [answer for answer in self.answers if answer.source == record.offset]
        self.position, self.now_ms = record.offset, max(self.now_ms, record.stamp_ms)
        limit_ms = self.now_ms - table.flow.linger_ms
        self.runs = [run for run in self.runs if not run.ended_ms or run.ended_ms >= limit_ms]
        event = identified(record)
        run = self._started(event) if event.type == table.flow.starts else self.run_of(event)
        answers = self._fold(table, run, event, record.offset) if run is not None else []
        self.answers += answers
        return answers

    @property
    def ended_ms(self) -> int:
        """When the last run ended; 0 while one is open."""
        if any(not run.ended_ms for run in self.runs):
            return 0
        return max((run.ended_ms for run in self.runs), default=1)

    def run_of(self, event: Envelope) -> GatedRun | None:
        """Return the run that an event belongs to: the same as in the tracker's state."""
        if event.run:
            return next((run for run in self.runs if run.id == event.run), None)
        known = (run for run in self.runs if gates.has_read(run.gates, event.id, event.type))
        open_ = (run for run in self.runs if not run.ended_ms)
        return next(known, None) or next(open_, None)

    def _started(self, event: Envelope) -> GatedRun | None:
        if any(run.id == event.id for run in self.runs):
            return None
        self.runs.append(GatedRun(event.id))
        return self.runs[-1]

    def _fold(self, table: FlowTable, run: GatedRun, event: Envelope, offset: int) -> list[Answer]:
        type_ = event.type
        if type_ in gates.CLOSES:
            run.gates = gates.closed(run.gates, type_)
            if type_ in facts.ENDS:
                run.ended_ms = run.ended_ms or max(1, self.now_ms)
        elif type_ in (facts.FLOW_PAUSED, facts.FLOW_RESUMED):
            self._pause(run, event)
        elif type_ in table.wait_failures:
            if not run.paused_ms:
                run.gates = gates.timed_out(run.gates, event.step, event.trigger, event.due_ms)
        else:
            about = Outside(type_, event.id, offset, event.hops)
            run.gates, moves = gates.came(table, run.gates, about, run.paused_ms or self.now_ms)
            return [answer for move in moves if (answer := _answer(move, run, offset))]
        return []

    def _pause(self, run: GatedRun, event: Envelope) -> None:
        """As the tracker does: the highest number of the series rules, and due times stand still meanwhile."""
        if event.n <= run.pause_n or run.ended_ms:
            return
        run.pause_n = event.n
        if event.type == facts.FLOW_PAUSED:
            run.paused_ms = run.paused_ms or self.now_ms
        elif run.paused_ms:
            run.gates = gates.moved(run.gates, self.now_ms - run.paused_ms)
            run.paused_ms = 0


def _answer(move: gates.Move, run: GatedRun, offset: int) -> Answer | None:
    if isinstance(move, gates.Ready):
        return Answer(offset, run.id, move.event)
    if isinstance(move, gates.Ignored) and not run.ended_ms:
        return Answer(offset, run.id, move.event, move.reason)
    return None


class _Cached(NamedTuple):
    partition: int
    state: GatedKey


class Saving(NamedTuple):
    """What is to be saved, and which change of each key that covers."""

    save: GateSave
    changes: Mapping[str, int]


class GateBook:
    """The gates of the keys at hand, of one service in one flow."""

    def __init__(
        self, table: FlowTable, waits: Sequence[WaitDefinition], types: AbstractSet[str], inbox: Inbox
    ) -> None:
        """Fold the events of these types; `waits` are those that they decide about."""
        self._table = table
        self._inbox = inbox
        self.gated: frozenset[str] = frozenset(wait.until for wait in waits)
        """Types that trigger a step only through a gate."""
        self.types: frozenset[str] = frozenset(types)
        """Types that are folded, and must be read; empty where nothing is."""
        shape = repr((table.flow.starts, sorted((wait.on, wait.until, wait.fails) for wait in waits)))
        self._shape = blake2b(shape.encode(), digest_size=8).hexdigest()
        self._cached: dict[str, _Cached] = {}
        self._read: dict[int, int] = {}
        """Partition → the offset up to which its records are folded."""
        self._fresh: set[int] = set()
        """Partitions of which the inbox had nothing, so that nothing need be loaded from it."""
        self._unsaved: dict[str, int] = {}
        """Key → number of its last change."""
        self._changes = 0

    async def begin(self, partition: int) -> int:
        """Return the offset up to which the inbox has this partition's gates; 0 where it knows none of this shape."""
        at = await self._inbox.gates_position(self._table.flow.name, self._shape, partition)
        self._read[partition] = at
        if not at:
            self._fresh.add(partition)
        return at

    async def read(self, records: Sequence[Record]) -> list[tuple[Record, Answer]]:
        """Fold these records in and return what they decide, in order; those read before decide the same again."""
        records = [record for record in records if record.event.type in self.types]
        await self._load({record.event.key: record.partition for record in records})
        return [(record, answer) for record in records for answer in self._fold(record)]

    async def run_of(self, record: Record) -> str:
        """Return the run that an event without one belongs to; "" where its key has none that is open."""
        key = record.event.key
        await self._load({key: record.partition})
        known = self._cached.get(key)
        run = known.state.run_of(identified(record)) if known else None
        return run.id if run else ""

    def reached(self, partition: int, offset: int) -> None:
        """Note that everything of a partition before this offset is folded."""
        self._read[partition] = max(offset, self._read.get(partition, 0))

    def unsaved(self, committed: Mapping[int, int]) -> Saving:
        """Return what the inbox does not know yet; what lies before the `committed` offsets needs no answer again."""
        rows: dict[str, GateRow] = {}
        for key in self._unsaved:
            partition, state = self._cached[key]
            if state.answers:
                done = committed.get(partition, 0)
                state.answers = [answer for answer in state.answers if answer.source >= done]
            rows[key] = GateRow(partition, state.position, state.ended_ms, _encoder.encode(state))
        return Saving(GateSave(self._table.flow.name, self._shape, dict(self._read), rows), dict(self._unsaved))

    def saved(self, saving: Saving) -> None:
        """The inbox knows these now."""
        for key, change in saving.changes.items():
            if self._unsaved.get(key) == change:
                del self._unsaved[key]

    async def save(self, committed: Mapping[int, int]) -> None:
        """Save outside of a commit."""
        saving = self.unsaved(committed)
        await self._inbox.keep_gates(saving.save)
        self.saved(saving)

    def lose(self, partition: int) -> None:
        """The partition is another's, who goes on from what was saved."""
        self._read.pop(partition, None)
        self._fresh.discard(partition)
        for key in [key for key, known in self._cached.items() if known.partition == partition]:
            del self._cached[key]
            self._unsaved.pop(key, None)

    async def _load(self, keys: Mapping[str, int]) -> None:
        """Have the states of these keys at hand; each with its partition."""
        if len(self._cached) > CACHED_MAX:
            self._cached = {key: known for key, known in self._cached.items() if key in self._unsaved}
            self._fresh.clear()  # what was let go is to be found in the inbox again
        missing = {key: partition for key, partition in keys.items() if key not in self._cached}
        wanted = [key for key, partition in missing.items() if partition not in self._fresh]
        known = await self._inbox.gates(self._table.flow.name, self._shape, wanted) if wanted else {}
        for key, partition in missing.items():
            state = _decoder.decode(known[key]) if key in known else GatedKey()
            self._cached[key] = _Cached(partition, state)

    def _fold(self, record: Record) -> list[Answer]:
        key = record.event.key
        known = self._cached.get(key)
        if known is None:  # nothing was left of it by a record before
            known = self._cached[key] = _Cached(record.partition, GatedKey())
        had_runs = bool(known.state.runs) or key in self._unsaved
        answers = known.state.read(self._table, record)
        if not known.state.runs and not had_runs:
            del self._cached[key]  # it is of no run that is known: nothing to be remembered
        elif record.offset == known.state.position:
            self._changes += 1
            self._unsaved[key] = self._changes
        return answers


def gates_of(table: FlowTable, triggers: Iterable[str], inbox: Inbox) -> GateBook:
    """Return the gates of a service whose steps are on these types: without any where no step stands behind a wait."""
    waits = table.gate_waits(triggers)
    return GateBook(table, waits, _folded(table, waits), inbox)


def runs_of(table: FlowTable, inbox: Inbox) -> GateBook:
    """Return the open runs of each key alone, for an event of a step that says not which run it is of."""
    return GateBook(table, (), {table.flow.starts} | facts.ENDS, inbox)


def _folded(table: FlowTable, waits: Sequence[WaitDefinition]) -> frozenset[str]:
    if not waits:
        return frozenset()
    types = {type_ for wait in waits for type_ in (wait.on, wait.until, wait.fails)}
    return frozenset(types | RUN_FACTS | {table.flow.starts})


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(GatedKey)
