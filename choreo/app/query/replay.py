"""Replay: fold a recording again with the present code and flow, and report every difference to its log and views.

A shown row is compared at the offset at which it is true. A decision in the log is looked for among those of the fold,
and each decision of the fold in the log. Reads only. The fold is the tracker's own, so that without a difference a
deployment changes nothing for the runs in flight.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from operator import attrgetter

import msgspec

from choreo.app.paging import Pages
from choreo.app.query.comparison import compared
from choreo.app.query.status_text import moment
from choreo.app.tracking.fold import CACHED_MAX, AttributesOf, Batch, FieldsOf, PartitionFold, Tracked
from choreo.core import facts
from choreo.core.admission import early_ms
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.fold import TRACKER
from choreo.core.partition import partition_of
from choreo.core.state import TRUNCATED, KeyState, decode, encode
from choreo.core.timers import due
from choreo.ports.read_model import InstanceView
from choreo.ports.recording import Recording

READ_AT_ONCE = 2_000
"""Records of a read: some milliseconds of folding."""
GRACE_MS = 10_000
"""How old a decision is before its absence from the log counts: a tracker publishes within milliseconds, and one that
takes a partition over within the lease of the other."""
_FAR_MS = 1 << 53
_ABSENT = "not in the log"
_NOT_OURS = frozenset({facts.CHILD_ENDED, facts.FLOW_PAUSED, facts.FLOW_RESUMED, facts.FLOW_TERMINATED})
"""Facts that the bridge brings from other logs, or that operators publish, too."""


class Kind(StrEnum):
    """Subject of a difference."""

    STATE = "state"
    """A shown run and its fold."""
    DECISION = "decision"
    """A decision in the log that the fold does not make, or one of the fold that the log does not have."""
    TIMER = "timer"
    """The moment of a timer fact."""
    RECORD = "record"
    """A record that the present code cannot read or place."""


class Difference(msgspec.Struct, frozen=True):
    """A difference between a recording and its fold by the present code and flow."""

    kind: Kind
    key: str
    run: str
    partition: int
    offset: int
    about: str
    """The field of a run, or the type of an event."""
    recorded: str
    replayed: str


class Replay:
    """One flow's replay. `differences` does the work; the counts are whole once it has ended."""

    def __init__(
        self, table: FlowTable, recording: Recording, attributes_of: AttributesOf, fields_of: FieldsOf | None = None
    ) -> None:
        """Keep the parts; nothing is read yet."""
        self.records: int = 0
        self.runs: int = 0
        """Runs that were compared."""
        self.truncated: int = 0
        """Runs that cannot be compared: their start is not in the recording."""
        self._table = table
        self._recording = recording
        self._attributes_of = attributes_of
        self._fields_of = fields_of

    async def differences(self, key: str = "") -> AsyncIterator[Difference]:
        """Yield every difference, by partition and offset; with `key` those of one instance.

        Raises NotFoundError on an unknown flow.
        """
        flow = self._table.flow.name
        partitions = await self._recording.partitions(flow)
        known = await self._recording.set_aside(flow)
        shown: dict[int, list[InstanceView]] = {}
        async for row in self._recording.views(flow, key):
            shown.setdefault(row.partition, []).append(row)
        positions = await self._recording.positions(flow)
        for partition in (partition_of(key, partitions),) if key else range(partitions):
            fold = PartitionFold(self._table, partition, partitions, self._attributes_of, self._fields_of)
            aside = {offset for number, offset in known if number == partition}
            replayed = _Partition(fold, shown.get(partition, ()), positions.get(partition, 0), aside)
            async for records in self._pages(partition, key):
                for difference in replayed.read(records):
                    yield difference
            for difference in replayed.end(self._recording.as_of_ms):
                yield difference
            self.records += replayed.records
            self.runs += replayed.runs
            self.truncated += replayed.truncated

    async def _pages(self, partition: int, key: str) -> AsyncIterator[Sequence[Record]]:
        """Yield the records of a partition, or of the key."""
        flow, following, pages = self._table.flow.name, 0, Pages(READ_AT_ONCE)
        while True:
            limit = pages.limit(READ_AT_ONCE)
            if key:
                records = await self._recording.history(flow, key, following - 1, limit)
            else:
                records = await self._recording.read(flow, partition, following, limit)
            if not records:
                return
            pages.read(records)
            yield records
            following = records[-1].offset + 1


class _Partition:
    """One partition in replay: its fold, and the rows and decisions still to compare."""

    def __init__(self, fold: PartitionFold, shown: Sequence[InstanceView], position: int, aside: set[int]) -> None:
        self.records = 0
        self.runs = 0
        self.truncated = 0
        self._fold = fold
        self._rows: dict[int, list[InstanceView]] = {}
        for row in shown:
            self._rows.setdefault(row.position, []).append(row)
        self._known = {(row.key, row.run) for row in shown}
        self._position = position
        """Up to here the views are true."""
        self._aside = aside
        self._cold: dict[str, tuple[bytes, dict[str, Mapping[str, str]]]] = {}
        """States that the fold did not need for longest, encoded: a fifth of their size."""
        self._decided: set[int] = set()
        """Hashes of the ids of all decisions of the fold: a duplicate may come at any time."""
        self._unread: dict[str, Envelope] = {}
        """Decisions of the fold that did not stand in the log so far."""

    def read(self, records: Sequence[Record]) -> Iterator[Difference]:
        """Fold some records, and yield the differences that they show."""
        self.records += len(records)
        for piece in self._pieces(records):
            fold = self._fold
            self._load(fold.missing(piece))
            dues = self._dues(piece[0]) if piece[0].event.due_ms else {}
            batch = fold.fold(piece, 0)
            for event in batch.outputs:
                self._decided.add(hash(event.id))
                self._unread[event.id] = event
            yield from sorted([*self._unreadable(batch), *self._facts(piece, dues)], key=attrgetter("offset"))
            yield from self._shown(piece[-1].offset, batch)
        while len(self._fold.cache) > CACHED_MAX:
            key, tracked = self._fold.cache.popitem(last=False)
            self._cold[key] = encode(tracked.state), tracked.attributes

    def _load(self, keys: Iterable[str]) -> None:
        """Let the fold have the states of these keys; a key that was never read has the empty one."""
        for key in keys:
            data, attributes = self._cold.pop(key, (b"", {}))
            self._fold.cache[key] = Tracked(decode(data) if data else KeyState(), attributes)

    def _state(self, key: str) -> KeyState:
        """Return the state of a key."""
        tracked = self._fold.cache.get(key)
        if tracked is not None:
            return tracked.state
        data, _ = self._cold.get(key, (b"", {}))
        return decode(data) if data else KeyState()

    def end(self, as_of_ms: int) -> Iterator[Difference]:
        """Yield the differences that show at the end of the recording."""
        for event in self._unread.values():
            state = self._state(event.key)
            pending = any(fact.id == event.id for run in state.runs for fact in run.outbox)
            if pending and event.time_ms < as_of_ms - GRACE_MS:
                at = f"decided at {moment(event.time_ms)}"
                about = f"{event.type} {event.step}".strip()
                yield self._difference(Kind.DECISION, event.key, event.run, state.position, about, _ABSENT, at)
        for rows in self._rows.values():
            for row in rows:
                if self._is_truncated(row.key, row.run):
                    self.truncated += 1
                    continue
                yield self._difference(Kind.STATE, row.key, row.run, row.position, "run", row.status, "unknown")
        yield from self._hidden()

    def _hidden(self) -> Iterator[Difference]:
        """Yield the runs that the views should show and do not."""
        for key in (*self._fold.cache, *self._cold):
            for run in self._state(key).runs:
                if run.status == TRUNCATED or (key, run.id) in self._known or run.started >= self._position:
                    continue
                yield self._difference(Kind.STATE, key, run.id, run.changed, "run", "not shown", run.shown)

    def _pieces(self, records: Sequence[Record]) -> Iterator[Sequence[Record]]:
        """Cut the records: a piece ends where a row is true, and begins with each timer fact of the tracker."""
        begin = 0
        for at, record in enumerate(records):
            if at > begin and record.event.due_ms:
                yield records[begin:at]
                begin = at
            if record.offset in self._rows or record.event.due_ms:
                yield records[begin : at + 1]
                begin = at + 1
        if begin < len(records):
            yield records[begin:]

    def _dues(self, record: Record) -> Mapping[tuple[object, ...], int]:
        """Return the moments of all timers of the key, by their subjects, before this timer fact is folded."""
        key = record.event.key
        state = self._fold.cache[key].state if key else KeyState()
        return {_subject(fact): fact.due_ms for fact in due(self._fold.table, key, state, _FAR_MS)}

    def _facts(self, piece: Sequence[Record], dues: Mapping[tuple[object, ...], int]) -> Iterator[Difference]:
        """Yield the tracker's facts that the fold would not have published, or at another moment."""
        for record in piece:
            event = record.event
            known = hash(event.id) in self._decided
            self._unread.pop(event.id, None)
            if event.source != TRACKER or known or early_ms(record):
                continue
            if event.due_ms:
                due_ms = dues.get(_subject(event), event.due_ms)
                if due_ms != event.due_ms:
                    at, then = moment(event.due_ms), moment(due_ms)
                    yield self._of(Kind.TIMER, record, f"{event.type} {event.step}".strip(), at, then)
            elif event.type not in _NOT_OURS and self._is_of_known_run(event):
                about = f"{event.type} {event.step}".strip()
                yield self._of(Kind.DECISION, record, about, event.reason or "decided", "not decided")

    def _is_of_known_run(self, event: Envelope) -> bool:
        """Return whether the fold knows the run from its start, so that it decides for it."""
        run = self._state(event.key).run(event.run)
        return run is not None and run.status != TRUNCATED and not event.parent

    def _is_truncated(self, key: str, run_id: str) -> bool:
        state = self._state(key)
        run = state.run(run_id)
        return state.forgot if run is None else run.status == TRUNCATED

    def _unreadable(self, batch: Batch) -> Iterator[Difference]:
        for letter in batch.dead_letters:
            if letter.offset not in self._aside:
                event = letter.record.event
                known = "not set aside"
                yield self._of(Kind.RECORD, letter.record, event.type, known, letter.cause)

    def _shown(self, offset: int, batch: Batch) -> Iterator[Difference]:
        """Yield the fields of the rows that are true at this offset and differ from the fold."""
        rows = self._rows.pop(offset, ())
        folded = {(view.key, view.run): view for view in batch.views} if rows else {}
        for row in rows:
            view = folded.get((row.key, row.run))
            if view is None or (view.status == TRUNCATED and row.status != TRUNCATED):
                self._rows.setdefault(-1, []).append(row)  # `end` tells why
                continue
            self.runs += 1
            for field, before, after in compared(row, view):
                yield self._difference(Kind.STATE, row.key, row.run, offset, field, before, after)

    def _of(self, kind: Kind, record: Record, about: str, recorded: str, replayed: str) -> Difference:
        event = record.event
        return self._difference(kind, event.key, event.run, record.offset, about, recorded, replayed)

    def _difference(
        self, kind: Kind, key: str, run: str, offset: int, about: str, recorded: str, replayed: str
    ) -> Difference:
        return Difference(kind, key, run, self._fold.partition, offset, about, recorded, replayed)


def _subject(event: Envelope) -> tuple[object, ...]:
    """Return the subject of a timer fact, without its moment."""
    number = event.n if event.type != facts.STEP_RETRY_DUE else event.attempt
    return event.type, event.run, event.step, event.trigger, event.entry, event.round, number
