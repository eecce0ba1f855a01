"""Fold one partition for the projector: with the tracker's own fold, and without its decisions.

A state is a pure fold of the log, so the result equals the tracker's, byte for byte, however the records were cut.
Waits for nothing; the host reads, loads and saves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from choreo.app.tracking.fold import AttributesOf, FieldsOf, PartitionFold, Tracked
from choreo.core.errors import StorageError
from choreo.core.events import Record
from choreo.core.flow_table import FlowTable
from choreo.core.partition import partition_of
from choreo.core.state import decode
from choreo.ports.projections import KeyFold, Projected
from choreo.ports.read_model import InstanceView


class PartitionProjector:
    """The states of one partition while its projector folds it."""

    def __init__(
        self,
        table: FlowTable,
        partition: int,
        partitions: int,
        attributes_of: AttributesOf,
        fields_of: FieldsOf | None = None,
    ) -> None:
        """Start with no state loaded."""
        self._flow = table.flow
        self._partition = partition
        self._partitions = partitions
        self._tracker = PartitionFold(table, partition, partitions, attributes_of, fields_of)

    def missing(self, records: Iterable[Record]) -> list[str]:
        """Return the keys whose states must be put before these records can be folded."""
        return self._tracker.missing(records)

    def put(self, known: Mapping[str, KeyFold], keys: Iterable[str]) -> None:
        """Take loaded states; a key without one begins empty. Raises StorageError on a state that cannot be read."""
        self._tracker.put({}, [key for key in keys if key not in known])
        for key, kept in known.items():
            try:
                self._tracker.cache[key] = Tracked(decode(kept.state), dict(kept.attributes))
            except msgspec.MsgspecError as error:
                raise StorageError(
                    f"the state of key {key!r} cannot be read: {error}",
                    where=f"read model, flow {self._flow.name}",
                    remedy="Rebuild it from the log with `choreo projections rebuild`.",
                ) from error

    def fold(self, records: Sequence[Record], begins: int, position: int) -> Projected:
        """Return the result of folding these records, which lie between `begins` and `position`, in order."""
        states: dict[str, bytes] = {}
        views: dict[tuple[str, str], InstanceView] = {}
        for piece in self._pieces(self._tracker.opened(records)):
            batch = self._tracker.fold(piece, 0)
            states.update((row.key, row.state) for row in batch.states)
            views.update(((view.key, view.run), view) for view in batch.views)
        return Projected(
            topic=self._flow.name,
            partition=self._partition,
            begins=begins,
            position=position,
            keys=[self._kept(key, state) for key, state in states.items()],
            views=list(views.values()),
            history=self._history(records),
        )

    def trim(self) -> None:
        """Keep the cache within its bound."""
        self._tracker.trim()

    def forget(self) -> None:
        """Drop all states, because the last fold was not saved: every key is loaded again."""
        self._tracker.cache.clear()

    def _pieces(self, records: Sequence[Record]) -> Iterator[Sequence[Record]]:
        """Cut the records so that within a piece no run changes and is then forgotten: a view is of a piece's end."""
        for piece in _spanning(records, self._flow.linger_ms):
            if self._may_forget(piece):
                yield from ([record] for record in piece)
            else:
                yield piece

    def _may_forget(self, piece: Sequence[Record]) -> bool:
        """Return whether one of these records makes the fold forget a run that had ended before."""
        last_ms = max(record.stamp_ms for record in piece)
        for key in {record.event.key for record in piece if record.event.key}:
            state = self._tracker.cache[key].state
            limit_ms = max(state.now_ms, last_ms) - self._flow.linger_ms
            if any(run.ended_ms and run.ended_ms < limit_ms for run in state.runs):
                return True
        return False

    def _kept(self, key: str, state: bytes) -> KeyFold:
        tracked = self._tracker.cache[key]
        known = tracked.attributes
        tracked.attributes = {run.id: known[run.id] for run in tracked.state.runs if run.id in known}
        return KeyFold(key, state, tracked.attributes)

    def _history(self, records: Iterable[Record]) -> dict[str, list[int]]:
        """Return the offsets of each key's records that lie in its partition, also of those that change nothing."""
        history: dict[str, list[int]] = {}
        for record in records:
            key = record.event.key
            if key and partition_of(key, self._partitions) == self._partition:
                history.setdefault(key, []).append(record.offset)
        return history


def _spanning(records: Sequence[Record], span_ms: int) -> Iterator[Sequence[Record]]:
    """Cut the records into pieces that each span at most this time."""
    first = 0
    lowest_ms, highest_ms = 1 << 62, 0
    for at, record in enumerate(records):
        lowest_ms, highest_ms = min(lowest_ms, record.stamp_ms), max(highest_ms, record.stamp_ms)
        if highest_ms - lowest_ms > span_ms:
            yield records[first:at]
            first, lowest_ms, highest_ms = at, record.stamp_ms, record.stamp_ms
    if first < len(records):
        yield records[first:]
