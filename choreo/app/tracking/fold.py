"""Fold a batch of one partition's records into states, as values that are committed together.

The core decides; this module cuts its results into rows, views, dead letters and events to publish. It waits for
nothing: the caller reads, commits and keeps the time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from choreo.app.dead_letter import dead_letter_of
from choreo.app.tracking.views import view
from choreo.core import facts
from choreo.core.admission import early_ms
from choreo.core.attributes import Setter, with_values
from choreo.core.errors import DecodeError, StorageError, VersionError
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.identity import identified
from choreo.core.moments import moments_of
from choreo.core.partition import partition_of
from choreo.core.react import react
from choreo.core.state import KeyState, Run, decode, encode
from choreo.core.timers import next_due
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.read_model import InstanceView
from choreo.ports.state import StateRow

TRACKER = "tracker"

CACHED_MAX = 20_000
"""Decoded states kept per partition. The events of an instance follow each other closely, so the working set is the
instances in flight. 20,000 states of about 2 KB are 40 MB at the most."""

AttributesOf: TypeAlias = Callable[[Envelope], Mapping[str, str]]
"""Return the filterable fields of a start event; must not raise."""


def no_attributes(_: Envelope) -> Mapping[str, str]:
    """Return no fields: the views are compared by status and effects only, and take no search attributes either."""
    return {}


FieldsOf: TypeAlias = Callable[[Envelope], Mapping[str, Any]]
"""Return the fields of an event as Python values, where conditions need them; raises DecodeError, StorageError."""


class Tracked(msgspec.Struct):
    """The state of a key, and the attributes of its start events by run, which its views need."""

    state: KeyState
    attributes: dict[str, Mapping[str, str]]


class Batch(msgspec.Struct):
    """The result of folding some records."""

    outputs: list[Envelope] = []
    """Decisions. They are published only once the partition was read to the end that it had when it was assigned."""
    rerouted: list[Envelope] = []
    """Records that lie in another partition than their key's. They are always published again: no state holds them."""
    states: list[StateRow] = []
    views: list[InstanceView] = []
    dead_letters: list[DeadLetter] = []
    read_back: list[str] = []
    """Ids of own facts that were read from the log."""
    early: list[tuple[str, int]] = []
    """Timer facts that were read before they were due: id, and by how many milliseconds."""
    ended: list[tuple[str, Run]] = []
    """Runs whose end was read, each with its key."""
    orphans: int = 0
    """Events that belong to no run."""
    touched: dict[str, int] = {}
    """Keys folded, each with the position that its state had before."""


class Followed(msgspec.Struct):
    """The change by folding own decisions right after they were appended. Nothing is adopted yet."""

    position: int
    """The next offset to fold."""
    states: dict[str, KeyState]
    rows: list[StateRow]
    views: list[InstanceView]
    read_back: list[str]
    ended: list[tuple[str, Run]]


class PartitionFold:
    """The states of one partition while a worker owns it."""

    def __init__(
        self,
        table: FlowTable,
        partition: int,
        partitions: int,
        attributes_of: AttributesOf | None = None,
        fields_of: FieldsOf | None = None,
    ) -> None:
        """Start with no state loaded.

        Without `attributes_of` no views are made; branches and timers on data need `fields_of`.
        """
        self.table = table
        self.partition = partition
        self.partitions = partitions
        self.bytes_max = 0
        """The most bytes that data and key of a re-published record may have together; 0: there is no bound."""
        self._attributes_of = attributes_of
        self._fields_of = fields_of
        self._decoded = table.decoded.union(*(version.decoded for version in table.versions.values()))
        shows = attributes_of is not None and attributes_of is not no_attributes
        self._setters: Mapping[str, tuple[Setter, ...]] = table.attributes if shows else {}
        self._opened = self._decoded.union(self._setters)
        self._known_types = _known_types(table)
        self.cache: OrderedDict[str, Tracked] = OrderedDict()

    def missing(self, records: Iterable[Record]) -> list[str]:
        """Return the keys whose states must be put before these records can be folded."""
        return [key for key in {record.event.key for record in records} if key and key not in self.cache]

    def put(self, rows: Mapping[str, StateRow], keys: Iterable[str]) -> None:
        """Take loaded states; a key without a row has the empty state."""
        for key in keys:
            row = rows.get(key)
            self.cache[key] = Tracked(state_of(row) if row else KeyState(), {})

    def opened(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return the records with the fields that conditions and search attributes need; costs nothing without any.

        A record with an undecodable payload tells why. Raises StorageError where a schema cannot be read for now.
        """
        if not self._opened:
            return records
        return [
            self._open(record) if record.event.type in self._opened and record.fields is None else record
            for record in records
        ]

    def _open(self, record: Record) -> Record:
        if self._fields_of is None:
            flow = self.table.flow.name
            message = f"flow {flow} decides by fields of events, and its fold has nothing to decode them with"
            raise ValueError(message)
        try:
            return replace(record, fields=self._fields_of(record.event))
        except DecodeError as error:
            return replace(record, fields={}, unreadable=error.sentence)

    def fold(self, records: Sequence[Record], now_ms: int) -> Batch:
        """Fold the records in order. Every key that has had a run is written once, also where nothing has changed."""
        batch = Batch()
        touched = batch.touched
        records = self.opened(records)
        batch.dead_letters += self._undecided(records, now_ms) if self._decoded else ()
        for record in records:
            event = record.event
            cause = self._refusal(record)
            if cause:
                batch.dead_letters.append(self._dead_letter(record, cause, now_ms))
                continue
            if partition_of(event.key, self.partitions) != self.partition:
                # A record with `moved` was published again before: it is refused above.
                batch.rerouted.append(replace(identified(record), moved=True))
                continue
            tracked = self.cache[event.key]
            touched.setdefault(event.key, tracked.state.position)
            if event.type == self.table.flow.starts:
                event = self._started(tracked, record)
            elif event.due_ms and (by_ms := early_ms(record)):
                batch.early.append((event.id, by_ms))
            before = tracked.state
            try:
                tracked.state, decisions = react(self.table, before, record)
            except VersionError as error:  # the run's state is kept; the event can be redriven
                batch.dead_letters.append(self._dead_letter(record, error.sentence, now_ms))
                continue
            batch.ended += _ended(event, before, tracked.state)
            batch.orphans += tracked.state.orphans is not before.orphans
            if event.type in self._setters and not record.unreadable:
                self._set_attributes(tracked, before, record)
            if not tracked.state.runs and not tracked.state.forgot:
                tracked.state = KeyState()  # a key that never had a run is not remembered for foreign events
            if tracked.state.forgot or tracked.state.retired is not before.retired:
                batch.views += self._last_views(event.key, before, tracked, touched[event.key])
            batch.outputs += decisions
            batch.read_back.append(event.id)
        self._collect(batch)
        return batch

    def follow(self, batch: Batch, position: int, records: Iterable[Record]) -> Followed | None:
        """Fold the batch's own decisions, which were just appended; None if the first does not stand right behind it.

        Stops before a record that leads to new decisions: a poll brings that one, as it brings all on other transports.
        """
        states: dict[str, KeyState] = {}
        read_back: list[str] = []
        ended: list[tuple[str, Run]] = []
        for record in self.opened(list(records)):
            event = record.event
            if record.offset != position or event.key not in batch.touched or early_ms(record):
                break
            if event.type in self._setters:
                break  # `fold` sets the search attributes
            known = states.get(event.key) or self.cache[event.key].state
            try:
                state, decisions = react(self.table, known, record)
            except VersionError:
                break  # a poll brings it to `fold`, which sets it aside
            if decisions or len(state.runs) < len(known.runs):
                break  # the last view of a run that is let go is made by `fold`
            states[event.key] = state
            ended += _ended(event, known, state)
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
        return Followed(position, states, rows, views, read_back, ended)

    def adopt(self, batch: Batch, followed: Followed) -> None:
        """Take over the result of `follow`, after it was committed."""
        for key, state in followed.states.items():
            self.cache[key].state = state
        batch.read_back += followed.read_back
        batch.ended += followed.ended

    def trim(self) -> None:
        """Keep the cache within its bound: drop the states that were not used for longest."""
        while len(self.cache) > CACHED_MAX:
            self.cache.popitem(last=False)

    def _collect(self, batch: Batch) -> None:
        for key, before in batch.touched.items():
            tracked = self.cache[key]
            if len(tracked.attributes) > len(tracked.state.runs):
                self._prune(tracked)
            self.cache.move_to_end(key)
            if tracked.state.position < 0:
                continue
            batch.states.append(self._row(key, tracked.state))
            batch.views += self._views(key, tracked, before)

    def _started(self, tracked: Tracked, record: Record) -> Envelope:
        """Take the fields of a start event as attributes; return the event. A duplicate takes back nothing."""
        event = identified(record)
        if self._attributes_of is not None and not (self._setters and event.id in tracked.attributes):
            tracked.attributes[event.id] = self._attributes_of(event)
        return event

    def _set_attributes(self, tracked: Tracked, before: KeyState, record: Record) -> None:
        """Take the search attributes in a record; of a duplicate, and of one that belongs to no run, none."""
        run = tracked.state.attributed_since(before)
        if run and record.fields is not None:
            known = tracked.attributes.get(run, {})
            tracked.attributes[run] = with_values(known, self._setters[record.event.type], record.fields)

    def _row(self, key: str, state: KeyState) -> StateRow:
        flow, data = self.table.flow.name, encode(state)
        return StateRow(flow, self.partition, key, state.position, data, next_due(state), state.unacknowledged)

    def _last_views(self, key: str, before: KeyState, tracked: Tracked, shown: int) -> list[InstanceView]:
        """Return the last views of runs that changed and were then forgotten within this batch, as in a rebuild."""
        if self._attributes_of is None:
            return []
        return [
            view(self.table, self.partition, key, run, tracked.attributes.get(run.id))
            for run in before.runs
            if run.changed > shown and tracked.state.run(run.id) is None
        ]

    def _prune(self, tracked: Tracked) -> None:
        """Keep attributes of the runs that still have views to be made."""
        known = tracked.attributes
        tracked.attributes = {run.id: known[run.id] for run in tracked.state.runs if run.id in known}

    def _views(self, key: str, tracked: Tracked, before: int) -> list[InstanceView]:
        """Return the views of the runs that may have changed: open ones, and those that ended or reopened since."""
        if self._attributes_of is None:
            return []
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
                f"another number of partitions than the process that published it again saw"
            )
        return ""

    def _undecided(self, records: Iterable[Record], now_ms: int) -> Iterator[DeadLetter]:
        """Yield the dead letters of events that decide a branch or set a timer, and cannot be read.

        One that decides a branch names a step of it.

        The hosts may never see it: they skip the triggers of a run that is compensating. A record that is refused, or
        published again where it belongs, has its dead letter there.
        """
        tables = (self.table, *self.table.versions.values())
        for record in records:
            cause = record.unreadable or self._no_moment(tables, record)
            if not cause or record.event.type not in self._decoded or self._refusal(record):
                continue
            if partition_of(record.event.key, self.partitions) == self.partition:
                step = next((step for table in tables for step in table.decided_by(record.event.type)), "")
                known = replace(record, fields=None, unreadable="")
                yield self._dead_letter(known, cause, now_ms, step)

    def _no_moment(self, tables: Iterable[FlowTable], record: Record) -> str:
        """Return why a timer cannot take its moment from the event; empty if it can, or none does."""
        fields = {field for table in tables for field in table.moments.get(record.event.type, ())}
        return moments_of(record, sorted(fields)).unreadable if fields else ""

    def _dead_letter(self, record: Record, cause: str, now_ms: int, step: str = "") -> DeadLetter:
        return dead_letter_of(record, TRACKER, step, cause, now_ms, made_by=TRACKER)


def _ended(event: Envelope, before: KeyState, after: KeyState) -> Sequence[tuple[str, Run]]:
    """Return the runs that an event has ended, each with its key."""
    if event.type not in facts.ENDS:
        return ()
    ended = (run for run in after.runs if run.ended)
    return [(event.key, run) for run in ended if (known := before.run(run.id)) is not None and not known.ended]


def _known_types(table: FlowTable) -> frozenset[str]:
    own = {value for name, value in vars(facts).items() if isinstance(value, str) and name.isupper()}
    known = table.flow.types.union(*(version.flow.types for version in table.versions.values()))
    return (known | own) - {facts.UNREADABLE, facts.PREFIX}


def state_of(row: StateRow) -> KeyState:
    """Return the state in a row; raises StorageError on one that cannot be read."""
    try:
        return decode(row.state)
    except msgspec.MsgspecError as error:
        raise StorageError(
            f"the state of key {row.key!r} cannot be read: {error}",
            where=f"the tracker's states of {row.topic}, partition {row.partition}",
            remedy="Rebuild it: `choreo projections rebuild`; on Kafka remove the tracker's changelog topic.",
        ) from error


def unacknowledged(states: Iterable[KeyState]) -> list[Envelope]:
    """Return every unacknowledged decision of these states; a new owner publishes it again."""
    return [decision for state in states for run in state.runs for decision in run.outbox]
