"""The partitions of one tracker worker: load states, fold records, commit, publish decisions and timer facts.

The consumer and the store may be of any transport. An error of a commit leaves the states in memory ahead of the stored
ones: the caller then calls `forget`, and the partitions are assigned anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec.structs import replace

from choreo.app.metrics import Metrics
from choreo.app.tracing import TrackerTraces
from choreo.app.tracking.fold import AttributesOf, Batch, FieldsOf, state_of
from choreo.app.tracking.partition import TrackedPartition
from choreo.app.tracking.read_back import ReadBack
from choreo.app.tracking.timer_index import TimerIndex
from choreo.core import facts
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.state import KeyState, Run
from choreo.ports.clock import Clock
from choreo.ports.log import Assigned, CommitBatch, Consumer, Log, Poll
from choreo.ports.read_model import ReadModel
from choreo.ports.state import TrackerStates

_ENTRIES_AT_ONCE = 1_000
"""Pending keys taken into an index before others get their turn: about a millisecond."""


_KINDS = {
    facts.FLOW_DEADLINE_PASSED: "flow",
    facts.STEP_DEADLINE_PASSED: "step",
    facts.COMPENSATION_DEADLINE_PASSED: "compensation",
}


def _kind_of(fact: Envelope) -> str:
    """Return the kind of the deadline that a timer fact says has passed; "" of another timer."""
    return _KINDS.get(fact.type, "")


class TrackerWorker:
    """The owned partitions of one flow. Used by one task at a time."""

    def __init__(
        self,
        table: FlowTable,
        log: Log,
        states: TrackerStates,
        clock: Clock,
        metrics: Metrics,
        attributes_of: AttributesOf | None,
        fields_of: FieldsOf | None = None,
        read_model: ReadModel | None = None,
        *,
        traces: TrackerTraces | None = None,
    ) -> None:
        """Start with no partition. Without `attributes_of` no views are made; commits write them to `read_model`.

        `traces` makes spans.
        """
        self.owned: dict[int, TrackedPartition] = {}
        self._table = table
        self._topic = table.flow.name
        self._log = log
        self._states = states
        self._clock = clock
        self._metrics = metrics
        self._traces = traces
        metrics.begin("orphans")
        metrics.begin("tracker_rerouted")
        for kind in _KINDS.values():
            metrics.begin("deadlines_passed", kind=kind)
        self._attributes_of = attributes_of
        self._fields_of = fields_of
        self._read_model = read_model if table.attributes else None
        self._indexes: dict[int, TimerIndex] = {}
        """Also of revoked partitions: most are assigned again, and few of their keys have changed."""

    async def assign(self, assigned: Assigned) -> None:
        """Own a partition from now on. Its states are in the store. Raises StorageError."""
        partitions = await self._log.partitions(self._topic)
        bytes_max = await self._log.bytes_max(self._topic)
        index = await self._index_of(assigned)
        self._indexes[assigned.partition] = index
        self.owned[assigned.partition] = TrackedPartition(
            self._table, assigned, partitions, index, self._attributes_of, self._fields_of, bytes_max=bytes_max
        )

    def revoke(self, partitions: Iterable[int]) -> None:
        """Own these partitions no longer."""
        for partition in partitions:
            self.owned.pop(partition, None)

    def forget(self) -> None:
        """Own no partition, and know nothing of any."""
        self.owned.clear()
        self._indexes.clear()

    async def work(self, consumer: Consumer, poll: Poll) -> None:
        """Fold the polled records and commit the result. Raises StorageError, LeaseLostError."""
        by_partition: dict[int, list[Record]] = {}
        for record in poll.records:
            by_partition.setdefault(record.partition, []).append(record)
        batches: dict[int, Batch] = {}
        for partition, records in by_partition.items():
            batches[partition] = await self._fold(self.owned[partition], records)
        done = {partition: offset for partition, offset in poll.read.items() if partition in self.owned}
        work = CommitBatch(
            outputs=[
                event for number, batch in batches.items() for event in self._outputs_of(batch, by_partition[number])
            ],
            done=done,
            dead_letters=[dead_letter for batch in batches.values() for dead_letter in batch.dead_letters],
            states=[row for batch in batches.values() for row in batch.states],
            views=[view for batch in batches.values() for view in batch.views],
        )
        live = [(self.owned[number].fold, batch) for number, batch in batches.items() if self.owned[number].is_live]
        own = ReadBack(work, live)
        await consumer.commit(replace(work, follow=own.follow) if any(batch.outputs for _, batch in live) else work)
        now_ms = self._clock.now_ms()
        for partition, offset in done.items():
            batch = batches.get(partition) or Batch()
            self.owned[partition].settle(batch, own.followed.get(partition), offset, now_ms)
        rerouted = sum(len(batch.rerouted) for batch in batches.values())
        self._metrics.add("tracker_events", len(poll.records))
        self._metrics.add("tracker_decisions", len(work.outputs) - rerouted)
        self._metrics.add("tracker_rerouted", rerouted)
        starts = sum(record.event.type == self._table.flow.starts for record in poll.records)
        self._metrics.add("runs_started", starts)
        self._metrics.add("orphans", sum(batch.orphans for batch in batches.values()))
        self._note_ended([each for batch in batches.values() for each in batch.ended], now_ms)

    def _outputs_of(self, batch: Batch, records: Sequence[Record]) -> list[Envelope]:
        """Return the events to publish for the batch of these records, each in its trace."""
        outputs = self.owned[records[0].partition].outputs_of(batch)
        return self._traces.opened(outputs, records) if self._traces is not None and outputs else outputs

    def _note_ended(self, ended: Sequence[tuple[str, Run]], now_ms: int) -> None:
        """Count runs that have ended. Runs of long ago, which a rebuild reads, have had their spans."""
        took: dict[str, list[float]] = defaultdict(list)
        for _, run in ended:
            took[run.status].append((run.ended_ms - run.started_ms) / 1_000)
        for status, seconds in took.items():
            self._metrics.add("runs_ended", len(seconds), status=status)
            self._metrics.observe("run_duration_seconds", seconds, status=status)
        if self._traces is not None and ended:
            recent_ms = now_ms - self._traces.gap_ms
            self._traces.ended((key, run) for key, run in ended if run.ended_ms >= recent_ms)

    async def publish_pending(self, consumer: Consumer) -> None:
        """Publish unacknowledged decisions, of partitions that are now read to their end, and timer facts."""
        for partition, owned in self.owned.items():
            if owned.is_live or not owned.is_read:
                continue
            again = owned.publish_again(await self._load(owned, owned.unacknowledged_keys()))
            if again:
                again = self._traces.opened(again) if self._traces is not None else again
                await consumer.commit(CommitBatch(outputs=again, done={partition: owned.position}))
                self._metrics.add("tracker_published_again", len(again))
        await self._publish_due(consumer)

    def timeout_s(self, at_most_s: float) -> float:
        """Return how long a poll may wait: until the next timer, but not longer than `at_most_s`."""
        moments = [owned.next_due_ms for owned in self.owned.values() if owned.is_live and owned.next_due_ms]
        if not moments:
            return at_most_s
        return max(0.0, min(at_most_s, (min(moments) - self._clock.now_ms()) / 1000))

    async def _publish_due(self, consumer: Consumer) -> None:
        now_ms = self._clock.now_ms()
        outputs: list[Envelope] = []
        done: dict[int, int] = {}
        for partition, owned in self.owned.items():
            keys = owned.due_keys(now_ms) if owned.is_live else ()
            facts = owned.due(await self._load(owned, keys), now_ms) if keys else ()
            if facts:
                outputs += facts
                done[partition] = owned.position
        if outputs:
            outputs = self._traces.opened(outputs) if self._traces is not None else outputs
            await consumer.commit(CommitBatch(outputs=outputs, done=done))
            self._metrics.add("tracker_timers", len(outputs))
            late_s = [(now_ms - fact.due_ms) / 1_000 for fact in outputs]
            self._metrics.observe("timer_lateness_seconds", late_s)
            for kind, count in Counter(map(_kind_of, outputs)).items():
                self._metrics.add("deadlines_passed", count if kind else 0, kind=kind)

    async def _fold(self, owned: TrackedPartition, records: Sequence[Record]) -> Batch:
        fold = owned.fold
        missing = fold.missing(records)
        if missing:
            rows = await self._states.load(self._topic, fold.partition, missing)
            fold.put(rows, missing)
            if self._attributes_of is not None:
                await self._recall_attributes(owned, rows, self._attributes_of)
        return fold.fold(records, self._clock.now_ms())

    async def _recall_attributes(
        self, owned: TrackedPartition, keys: Collection[str], attributes_of: AttributesOf
    ) -> None:
        """Read the attributes of loaded states, which have none, from the start events in the log.

        Where later events set some, they stand in the views, which are committed with the states.
        """
        for key in keys:
            tracked = owned.fold.cache[key]
            for run in tracked.state.runs:
                shown = self._read_model and await self._read_model.instance(self._topic, key, run.id)
                if shown:
                    tracked.attributes[run.id] = shown.attributes
                elif run.started >= 0:
                    for record in await self._log.read(self._topic, owned.fold.partition, run.started, 1):
                        tracked.attributes[run.id] = attributes_of(record.event)

    async def _load(self, owned: TrackedPartition, keys: Collection[str]) -> Mapping[str, KeyState]:
        """Return the states of these keys in their order, from memory where they are; absent keys are left out."""
        cached = owned.cached(keys)
        missing = [key for key in keys if key not in cached]
        rows = await self._states.load(self._topic, owned.fold.partition, missing) if missing else {}
        return {
            key: cached[key] if key in cached else state_of(rows[key]) for key in keys if key in cached or key in rows
        }

    async def _index_of(self, assigned: Assigned) -> TimerIndex:
        """Return the index of the partition's pending keys; read only those that have changed if it is known."""
        known = self._indexes.get(assigned.partition)
        if known is not None and assigned.changed is not None:
            rows = await self._states.load(self._topic, assigned.partition, assigned.changed)
            for row in rows.values():
                known.put(row.key, row.due_ms, unacknowledged=row.unacknowledged)
            return known
        index = TimerIndex()
        number = 0
        async for each in self._states.pending(self._topic, assigned.partition):
            index.put(each.key, each.due_ms, unacknowledged=each.unacknowledged)
            number += 1
            if number % _ENTRIES_AT_ONCE == 0:
                await asyncio.sleep(0)
        return index
