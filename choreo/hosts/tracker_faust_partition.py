"""One partition in its owner's hands: records in, states and facts out; when it may speak, and what is due.

A stored state is its position in the partition, 8 bytes big endian, 8 bytes of what the index keeps of it, then its own
bytes. Of two stored states of a key the one with the higher position is the newer, whenever it was written; and to
build the index of a million keys none of them is decoded. Knows neither Faust nor Kafka.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from choreo.app.track import PartitionTracker, unacknowledged
from choreo.core.definition import FlowTable
from choreo.core.due import due
from choreo.core.errors import StorageError
from choreo.core.events import Envelope, Record
from choreo.core.state import KeyState, decode
from choreo.hosts.tracker_faust_index import KeyIndex
from choreo.ports.dead_letters import DeadLetter
from choreo.ports.read_model import InstanceView
from choreo.ports.state import StateRow

_HEAD = struct.Struct(">QQ")
"""Position; then in 64 bits the form's number (8), when the next timer is due (55, in ms), unread decisions (1)."""
_FORM = 1
_DUE = (1 << 56) - 2
_DUE_AT_ONCE = 500
_FAR_FUTURE_MS = 1 << 62


def pack(row: StateRow) -> bytes:
    """The stored form of a state."""
    return _HEAD.pack(row.position, _FORM << 56 | row.due_ms << 1 | row.unsaid) + row.state


def position_of(stored: bytes) -> int:
    """How far the stored state has read its partition."""
    return int.from_bytes(stored[:8], "big")


def state_of(stored: bytes) -> KeyState:
    """The state itself; raises msgspec.DecodeError."""
    return decode(stored[_HEAD.size :])


def index_stored(index: KeyIndex, key: str, stored: bytes) -> None:
    """Note what the index keeps of a stored state. Raises StorageError if it is of another form than ours."""
    word = int.from_bytes(stored[8:16], "big")
    if word >> 56 != _FORM:
        raise StorageError(
            "states were written by another version of choreo",
            where=f"the tracker's state of {key!r}",
            remedy="Remove the tracker's folder and its changelog topic: states are rebuilt from the log.",
        )
    index.put(key, (word & _DUE) >> 1, unread=bool(word & 1))


class Missing(msgspec.Struct, frozen=True, array_like=True):
    """A range of records that was gone before it was read: from the first offset to the one before the second."""

    first: int
    end: int


class Folded(msgspec.Struct, frozen=True):
    """What a batch of one partition came to."""

    rows: Sequence[tuple[bytes, bytes]]
    """Key and stored state, one of each key touched."""
    outputs: Sequence[Envelope]
    letters: Sequence[DeadLetter]
    rerouted: int
    """How many of the outputs are records of keys that belong elsewhere."""


class _States(PartitionTracker):
    """The use case without its views: here the projector makes them, from the log."""

    def _views(self, *_: Any) -> list[InstanceView]:
        return []

    def _farewell(self, *_: Any) -> list[InstanceView]:
        return []


def _no_attributes(_: Envelope) -> Mapping[str, str]:
    return {}


class OwnedPartition:
    """A partition since it was given to this worker."""

    def __init__(
        self,
        table: FlowTable,
        partition: int,
        partitions: int,
        index: KeyIndex,
        stored: Callable[[bytes], bytes | None],
        *,
        position: int,
        end: int,
        unread_until: int = 0,
        bytes_max: int = 0,
    ) -> None:
        """`stored` reads the local copy; `position` is the next offset, `end` the log's end when it was given.

        Records before `unread_until` are gone that nobody has read: for a key of which nothing came since, the clock
        makes nothing due. `bytes_max` bounds what is published again.
        """
        self.partition = partition
        self.position: int = position
        """The next offset to fold."""
        self.safe = position
        """The next offset to read if this worker died now: all before it is acknowledged."""
        self.silent_until = end
        self.live: bool = False
        self._unread_until = unread_until
        self._table = table
        self._tracker = _States(table, partition, partitions, _no_attributes)
        self._tracker.bytes_max = bytes_max
        self._index = index
        self._stored = stored
        self._said: dict[str, int] = {}
        """Timer facts said and not read back, each with the moment from which it may be said again."""
        index.rewind()

    def fold(self, records: Sequence[Record], now_ms: int) -> Folded:
        """Fold records in order; those read before change nothing, but their states are written again."""
        tracker = self._tracker
        missing = tracker.missing(records)
        tracker.put(self._rows(missing), missing)
        batch = tracker.fold(records, now_ms)
        for row in batch.states:
            self._index.put(row.key, row.due_ms, unread=row.unsaid)
        for fact_id in batch.read_back:
            self._said.pop(fact_id, None)
        self._said.update((fact_id, now_ms + early_ms) for fact_id, early_ms in batch.early)
        tracker.trim()
        self.position = max(self.position, records[-1].offset + 1)
        return Folded(
            [(row.key.encode(), pack(row)) for row in batch.states],
            [*(batch.outputs if self.live else ()), *batch.rerouted],
            batch.letters,
            len(batch.rerouted),
        )

    def pass_over(self, position: int, to: int) -> None:
        """No records stand from `position` to `to`: go on there, if nothing was folded meanwhile."""
        if self.position == position == self.safe:
            self.position = self.safe = to

    def speak(self) -> list[Envelope]:
        """From now on facts are said; these are said first: decisions that nobody has read."""
        self.live = True
        return unacknowledged([state for _, state in self._states(sorted(self._index.unread))])

    def due(self, now_ms: int) -> list[Envelope]:
        """Timer facts that are due and not said yet."""
        facts: list[Envelope] = []
        for key, state in self._states(self._index.take(now_ms, _DUE_AT_ONCE)):
            if state.position < self._unread_until:
                continue
            for fact in due(self._table, key, state, now_ms):
                again_ms = self._said.get(fact.id, 0)
                if again_ms <= now_ms:
                    facts.append(fact)
                    self._said[fact.id] = _FAR_FUTURE_MS
                elif again_ms < _FAR_FUTURE_MS:
                    self._index.wake(key, again_ms)
        return facts

    @property
    def next_due_ms(self) -> int:
        """Not after the moment at which `due` has something to say; 0: never."""
        return self._index.next_ms

    def _rows(self, keys: Iterable[str]) -> dict[str, StateRow]:
        topic, partition = self._table.flow.name, self.partition
        found = ((key, self._stored(key.encode())) for key in keys)
        return {
            key: StateRow(topic, partition, key, position_of(stored), stored[_HEAD.size :])
            for key, stored in found
            if stored is not None
        }

    def _states(self, keys: Iterable[str]) -> list[tuple[str, KeyState]]:
        """The states of these keys, from memory where they are; absent keys are left out."""
        states: list[tuple[str, KeyState]] = []
        for key in keys:
            tracked = self._tracker.cache.get(key)
            if tracked is not None:
                states.append((key, tracked.state))
            elif (stored := self._stored(key.encode())) is not None:
                states.append((key, state_of(stored)))
        return states
