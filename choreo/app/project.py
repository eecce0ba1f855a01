"""The projector's use case on one partition: fold records with the tracker's own fold, and drop what it decides.

A state is a pure fold of the log, so what comes out is the tracker's, byte for byte, however the records were cut.
Waits for nothing; the host reads, loads and saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from choreo.app.track import PartitionTracker, Tracked
from choreo.core.definition import FlowTable
from choreo.core.errors import StorageError
from choreo.core.events import Envelope, Record
from choreo.core.partition import partition_of
from choreo.core.state import decode
from choreo.ports.projections import KeyFold, Projected
from choreo.ports.read_model import InstanceView


class PartitionProjector:
    """The states of one partition while its projector folds it."""

    def __init__(
        self, table: FlowTable, partition: int, partitions: int, attributes_of: Callable[[Envelope], Mapping[str, str]]
    ) -> None:
        """`attributes_of` reads the filterable fields of a start event; it must not raise."""
        self._flow = table.flow
        self._partition = partition
        self._partitions = partitions
        self._tracker = PartitionTracker(table, partition, partitions, attributes_of)

    def missing(self, records: Iterable[Record]) -> list[str]:
        """Keys of which `put` must be told before these records can be folded."""
        return self._tracker.missing(records)

    def put(self, known: Mapping[str, KeyFold], keys: Iterable[str]) -> None:
        """Take what was loaded; a key that was never met begins empty. Raises StorageError on a state not readable."""
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
        """What these records come to; they lie between `begins` and `position`, in order."""
        states: dict[str, bytes] = {}
        views: dict[tuple[str, str], InstanceView] = {}
        for piece in self._pieces(records):
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
        """Keep what is remembered within its bound."""
        self._tracker.trim()

    def forget(self) -> None:
        """What was folded was not saved: every key is to be loaded anew."""
        self._tracker.cache.clear()

    def _pieces(self, records: Sequence[Record]) -> Iterator[Sequence[Record]]:
        """A batch shows each run as it is at its end: so no run may change and then be forgotten within one."""
        for piece in _spanning(records, self._flow.linger_ms):
            if self._may_forget(piece):
                yield from ([record] for record in piece)
            else:
                yield piece

    def _may_forget(self, piece: Sequence[Record]) -> bool:
        """Whether a run that had ended before is forgotten by one of these records."""
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
        """Every record of a key that lies where it belongs, also one that means nothing to the fold."""
        history: dict[str, list[int]] = {}
        for record in records:
            key = record.event.key
            if key and partition_of(key, self._partitions) == self._partition:
                history.setdefault(key, []).append(record.offset)
        return history


def _spanning(records: Sequence[Record], span_ms: int) -> Iterator[Sequence[Record]]:
    """The records in pieces within which no more time passes than that."""
    first = 0
    lowest_ms, highest_ms = 1 << 62, 0
    for at, record in enumerate(records):
        lowest_ms, highest_ms = min(lowest_ms, record.stamp_ms), max(highest_ms, record.stamp_ms)
        if highest_ms - lowest_ms > span_ms:
            yield records[first:at]
            first, lowest_ms, highest_ms = at, record.stamp_ms, record.stamp_ms
    if first < len(records):
        yield records[first:]
