"""The projector as a loop: poll, fold, save views with their position. It says nothing and decides nothing.

How far it is stands with the views, not with its group: what lies between the two is read from the log. With the
store away it holds what it has, reads no more, keeps its partitions, and goes on when the store is back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from choreo.app.counters import Counters
from choreo.app.dependencies import DependencyReports
from choreo.app.paging import Pages
from choreo.app.project import PartitionProjector
from choreo.core.definition import FlowDefinition, FlowTable
from choreo.core.errors import LeaseLostError, StorageError, UnavailableError
from choreo.core.events import Envelope, Record
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies, report_error
from choreo.ports.log import Gained, Log, Member, Poll, Work
from choreo.ports.projections import PROJECTOR_GROUP, Projected, Projections

_log = logging.getLogger(__name__)

POLL_SIZE = 1_000
"""Records a poll: some 40 ms of folding, of which a save is a few milliseconds."""
IDLE_S = 0.25
"""The longest wait of a poll: a member must be heard of several times within its lease."""
CROWD, GATHER_S = 100, 0.2
"""From so many records a poll on (that was not full), the next one waits: above 500 records a second the events of an
instance come together, so that its state and views are written once for several of them. Below, nothing waits."""
COMMIT_MS = 1_000
"""How often the group's offsets are written while records keep coming: they only spare reading again."""
LOOK_MS = 1_000
"""How often it is looked whether the store still stands where it was left: one that was dropped says nothing."""
PAUSE_FIRST_S, PAUSE_MOST_S = 0.05, 1.0
"""Waits for a store that fails: doubling, and short enough to go on soon after it is back."""


class _Partition:
    """One partition this host owns: how far it is saved, what was polled beyond that, what is folded and not saved."""

    def __init__(self, projector: PartitionProjector, gained: Gained, pages: Pages) -> None:
        self.number = gained.partition
        self.projector = projector
        self.pages = pages
        self.position = -1
        """As the store has it; -1 until it was asked."""
        self.polled = self.polled_from = self.committed = gained.committed
        """`pending` goes on from `polled_from` without a gap, up to `polled`."""
        self.pending: list[Record] = []
        self.unsaved: Projected | None = None
        self.held = False

    @property
    def behind(self) -> bool:
        """Whether there is something to do without polling for more."""
        return self.unsaved is not None or self.position < self.polled

    def restart(self, position: int) -> None:
        """The store stands elsewhere than this host thought: fold from there."""
        self.projector.forget()
        self.pending.clear()
        self.position, self.polled_from = position, self.polled


class ProjectorHost:
    """One projector of one flow. Several share the partitions through their group."""

    def __init__(
        self,
        flow: FlowDefinition,
        log: Log,
        projections: Projections,
        clock: Clock,
        *,
        name: str,
        attributes_of: Callable[[Envelope], Mapping[str, str]],
        counters: Counters | None = None,
        dependencies: Dependencies | None = None,
        poll_size: int = POLL_SIZE,
    ) -> None:
        """`name` is unique among the projectors; `attributes_of` reads the filterable fields of a start event."""
        self.flow = flow
        self.name = name
        self.counters: Counters = counters or Counters()
        self.dependencies: Dependencies | DependencyReports = dependencies or DependencyReports(clock)
        self._role = f"projector of {flow.name}"
        self.polled_ms: int = 0
        """When it last polled: a sign of life for health checks."""
        self._table = FlowTable(flow)
        self._log = log
        self._projections = projections
        self._clock = clock
        self._attributes_of = attributes_of
        self._poll_size = poll_size
        self._owned: dict[int, _Partition] = {}
        self._committed_ms = self._looked_ms = 0
        self._stopping = False

    async def run(self) -> None:
        """Work until `stop`; a store or log that fails is waited for."""
        member: Member | None = None
        pause_s = PAUSE_FIRST_S
        try:
            while not self._stopping:
                try:
                    member = member or await self._join()
                    await self._turn(member)
                    pause_s = PAUSE_FIRST_S
                    self.dependencies.clear(self._role)
                except LeaseLostError as error:
                    _log.info("projector %s: %s", self.name, error)
                    self._owned.clear()
                    lost, member = member, None
                    if lost is not None:
                        await lost.close()
                except (StorageError, UnavailableError) as error:
                    report_error(self.dependencies, self._role, error)
                    self.counters.add("projector_storage_errors", 1)
                    await self._clock.sleep(pause_s)
                    pause_s = min(pause_s * 2, PAUSE_MOST_S)
        finally:
            if member is not None:
                await self._leave(member)

    async def stop(self) -> None:
        """Let `run` end after the present batch."""
        self._stopping = True

    async def _join(self) -> Member:
        return await self._log.member(self.flow.name, PROJECTOR_GROUP, self.name)

    async def _leave(self, member: Member) -> None:
        try:
            await self._commit(member)
        except (StorageError, UnavailableError) as error:
            _log.info("projector %s leaves without a commit: %s", self.name, error)
        finally:
            await member.close()

    async def _turn(self, member: Member) -> None:
        busy = any(owned.behind for owned in self._owned.values())
        poll = await member.poll(self._poll_size, 0 if busy else IDLE_S)
        self.polled_ms = self._clock.now_ms()
        await self._take(poll)
        try:
            await self._look()
            failures = [error for owned in self._owned.values() if (error := await self._advance(owned))]
        finally:
            self._hold_back(member)
        if failures:
            raise failures[0]
        if not poll.records or not 0 <= self.polled_ms - self._committed_ms < COMMIT_MS:
            await self._commit(member)
        if CROWD <= len(poll.records) < self._poll_size:
            await self._clock.sleep(GATHER_S)

    async def _take(self, poll: Poll) -> None:
        for partition in poll.lost:
            self._owned.pop(partition, None)
        if poll.gained:
            partitions = await self._log.partitions(self.flow.name)
            for gained in poll.gained:
                projector = PartitionProjector(self._table, gained.partition, partitions, self._attributes_of)
                self._owned[gained.partition] = _Partition(projector, gained, Pages(self._poll_size))
        for record in poll.records:
            self._owned[record.partition].pending.append(record)
        for partition, offset in poll.read.items():
            if partition in self._owned:
                self._owned[partition].polled = offset

    async def _look(self) -> None:
        """Learn where the store stands: of partitions just gained; from time to time of all with nothing unsaved."""
        now_ms = self._clock.now_ms()
        asked = [owned for owned in self._owned.values() if owned.position < 0]
        if not 0 <= now_ms - self._looked_ms < LOOK_MS:  # a clock may be set back
            asked = [owned for owned in self._owned.values() if owned.unsaved is None]
        if not asked:
            return
        positions = await self._projections.positions(self.flow.name)
        self._looked_ms = now_ms
        for owned in asked:
            stands = positions.get(owned.number, 0)
            if owned.position < 0:
                owned.position = stands
            elif owned.position != stands:
                self._restart(owned, stands)

    async def _advance(self, owned: _Partition) -> StorageError | UnavailableError | None:
        """Fold and save what there is of one partition. Its failure is returned: the others go on meanwhile."""
        try:
            if owned.unsaved is None:
                owned.unsaved = await self._fold(owned)
            if owned.unsaved is not None:
                await self._save(owned, owned.unsaved)
        except (StorageError, UnavailableError) as error:
            return error
        return None

    async def _fold(self, owned: _Partition) -> Projected | None:
        records, position = await self._next(owned)
        if position <= owned.position:
            return None
        missing = owned.projector.missing(records)
        if missing:
            owned.projector.put(await self._projections.load(self.flow.name, owned.number, missing), missing)
        return owned.projector.fold(records, owned.position, position)

    async def _next(self, owned: _Partition) -> tuple[Sequence[Record], int]:
        """The records to fold next, and up to where they go; what was polled waits for what lies before it."""
        owned.pending = [record for record in owned.pending if record.offset >= owned.position]
        if owned.position >= owned.polled_from:
            return owned.pending, owned.polled
        limit = owned.pages.limit(owned.polled_from - owned.position)
        found = await self._log.read(self.flow.name, owned.number, owned.position, limit)
        owned.pages.read(found)
        records = [record for record in found if record.offset < owned.polled_from]
        return records, records[-1].offset + 1 if records else owned.polled_from

    async def _save(self, owned: _Partition, batch: Projected) -> None:
        """A batch that was saved although its answer was lost is found to be saved when it is sent again."""
        stands = await self._projections.save(batch)
        owned.unsaved = None
        if stands != batch.position:
            self._restart(owned, stands)
            return
        owned.position = stands
        owned.projector.trim()
        self.counters.add("projector_events", sum(map(len, batch.history.values())))

    def _restart(self, owned: _Partition, stands: int) -> None:
        _log.info("projector %s: partition %d stands at %d now", self.name, owned.number, stands)
        owned.restart(stands)

    def _hold_back(self, member: Member) -> None:
        """Poll nothing more of a partition that has more in hand than it could save."""
        for owned in self._owned.values():
            if owned.behind != owned.held:
                owned.held = owned.behind
                (member.pause if owned.held else member.resume)([owned.number])

    async def _commit(self, member: Member) -> None:
        """Tell the group how far it is. A partition lost meanwhile is told by the next poll: nothing hangs on this."""
        done = {
            owned.number: owned.position
            for owned in self._owned.values()
            if owned.committed < owned.position <= owned.polled
        }
        if not done:
            return
        try:
            await member.commit(Work(done=done))
        except LeaseLostError as error:
            _log.info("projector %s: %s", self.name, error)
            return
        self._committed_ms = self._clock.now_ms()
        for partition, offset in done.items():
            self._owned[partition].committed = offset
