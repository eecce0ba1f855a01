"""Gates of a step host: the open runs of each key, and which events trigger the steps that wait for more than one.

Only services with a step behind a wait, with a join or with needed events have gates. Their states are saved in the
inbox with the commits, and loaded key by key. A record that was folded before is not folded again; its answers are kept
until the offset after it is committed, so that a record that is read again makes its jobs again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from choreo.app.steps.admission import in_place
from choreo.core import facts, gates, openings, recent, retired
from choreo.core.admission import stands_still
from choreo.core.attribution import run_of
from choreo.core.definition import ParameterDefinition, WaitDefinition
from choreo.core.events import Envelope, Position, Record
from choreo.core.flow_table import FlowTable
from choreo.core.gates import NO_READS, Arguments, Gates, Outside, Reads, Seen
from choreo.core.identity import identified
from choreo.ports.inbox import GateRow, GateSave, Inbox
from choreo.ports.log import Log

_NO_VERSIONS: Mapping[int, Reads] = {}

SCAN_AT_ONCE = 10_000
"""Records of a piece: of most only the type is read, some 20 ms in all, on Kafka in another thread."""
CACHED_MAX = 50_000
"""States in memory, some 500 bytes each: 25 MB. The others are loaded again."""

FIRED_MAX = 100
"""Triggers of a run whose arguments are remembered for later attempts; only steps on a cycle have more than one."""


class Answer(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A decision about an event: it is a trigger, or with `ignored` the reason why it is none."""

    source: int
    """Offset of the record that decided."""
    run: str
    event: Outside
    ignored: str = ""
    step: str = ""
    """The only step that it triggers; "" for all steps on it that take nothing else."""
    arguments: Arguments = ()
    version: int = 1
    """Version of the run."""


class Fired(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The arguments of a step's attempts at one trigger, each the same."""

    step: str
    trigger: str
    arguments: Arguments


class GatedRun(msgspec.Struct, array_like=True, gc=False):
    """One run of a key and its gates. Times are the log's stamps in epoch milliseconds."""

    id: str
    ended_ms: int = 0
    paused_ms: int = 0
    pause_n: int = 0
    gates: Gates = Gates()
    recent: bytes = b""
    """Memory of events that named no run, and that no gate reads."""
    fired: list[Fired] = []
    version: int = 1
    """Version of the flow in its start."""
    at_close: tuple[Seen, ...] | None = None
    """The needed events that were there when its gates closed: every compensation gets these; None before that."""

    @property
    def has_end(self) -> bool:
        """Return whether an end fact of it was read."""
        return bool(self.ended_ms)

    def has_read(self, event: Envelope) -> bool:
        """Return whether this event, which names no run, was its own before."""
        token = recent.token(event.type, event.id)
        return recent.knows(self.gates.read, token) or recent.knows(self.recent, token)


class GatedKey(msgspec.Struct, array_like=True, gc=False):
    """The runs of one key in the order of their starts, up to and including the record at `position`."""

    position: int = -1
    now_ms: int = 0
    runs: list[GatedRun] = []
    answers: list[Answer] = []
    retired: list[retired.Page] = []
    """Memory of runs that have ended, besides the newest."""

    def read(
        self, table: FlowTable, record: Record, reads: Reads = NO_READS, versions: Mapping[int, Reads] = _NO_VERSIONS
    ) -> list[Answer]:
        """Fold one record in and return its decisions; a record read before decides the same again.

        `reads` are those of the flow's present version, `versions` of its others.
        """
        if record.offset <= self.position:
            return [answer for answer in self.answers if answer.source == record.offset]
        self.position, self.now_ms = record.offset, max(self.now_ms, record.stamp_ms)
        self._let_go(self.now_ms - table.flow.linger_ms)
        event = identified(record)
        run = self._started(event) if event.type == table.flow.starts else run_of(event, self.runs, self.retired)
        if run is not None and run.version in versions:
            table, reads = table.nearest(run.version), versions[run.version]
        answers = self._fold(table, reads, run, event, record.offset) if run is not None else []
        self.answers += answers
        return answers

    @property
    def ended_ms(self) -> int:
        """Return when the last run ended; 0 while one is open."""
        if any(not run.ended_ms for run in self.runs):
            return 0
        return max((run.ended_ms for run in self.runs), default=1)

    def _let_go(self, limit_ms: int) -> None:
        """Forget runs that ended before that moment; of those beyond the newest keep only that they were."""
        self.retired = retired.remaining(self.retired, limit_ms)
        ended = [run for run in self.runs if run.ended_ms]
        lingering = [run for run in ended if run.ended_ms >= limit_ms]
        gone = lingering[: max(0, len(lingering) - retired.KEPT_MAX)]
        for run in gone:
            self.retired = retired.added(self.retired, run.id, run.ended_ms, run.gates.read + run.recent)
        if gone or len(lingering) < len(ended):
            kept = {run.id for run in lingering[len(gone) :]}
            self.runs = [run for run in self.runs if not run.ended_ms or run.id in kept]

    def _started(self, event: Envelope) -> GatedRun | None:
        if any(run.id == event.id for run in self.runs):
            return None
        if retired.knows(self.retired, retired.run_token(event.id)):
            return None
        self.runs.append(GatedRun(event.id, version=event.version))
        return self.runs[-1]

    def _fold(self, table: FlowTable, reads: Reads, run: GatedRun, event: Envelope, offset: int) -> list[Answer]:
        type_ = event.type
        about = gates.outside_of(event, offset)
        if type_ in gates.CLOSES:
            run.at_close = run.gates.seen if run.at_close is None else run.at_close
            run.gates = gates.closed(run.gates, type_)
            if type_ in facts.ENDS:
                run.ended_ms = run.ended_ms or max(1, self.now_ms)
        elif type_ in (facts.FLOW_PAUSED, facts.FLOW_RESUMED):
            self._pause(run, event)
        elif type_ in table.timeouts or type_ in table.reminders:
            before = run.gates
            if not stands_still(event, run.paused_ms):
                run.gates = _timed(table, before, event)
            if run.gates is not before:  # one that changes no wait is void, and no trigger either
                return [Answer(offset, run.id, about, version=run.version), *self._came(table, reads, run, about)]
        elif type_ == facts.WAIT_CLOSED:
            run.gates = openings.wait_closed(run.gates, event.step, event.trigger)
        else:
            return self._came(table, reads, run, about)
        return []

    def _came(self, table: FlowTable, reads: Reads, run: GatedRun, event: Outside) -> list[Answer]:
        run.gates, moves = gates.came(table, run.gates, event, run.paused_ms or self.now_ms, reads)
        return [answer for move in moves if (answer := _answer(reads, move, run, event.offset))]

    def _pause(self, run: GatedRun, event: Envelope) -> None:
        """Pause or resume as the tracker does: the highest number of the series counts, and due times stand still."""
        if event.n <= run.pause_n or run.ended_ms:
            return
        run.pause_n = event.n
        if event.type == facts.FLOW_PAUSED:
            run.paused_ms = run.paused_ms or self.now_ms
        elif run.paused_ms:
            run.gates = gates.moved(run.gates, self.now_ms - run.paused_ms)
            run.paused_ms = 0


def _timed(table: FlowTable, before: Gates, event: Envelope) -> Gates:
    """Return the gates after a time-out, a reminder or an escalation; the same ones if it does not count."""
    if event.type in table.timeouts:
        return gates.timed_out(before, event.step, event.trigger, event.due_ms)
    return openings.reminded(table, before, openings.Said(event.type, event.step, event.trigger, event.due_ms))[0]


def _answer(reads: Reads, move: gates.Move, run: GatedRun, offset: int) -> Answer | None:
    match move:
        case gates.Ready(event):
            return Answer(offset, run.id, event, version=run.version)
        case gates.Triggered(step, event, arguments) if step.name in reads.steps:
            run.fired = [*run.fired, Fired(step.name, event.id, arguments)][-FIRED_MAX:]
            return Answer(offset, run.id, event, step=step.name, arguments=arguments, version=run.version)
        case gates.Ignored(event, reason, step=step) if not run.ended_ms and (not step or step in reads.steps):
            return Answer(offset, run.id, event, reason, step, version=run.version)
    return None


class _Cached(NamedTuple):
    partition: int
    state: GatedKey


class Saving(NamedTuple):
    """The rows to be saved, and the change of each key that they cover."""

    save: GateSave
    changes: Mapping[str, int]


class GateBook:
    """The gates of the keys at hand, of one service in one flow."""

    def __init__(
        self,
        table: FlowTable,
        waits: Sequence[WaitDefinition],
        types: AbstractSet[str],
        inbox: Inbox,
        reads: Reads = NO_READS,
        versions: Mapping[int, Reads] = _NO_VERSIONS,
    ) -> None:
        """Fold the events of these types; they decide about the events of these `waits` and the steps of `reads`.

        `versions` are the reads of the flow's other versions.
        """
        self._table = table
        self._inbox = inbox
        self._reads = reads
        self._versions = versions
        self.gated: frozenset[str] = frozenset(
            type_ for wait in waits for type_ in (*wait.answers, wait.late, *wait.says)
        )
        """Types that trigger a step only through a gate."""
        self.types: frozenset[str] = frozenset(types)
        """Types that are folded, and must be read; empty where nothing is."""
        taken = [(name, step.triggers, step.takes) for name, step in table.steps.items() if name in reads.steps]
        for version, other in versions.items():
            steps = table.nearest(version).steps
            taken += [(name, steps[name].triggers, steps[name].takes) for name in other.steps if name in steps]
        shape = repr((table.flow.starts, sorted(map(_shape_of, waits)), sorted(reads.needed.items()), *sorted(taken)))
        self._shape = blake2b(shape.encode(), digest_size=8).hexdigest()
        self._cached: dict[str, _Cached] = {}
        self._read: dict[int, int] = {}
        """Partition → the offset up to which its records are folded."""
        self._fresh: set[int] = set()
        """Partitions without rows in the inbox: nothing need be loaded."""
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
        """Fold these records in and return their decisions, in order; a record read before decides the same again."""
        records = [record for record in records if record.event.type in self.types]
        await self._load({record.event.key: record.partition for record in records})
        return [(record, answer) for record in records for answer in self._fold(record)]

    async def scan(self, log: Log, place: Position, until: int, partitions: int) -> int:
        """Fold a piece of a partition from `place` on, but nothing from offset `until` on; return the next offset.

        A record in a wrong partition is left out: its offset is none of its key's partition.
        """
        limit = min(SCAN_AT_ONCE, until - place.offset)
        records, following = await log.scan(*place, limit, self.types)
        await self.read([record for record in records if record.offset < until and in_place(record, partitions)])
        reached = min(following, until) if following > place.offset else until
        self.reached(place.partition, reached)
        return reached

    async def run_of(self, record: Record) -> str:
        """Return the run of an event without one; "" where its key has none that is open."""
        key = record.event.key
        await self._load({key: record.partition})
        known = self._cached.get(key)
        event = identified(record)
        run = run_of(event, known.state.runs, known.state.retired) if known else None
        if run is None:
            return ""
        if not event.run and not run.has_read(event):
            run.recent = recent.with_new(run.recent, recent.token(event.type, event.id))
            self._changed(key)
        return run.id

    def version_of(self, key: str, run_id: str) -> int:
        """Return the version of a run that `run_of` has returned."""
        known = self._cached.get(key)
        return next((run.version for run in known.state.runs if run.id == run_id), 1) if known else 1

    async def arguments_of(self, call: Record, trigger: str) -> Arguments | None:
        """Return the arguments of a step's attempts at this trigger, which a record asks for again.

        Return None if nothing of it is known any more.
        """
        event = call.event
        await self._load({event.key: call.partition})
        known = self._cached.get(event.key)
        for run in known.state.runs if known else ():
            for fired in run.fired:
                if fired.trigger == trigger and fired.step == event.step:
                    return fired.arguments
        return None

    async def arguments_to_undo(self, call: Record, parameters: Sequence[ParameterDefinition]) -> Arguments | None:
        """Return the events of a run from before compensation began, by argument; None if the run is forgotten."""
        event = call.event
        await self._load({event.key: call.partition})
        known = self._cached.get(event.key)
        run = next((run for run in known.state.runs if run.id == event.run), None) if known else None
        if run is None:
            return None
        seen = run.gates.seen if run.at_close is None else run.at_close
        return tuple(gates.needed_events(parameter, seen) if parameter.type else () for parameter in parameters)

    def reached(self, partition: int, offset: int) -> None:
        """Note that everything of a partition before this offset is folded."""
        self._read[partition] = max(offset, self._read.get(partition, 0))

    def unsaved(self, committed: Mapping[int, int]) -> Saving:
        """Return the rows that the inbox does not have; answers before the `committed` offsets are left out."""
        rows: dict[str, GateRow] = {}
        for key in self._unsaved:
            partition, state = self._cached[key]
            if state.answers:
                done = committed.get(partition, 0)
                state.answers = [answer for answer in state.answers if answer.source >= done]
            rows[key] = GateRow(partition, state.position, state.ended_ms, _encoder.encode(state))
        return Saving(GateSave(self._table.flow.name, self._shape, dict(self._read), rows), dict(self._unsaved))

    def saved(self, saving: Saving) -> None:
        """Note that the inbox has these rows."""
        for key, change in saving.changes.items():
            if self._unsaved.get(key) == change:
                del self._unsaved[key]

    async def save(self, committed: Mapping[int, int]) -> None:
        """Save outside of a commit."""
        saving = self.unsaved(committed)
        await self._inbox.keep_gates(saving.save)
        self.saved(saving)

    def lose(self, partition: int) -> None:
        """Forget the partition: another consumer goes on from the saved rows."""
        self._read.pop(partition, None)
        self._fresh.discard(partition)
        for key in [key for key, known in self._cached.items() if known.partition == partition]:
            del self._cached[key]
            self._unsaved.pop(key, None)

    async def _load(self, keys: Mapping[str, int]) -> None:
        """Load the states of these keys (key → partition) that are not in memory."""
        if len(self._cached) > CACHED_MAX:
            self._cached = {key: known for key, known in self._cached.items() if key in self._unsaved}
            self._fresh.clear()  # evicted states are in the inbox
        missing = {key: partition for key, partition in keys.items() if key not in self._cached}
        wanted = [key for key, partition in missing.items() if partition not in self._fresh]
        known = await self._inbox.gates(self._table.flow.name, self._shape, wanted) if wanted else {}
        for key, partition in missing.items():
            state = _decoder.decode(known[key]) if key in known else GatedKey()
            self._cached[key] = _Cached(partition, state)

    def _fold(self, record: Record) -> list[Answer]:
        key = record.event.key
        known = self._cached.get(key)
        if known is None:  # a record before has dropped it
            known = self._cached[key] = _Cached(record.partition, GatedKey())
        had_runs = bool(known.state.runs) or key in self._unsaved
        answers = known.state.read(self._table, record, self._reads, self._versions)
        if not known.state.runs and not had_runs:
            del self._cached[key]  # it belongs to no known run
        elif record.offset == known.state.position:
            self._changed(key)
        return answers

    def _changed(self, key: str) -> None:
        self._changes += 1
        self._unsaved[key] = self._changes


def _shape_of(wait: WaitDefinition) -> tuple[object, ...]:
    """Return the parts of a wait that change which events its gate takes."""
    more = (wait.at, wait.moved_by, wait.says, wait.optional)
    return (wait.on, wait.answers, wait.late, *(more if any(more) else ()))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(GatedKey)
