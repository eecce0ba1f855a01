"""The tracker as a loop: poll, fold, commit decisions with the states that made them, and say what the clock makes due.

For a partition it was given it says nothing before it has read to the end that stood then; after that it says again
only what no reader has seen (DESIGN.md 5, "Decisions are an outbox").
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from choreo.app.counters import Counters
from choreo.app.dependencies import DependencyReports
from choreo.app.track import Batch, Followed, PartitionTracker, unacknowledged
from choreo.core.definition import FlowDefinition, FlowTable
from choreo.core.due import due
from choreo.core.errors import LeaseLostError, StorageError
from choreo.core.events import Envelope, Record
from choreo.core.state import decode
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies, report_error
from choreo.ports.log import TRACKER_GROUP, Gained, Log, Member, Poll, Work
from choreo.ports.state import StateStore

_log = logging.getLogger(__name__)

POLL_SIZE = 1_000
"""Records a poll: at 20 µs an event a full batch keeps the loop busy for 20 ms, and the commit is 2 % of it."""
IDLE_S = 0.25
"""The longest wait of a poll: a member must be heard of several times within its lease."""
DUE_AT_ONCE = 500
"""States looked at for timer facts at once: one commit of 500 facts takes a few milliseconds."""
_FAR_FUTURE_MS = 1 << 62


class _Partition:
    """One partition this host owns: its tracker, how far it must be read before it speaks, its clock."""

    def __init__(self, tracker: PartitionTracker, gained: Gained) -> None:
        self.tracker = tracker
        self.silent_until = gained.end
        self.position = gained.committed
        self.live = False
        self.due_ms = 0
        self.said: dict[str, int] = {}
        """Timer facts said and not read back, each with the moment from which it may be said again."""


class _OwnFacts:
    """Decisions read back in the transaction that appends them, where nothing stands in between: a commit is saved."""

    def __init__(self, work: Work, batches: Sequence[tuple[_Partition, Batch]]) -> None:
        self._work = work
        self._batches = batches
        self._followed: list[tuple[_Partition, Batch, Followed]] = []

    def follow(self, records: Sequence[Record]) -> Work:
        """The work with what these records change; see `Work.follow`."""
        work, self._followed, done = self._work, [], dict(self._work.done)
        for owned, batch in self._batches:
            partition = owned.tracker.partition
            if partition not in done:
                continue
            own = [record for record in records if record.partition == partition]
            followed = owned.tracker.follow(batch, done[partition], own)
            if followed is not None:
                self._followed.append((owned, batch, followed))
                done[partition] = followed.position
        if not self._followed:
            return work
        states = {(row.partition, row.key): row for row in work.states}
        views = {(view.partition, view.key, view.run): view for view in work.views}
        for _, _, followed in self._followed:
            states.update(((row.partition, row.key), row) for row in followed.rows)
            views.update(((view.partition, view.key, view.run), view) for view in followed.views)
        return replace(work, states=list(states.values()), views=list(views.values()), done=done)

    def adopt(self) -> None:
        """It has become true."""
        for owned, batch, followed in self._followed:
            owned.tracker.adopt(batch, followed)
            owned.position = followed.position


class TrackerHost:
    """One worker of the tracker of one flow. Several share the partitions through the group."""

    def __init__(
        self,
        flow: FlowDefinition,
        log: Log,
        states: StateStore,
        clock: Clock,
        *,
        name: str,
        attributes_of: Callable[[Envelope], Mapping[str, str]],
        counters: Counters | None = None,
        dependencies: Dependencies | None = None,
    ) -> None:
        """`name` is unique among the workers; `attributes_of` reads the filterable fields of a start event."""
        self.flow = flow
        self.counters: Counters = counters or Counters()
        self.dependencies: Dependencies | DependencyReports = dependencies or DependencyReports(clock)
        self._role = f"tracker of {flow.name}"
        self._table = FlowTable(flow)
        self._log = log
        self._states = states
        self._clock = clock
        self._name = name
        self._attributes_of = attributes_of
        self._owned: dict[int, _Partition] = {}
        self._stopping = False
        self.polled_ms: int = 0
        """When it last polled: a sign of life for health checks."""

    async def run(self) -> None:
        """Work until `stop`; storage that fails is waited for, work that lost its lease is dropped."""
        member: Member | None = None
        pause_s = 0.05
        try:
            while not self._stopping:
                try:
                    member = member or await self._log.member(self.flow.name, TRACKER_GROUP, self._name)
                    await self._turn(member)
                    pause_s = 0.05
                    self.dependencies.clear(self._role)
                except LeaseLostError as error:
                    _log.info("tracker %s: %s", self._name, error)
                    await self._leave(member)
                    member = None
                except StorageError as error:
                    report_error(self.dependencies, self._role, error)
                    self.counters.add("tracker_storage_errors", 1)
                    await self._leave(member)
                    member = None
                    await self._clock.sleep(pause_s)
                    pause_s = min(pause_s * 2, 5)
        finally:
            await self._leave(member)

    async def stop(self) -> None:
        """Let `run` end after the present batch."""
        self._stopping = True

    async def _leave(self, member: Member | None) -> None:
        """Give up the partitions; where storage does not let this member leave, its lease runs out."""
        self._forget(list(self._owned))
        if member is not None:
            try:
                await member.close()
            except StorageError as error:
                _log.info("tracker %s leaves without saying so: %s", self._name, error)

    async def _turn(self, member: Member) -> None:
        poll = await member.poll(POLL_SIZE, self._patience_s())
        self.polled_ms = self._clock.now_ms()
        self._forget(poll.lost)
        for gained in poll.gained:
            await self._take(gained)
        if poll.records or poll.read:
            await self._work(member, poll)
        await self._speak_up(member)
        await self._say_due(member)

    async def _take(self, gained: Gained) -> None:
        partitions = await self._log.partitions(self.flow.name)
        tracker = PartitionTracker(self._table, gained.partition, partitions, self._attributes_of)
        owned = _Partition(tracker, gained)
        owned.due_ms = await self._states.next_due(self.flow.name, gained.partition)
        self._owned[gained.partition] = owned

    def _forget(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self._owned.pop(partition, None)

    async def _work(self, member: Member, poll: Poll) -> None:
        by_partition: dict[int, list[Record]] = {}
        for record in poll.records:
            by_partition.setdefault(record.partition, []).append(record)
        batches: list[tuple[_Partition, Batch]] = []
        for partition, records in by_partition.items():
            owned = self._owned[partition]
            batches.append((owned, await self._fold(owned, records)))
        outputs = [fact for owned, batch in batches if owned.live for fact in batch.outputs]
        rerouted = [event for _, batch in batches for event in batch.rerouted]
        done = {partition: offset for partition, offset in poll.read.items() if partition in self._owned}
        work = Work(
            outputs=[*outputs, *rerouted],
            done=done,
            letters=[letter for _, batch in batches for letter in batch.letters],
            states=[row for _, batch in batches for row in batch.states],
            views=[view for _, batch in batches for view in batch.views],
        )
        own = _OwnFacts(work, [(owned, batch) for owned, batch in batches if owned.live])
        await member.commit(replace(work, follow=own.follow) if outputs else work)
        for partition, offset in done.items():
            self._owned[partition].position = offset
        own.adopt()
        for owned, batch in batches:
            self._settle(owned, batch)
        self.counters.add("tracker_events", len(poll.records))
        self.counters.add("tracker_decisions", len(outputs))
        self.counters.add("tracker_rerouted", len(rerouted))

    async def _fold(self, owned: _Partition, records: Sequence[Record]) -> Batch:
        tracker = owned.tracker
        missing = tracker.missing(records)
        if missing:
            rows = await self._states.load(self.flow.name, tracker.partition, missing)
            tracker.put(rows, missing)
            for tracked in (tracker.cache[key] for key in rows):
                for run in tracked.state.runs:
                    await self._recall_attributes(owned, tracked.attributes, run.id, run.started)
        return tracker.fold(records, self._clock.now_ms())

    async def _recall_attributes(
        self, owned: _Partition, attributes: dict[str, Mapping[str, str]], run: str, started: int
    ) -> None:
        """A state that was loaded lacks its start's fields: they stand in the log."""
        if started < 0:
            return
        for record in await self._log.read(self.flow.name, owned.tracker.partition, started, 1):
            attributes[run] = self._attributes_of(record.event)

    def _settle(self, owned: _Partition, batch: Batch) -> None:
        """After the commit: what was read back is no longer waited for, new timers are known."""
        if owned.said:
            for fact_id in batch.read_back:
                owned.said.pop(fact_id, None)
        moments = [owned.due_ms, batch.due_ms]
        for fact_id, early_ms in batch.early:
            owned.said[fact_id] = self._clock.now_ms() + early_ms
            moments.append(owned.said[fact_id])
        owned.due_ms = min((moment for moment in moments if moment), default=0)
        owned.tracker.trim()

    async def _speak_up(self, member: Member) -> None:
        """A partition that was read to the end it had when it was taken may speak: first, what nobody has read."""
        for partition, owned in self._owned.items():
            if owned.live or owned.position < owned.silent_until:
                continue
            rows = self._states.scan(self.flow.name, partition, unsaid_only=True)
            again = unacknowledged([decode(row.state) async for row in rows])
            if again:
                await member.commit(Work(outputs=again, done={partition: owned.position}))
                self.counters.add("tracker_said_again", len(again))
            owned.live = True

    async def _say_due(self, member: Member) -> None:
        now_ms = self._clock.now_ms()
        outputs: list[Envelope] = []
        done: dict[int, int] = {}
        for partition, owned in self._owned.items():
            if owned.live and owned.due_ms and owned.due_ms <= now_ms:
                outputs += await self._due_of(owned, partition, now_ms)
                done[partition] = owned.position
        if outputs:
            await member.commit(Work(outputs=outputs, done=done))
            self.counters.add("tracker_timers", len(outputs))

    async def _due_of(self, owned: _Partition, partition: int, now_ms: int) -> list[Envelope]:
        """What is due and not said yet; remembers when to look again."""
        rows = await self._states.due(self.flow.name, partition, _FAR_FUTURE_MS, DUE_AT_ONCE)
        past = [row for row in rows if row.due_ms <= now_ms]
        found = [fact for row in past for fact in due(self._table, row.key, decode(row.state), now_ms)]
        again_ms = {fact.id: owned.said.get(fact.id, 0) for fact in found}
        said = [fact for fact in found if again_ms[fact.id] <= now_ms]
        owned.said.update((fact.id, _FAR_FUTURE_MS) for fact in said)
        moments = [moment for moment in again_ms.values() if now_ms < moment < _FAR_FUTURE_MS]
        if len(past) < len(rows):
            moments.append(rows[len(past)].due_ms)
        elif len(rows) == DUE_AT_ONCE:
            moments.append(now_ms)
        owned.due_ms = min(moments, default=0)
        return said

    def _patience_s(self) -> float:
        """How long a poll may wait: until the next timer, and never longer than a member may be silent."""
        moments = [owned.due_ms for owned in self._owned.values() if owned.live and owned.due_ms]
        if any(not owned.live for owned in self._owned.values()):
            return 0
        if not moments:
            return IDLE_S
        return max(0.0, min(IDLE_S, (min(moments) - self._clock.now_ms()) / 1000))
