"""The tracker's use case on one partition: fold a batch of records into states, as values to be committed together.

Decides nothing itself (the core does) and waits for nothing; the host reads, commits and keeps the time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from choreo.app.views import view
from choreo.core import facts, ids
from choreo.core.definition import FlowTable
from choreo.core.due import next_due
from choreo.core.events import Envelope, Record
from choreo.core.fold import identified
from choreo.core.partition import partition_of
from choreo.core.react import react
from choreo.core.state import KeyState, decode, encode
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.read_model import InstanceView
from choreo.ports.state import StateRow

TRACKER = "tracker"

# Decoded states kept per partition: an instance's events follow each other closely, so the working set is what is in
# flight. 20,000 states of about 2 KB are 40 MB at the most.
CACHED_MAX = 20_000


class Tracked(msgspec.Struct):
    """A key's state with what its views need besides: the start's attributes, by run."""

    state: KeyState
    attributes: dict[str, Mapping[str, str]]


class Batch(msgspec.Struct):
    """What folding some records came to."""

    outputs: list[Envelope] = []
    """Decisions, to be said once the partition was read to the end it had when it was taken."""
    rerouted: list[Envelope] = []
    """Records of keys that belong elsewhere, to be said again there, always: nobody else remembers them."""
    states: list[StateRow] = []
    views: list[InstanceView] = []
    letters: list[DeadLetter] = []
    read_back: list[str] = []
    """Ids of facts read back from the log."""
    early: list[tuple[str, int]] = []
    """Timer facts that came too early: id, and by how many milliseconds."""
    due_ms: int = 0
    """The earliest timer among the states written; 0: none."""
    touched: dict[str, int] = {}
    """Keys folded, with the position that each had before."""


class Followed(msgspec.Struct):
    """What reading back one's own decisions changes, right after they were appended. Nothing is adopted yet."""

    position: int
    """Up to where the partition is folded now (next offset)."""
    states: dict[str, KeyState]
    rows: list[StateRow]
    views: list[InstanceView]
    read_back: list[str]


class PartitionTracker:
    """The states of one partition while its owner works it."""

    def __init__(
        self, table: FlowTable, partition: int, partitions: int, attributes_of: Callable[[Envelope], Mapping[str, str]]
    ) -> None:
        """`attributes_of` reads the filterable fields of a start event; it must not raise."""
        self.table = table
        self.partition = partition
        self.partitions = partitions
        self.bytes_max = 0
        """What data and key of a record that is published again may have together; 0: there is no bound."""
        self._attributes_of = attributes_of
        self._known_types = _known_types(table)
        self.cache: OrderedDict[str, Tracked] = OrderedDict()

    def missing(self, records: Iterable[Record]) -> list[str]:
        """Keys whose state must be loaded before these records can be folded."""
        return [key for key in {record.event.key for record in records} if key and key not in self.cache]

    def put(self, rows: Mapping[str, StateRow], keys: Iterable[str]) -> None:
        """Take what was loaded; a key without a row has the empty state."""
        for key in keys:
            row = rows.get(key)
            self.cache[key] = Tracked(decode(row.state) if row else KeyState(), {})

    def fold(self, records: Sequence[Record], now_ms: int) -> Batch:
        """Fold the records in order. Every key that has had a run is written once, also where nothing has changed."""
        batch = Batch()
        touched = batch.touched
        for record in records:
            event = record.event
            cause = self._refusal(record)
            if cause:
                batch.letters.append(self._letter(record, cause, now_ms))
                continue
            if partition_of(event.key, self.partitions) != self.partition:
                # Told apart by `moved`: one that was published again already was refused above.
                batch.rerouted.append(replace(identified(record), moved=True))
                continue
            tracked = self.cache[event.key]
            touched.setdefault(event.key, tracked.state.position)
            if event.type == self.table.flow.starts:
                event = identified(record)
                tracked.attributes[event.id] = self._attributes_of(event)
            elif event.due_ms and record.stamp_ms < event.due_ms:
                batch.early.append((event.id, event.due_ms - record.stamp_ms))
            before = tracked.state
            tracked.state, decisions = react(self.table, before, record)
            if not tracked.state.runs and not tracked.state.forgot:
                tracked.state = KeyState()  # a key that never had a run is not remembered for what strangers say to it
            if tracked.state.forgot:
                batch.views += self._farewell(event.key, before, tracked, touched[event.key])
            batch.outputs += decisions
            batch.read_back.append(event.id)
        self._collect(batch)
        return batch

    def follow(self, batch: Batch, position: int, records: Iterable[Record]) -> Followed | None:
        """What these records, appended for the batch, change where they stand right behind it, one after the other.

        Ends before one that calls for more than being read back: that comes with a poll, as all do on other transports.
        """
        states: dict[str, KeyState] = {}
        read_back: list[str] = []
        for record in records:
            event = record.event
            if record.offset != position or event.key not in batch.touched or record.stamp_ms < event.due_ms:
                break
            state, decisions = react(self.table, states.get(event.key) or self.cache[event.key].state, record)
            if decisions or state.forgot:
                break
            states[event.key] = state
            read_back.append(event.id)
            position += 1
        if not states:
            return None
        rows = [self._row(key, state) for key, state in states.items()]
        views = [
            view
            for key, state in states.items()
            for view in self._views(key, Tracked(state, self.cache[key].attributes), batch.touched[key])
        ]
        return Followed(position, states, rows, views, read_back)

    def adopt(self, batch: Batch, followed: Followed) -> None:
        """What was followed has become true."""
        for key, state in followed.states.items():
            self.cache[key].state = state
        batch.read_back += followed.read_back

    def trim(self) -> None:
        """Keep the cache within its bound, longest unused first."""
        while len(self.cache) > CACHED_MAX:
            self.cache.popitem(last=False)

    def _collect(self, batch: Batch) -> None:
        for key, before in batch.touched.items():
            tracked = self.cache[key]
            self.cache.move_to_end(key)
            if tracked.state.position < 0:
                continue
            row = self._row(key, tracked.state)
            if row.due_ms and (not batch.due_ms or row.due_ms < batch.due_ms):
                batch.due_ms = row.due_ms
            batch.states.append(row)
            batch.views += self._views(key, tracked, before)

    def _row(self, key: str, state: KeyState) -> StateRow:
        flow, data = self.table.flow.name, encode(state)
        return StateRow(flow, self.partition, key, state.position, data, next_due(state), state.unsaid)

    def _farewell(self, key: str, before: KeyState, tracked: Tracked, shown: int) -> list[InstanceView]:
        """The last views of runs that changed and were then forgotten within this batch: a rebuild sees that."""
        return [
            view(self.table, self.partition, key, run, tracked.attributes.get(run.id))
            for run in before.runs
            if run.changed > shown and tracked.state.run(run.id) is None
        ]

    def _views(self, key: str, tracked: Tracked, before: int) -> list[InstanceView]:
        """Views of the runs that may have changed: open ones, and those that ended or reopened since."""
        state = tracked.state
        return [
            view(self.table, self.partition, key, run, tracked.attributes.get(run.id))
            for run in state.runs
            if not run.ended or run.changed > before
        ]

    def _refusal(self, record: Record) -> str:
        event = record.event
        if event.type == facts.UNREADABLE:
            return f"its headers cannot be read: {event.reason}"
        if not event.key:
            return "it has no key; publish it with the business key as the message key"
        if self.bytes_max and partition_of(event.key, self.partitions) != self.partition:
            size = len(event.data) + len(event.key.encode(errors="replace"))
            if size > self.bytes_max:
                return f"it is of another partition, and too large to be published there again: {size:,} bytes"
        if event.type not in self._known_types:
            return f"{event.type!r} is no event of flow {self.table.flow.name}; declare it, or publish it elsewhere"
        if event.moved and partition_of(event.key, self.partitions) != self.partition:
            return (
                f"it was published again once, and partition {self.partition} is not its key's either: the topic has "
                f"another number of partitions than whoever published it again saw"
            )
        return ""

    def _letter(self, record: Record, cause: str, now_ms: int) -> DeadLetter:
        letter_id = ids.derive("letter", record.topic, record.partition, record.offset, TRACKER)
        return DeadLetter(letter_id, record.topic, record.partition, record.offset, TRACKER, "", cause, now_ms, record)


def _known_types(table: FlowTable) -> frozenset[str]:
    flow = table.flow
    known = {flow.starts, flow.completes, flow.fails, *table.satisfies, *table.wait_failures}
    for step in flow.steps:
        known |= {step.on, *step.emits, *step.fails}
        known |= set(step.compensation.emits) if step.compensation else set()
    own = {value for name, value in vars(facts).items() if isinstance(value, str) and name.isupper()}
    return frozenset((known | own) - {"", facts.UNREADABLE, facts.PREFIX})


def unacknowledged(states: Iterable[KeyState]) -> list[Envelope]:
    """Every decision these states hold that was not read back: what a new owner says again."""
    return [said for state in states for run in state.runs for said in run.outbox]
