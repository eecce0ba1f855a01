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
from choreo.app.steps.gated_runs import NO_VERSIONS, Answer, GatedKey
from choreo.core import gates, recent
from choreo.core.attribution import run_of
from choreo.core.definition import ParameterDefinition, WaitDefinition
from choreo.core.events import Position, Record
from choreo.core.flow_table import FlowTable
from choreo.core.gates import NO_READS, Arguments, Reads
from choreo.core.identity import identified
from choreo.ports.inbox import GateRow, GateSave, Inbox
from choreo.ports.log import Admits, Log

SCAN_AT_ONCE = 10_000
"""Records of a piece: of most only the type is read, some 20 ms in all, on Kafka in another thread."""
CACHED_MAX = 50_000
"""States in memory, some 500 bytes each: 25 MB. The others are loaded again."""


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
        versions: Mapping[int, Reads] = NO_VERSIONS,
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
        starts, fresh, known = self._table.flow.starts, self._fresh, self._cached
        # A key without a state belongs to no known run, and only a start makes one: a log that is read from its first
        # record has many events of runs that ended long ago.
        keys = {
            record.event.key: record.partition
            for record in records
            if record.event.type in self.types
            and (record.event.type == starts or record.event.key in known or record.partition not in fresh)
        }
        await self._load(keys)
        folded = [record for record in records if record.event.key in keys and record.event.type in self.types]
        return [(record, answer) for record in folded for answer in self._fold(record)]

    async def scan(self, log: Log, place: Position, until: int, partitions: int) -> int:
        """Fold a piece of a partition from `place` on, but nothing from offset `until` on; return the next offset.

        A record in a wrong partition is left out: its offset is none of its key's partition.
        """
        limit = min(SCAN_AT_ONCE, until - place.offset)
        records, following = await log.scan(*place, limit, self.types, self._admission(place.partition))
        await self.read([record for record in records if record.offset < until and in_place(record, partitions)])
        reached = min(following, until) if following > place.offset else until
        self.reached(place.partition, reached)
        return reached

    def _admission(self, partition: int) -> Admits | None:
        """Return which records of a scan have a key with a state or a start; None where it must be looked up."""
        if partition not in self._fresh:
            return None
        starts, known, started = self._table.flow.starts, self._cached, set[str]()

        def admits(type_: str, key: str) -> bool:
            if type_ == starts:
                started.add(key)
            return key in known or key in started

        return admits

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

    def version_and_build(self, key: str, run_id: str) -> tuple[int, str]:
        """Return the version and the build of a run that `run_of` has returned."""
        known = self._cached.get(key)
        runs = known.state.runs if known else ()
        return next(((run.version, run.build) for run in runs if run.id == run_id), (1, ""))

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
