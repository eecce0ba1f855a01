"""One partition that a worker owns: when it may publish, which events it publishes again, and which timers are due.

The rules of the outbox stand here, for every transport. Nothing is published before the partition was read to the end
that it had when it was assigned. After that a decision is published again only if the log has not acknowledged it to
this process. A timer fact is published once; one that was read too early is published again when it is due.
Waits for nothing and knows no store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from choreo.app.tracking.fold import AttributesOf, Batch, FieldsOf, Followed, PartitionFold, unacknowledged
from choreo.app.tracking.timer_index import TimerIndex
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.core.state import KeyState
from choreo.core.timers import due
from choreo.ports.log import Assigned
from choreo.ports.state import StateRow

DUE_AT_ONCE = 500
"""Number of keys with timers that are read together: one commit of 500 facts takes a few milliseconds."""
_NOT_AGAIN = 1 << 62


class TrackedPartition:
    """An owned partition, since it was assigned."""

    def __init__(
        self,
        table: FlowTable,
        assigned: Assigned,
        partitions: int,
        index: TimerIndex,
        attributes_of: AttributesOf | None,
        fields_of: FieldsOf | None = None,
        *,
        bytes_max: int = 0,
    ) -> None:
        """Start; `index` has the partition's pending keys; `bytes_max` bounds records that are published again."""
        self.fold: PartitionFold = PartitionFold(table, assigned.partition, partitions, attributes_of, fields_of)
        self.fold.bytes_max = bytes_max
        self.index = index
        self.position: int = assigned.committed
        """The next offset to fold."""
        self.is_live: bool = False
        """Whether it may publish."""
        self._silent_until = assigned.end
        self._unread_until = assigned.unread_until
        self._table = table
        self._published: dict[str, int] = {}
        """Timer facts published and not yet read, each with the moment from which it may be published again."""
        index.rewind()

    @property
    def is_read(self) -> bool:
        """Return whether it was read to the end that it had when it was assigned."""
        return self.position >= self._silent_until

    @property
    def next_due_ms(self) -> int:
        """Return a moment not after the next timer; 0: it has none."""
        return self.index.next_ms

    def outputs_of(self, batch: Batch) -> list[Envelope]:
        """Return the events to publish for a batch: no decisions before the partition is live."""
        return [*(batch.outputs if self.is_live else ()), *batch.rerouted]

    def settle(self, batch: Batch, followed: Followed | None, position: int, now_ms: int) -> None:
        """Take over a committed batch: its timers, and the own facts in it. `position` is the next offset."""
        self._index(batch.states)
        if followed is not None:
            self.fold.adopt(batch, followed)
            self._index(followed.rows)
            position = followed.position
        for fact_id in batch.read_back if self._published else ():
            self._published.pop(fact_id, None)
        self._published.update((fact_id, now_ms + early_ms) for fact_id, early_ms in batch.early)
        self.position = max(self.position, position)
        self.fold.trim()

    def cached(self, keys: Collection[str]) -> dict[str, KeyState]:
        """Return the states of these keys that are in memory."""
        cache = self.fold.cache
        return {key: cache[key].state for key in keys if key in cache}

    def unacknowledged_keys(self) -> list[str]:
        """Return the keys with unacknowledged decisions."""
        return sorted(self.index.unacknowledged)

    def publish_again(self, states: Mapping[str, KeyState]) -> list[Envelope]:
        """Go live: return the unacknowledged decisions in these states, to be published first."""
        self.is_live = True
        return unacknowledged(states.values())

    def due_keys(self, now_ms: int) -> list[str]:
        """Return keys with timers that are due."""
        return self.index.take(now_ms, DUE_AT_ONCE)

    def due(self, states: Mapping[str, KeyState], now_ms: int) -> list[Envelope]:
        """Return the timer facts of these states that are due and to be published now."""
        facts: list[Envelope] = []
        for key, state in states.items():
            if state.position < self._unread_until:
                continue  # records of this key may have been deleted unread: no clock decides for it
            for fact in due(self._table, key, state, now_ms):
                again_ms = self._published.get(fact.id, 0)
                if again_ms <= now_ms:
                    facts.append(fact)
                    self._published[fact.id] = _NOT_AGAIN
                elif again_ms < _NOT_AGAIN:
                    self.index.wake(key, again_ms)
        return facts

    def _index(self, rows: Iterable[StateRow]) -> None:
        for row in rows:
            self.index.put(row.key, row.due_ms, unacknowledged=row.unacknowledged)
