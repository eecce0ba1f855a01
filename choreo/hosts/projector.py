"""The projector as a loop: poll, fold, save views with their position.

It publishes nothing and decides nothing.

Its position is saved with the views, not with its group; the records between the two are read from the log. While the
store is away it keeps its unsaved records and its partitions, reads no more, and goes on when the store is back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from choreo.app.dependencies import DependencyReports
from choreo.app.metrics import Metrics
from choreo.app.paging import Pages
from choreo.app.tracking.fold import FieldsOf
from choreo.app.tracking.project import PartitionProjector
from choreo.core.backoff import Backoff
from choreo.core.definition import FlowDefinition
from choreo.core.errors import LeaseLostError, NotFoundError, StorageError, UnavailableError
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies, report_error
from choreo.ports.log import Assigned, CommitBatch, Consumer, Log, Poll
from choreo.ports.projections import PROJECTOR_GROUP, Projected, Projections

_log = logging.getLogger(__name__)

POLL_SIZE = 1_000
"""Records a poll: some 40 ms of folding; a save takes a few milliseconds of it."""
IDLE_S = 1.0
"""The longest wait of a poll, which the first record ends: a process has one of these loops for each flow."""
LINGER_FROM, LINGER_S = 100, 0.2
"""From so many records a poll on (that was not full), the next one waits: above 500 records a second the events of an
instance come together, so that its state and views are written once for several of them. Below, no poll waits.
"""
COMMIT_MS = 1_000
"""The interval of offset commits while records keep coming: committed offsets only spare reading again."""
LOOK_MS = 3_000
"""The interval at which the store's positions are checked: dropped views are folded again then."""
PAUSE_FIRST_S, PAUSE_MOST_S = 0.05, 1.0
"""Delays while the store fails: doubling, and short enough to go on soon after it is back."""


class _Partition:
    """One owned partition: its saved position, its polled records, its folded and unsaved ones."""

    def __init__(self, projector: PartitionProjector, assigned: Assigned, pages: Pages) -> None:
        self.number = assigned.partition
        self.projector = projector
        self.pages = pages
        self.position = -1
        """The position in the store; -1 until it was requested."""
        self.polled = self.polled_from = self.committed = assigned.committed
        """`pending` goes on from `polled_from` without a gap, up to `polled`."""
        self.pending: list[Record] = []
        self.unsaved: Projected | None = None
        self.held = False

    @property
    def behind(self) -> bool:
        """Return whether there is work to do without another poll."""
        return self.unsaved is not None or self.position < self.polled

    def restart(self, position: int) -> None:
        """Fold from this position: the store has another one than this host assumed."""
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
        fields_of: FieldsOf | None = None,
        metrics: Metrics | None = None,
        dependencies: Dependencies | None = None,
        poll_size: int = POLL_SIZE,
        idle_s: float = IDLE_S,
        look_ms: int = LOOK_MS,
    ) -> None:
        """Give each projector a unique `name`; `attributes_of` reads the filterable fields of a start event.

        `idle_s` is the longest wait of a poll, `look_ms` the interval of looks at the store's positions.
        """
        self.flow = flow
        self.name = name
        self.metrics: Metrics = metrics or Metrics()
        self.dependencies: Dependencies | DependencyReports = dependencies or DependencyReports(clock)
        self._role = f"projector of {flow.name}"
        self.polled_ms: int = 0
        """When it last polled, or reported the reason why it waits: a host that hangs does neither."""
        self._table = FlowTable(flow)
        self._log = log
        self._projections = projections
        self._clock = clock
        self._attributes_of = attributes_of
        self._fields_of = fields_of
        self._poll_size = poll_size
        self._idle_s = idle_s
        self._look_ms = look_ms
        self._owned: dict[int, _Partition] = {}
        self._committed_ms = self._looked_ms = 0
        self._stopping = False

    async def run(self) -> None:
        """Work until `stop`; wait for a store or log that fails."""
        consumer: Consumer | None = None
        backoff = Backoff(PAUSE_FIRST_S, PAUSE_MOST_S)
        try:
            while not self._stopping:
                try:
                    consumer = consumer or await self._join()
                    await self._turn(consumer)
                    backoff.reset()
                    self.dependencies.clear(self._role)
                except LeaseLostError as error:
                    _log.info("projector %s: %s", self.name, error)
                    self._owned.clear()
                    lost, consumer = consumer, None
                    if lost is not None:
                        await lost.close()
                except (StorageError, UnavailableError, NotFoundError) as error:
                    if isinstance(error, NotFoundError) and not self.polled_ms:
                        raise  # the topic was never there
                    report_error(self.dependencies, self._role, error)
                    self.polled_ms = self._clock.now_ms()
                    self.metrics.add("storage_errors", 1)
                    await self._clock.sleep(backoff.next_s())
        finally:
            if consumer is not None:
                await self._leave(consumer)

    async def stop(self) -> None:
        """Let `run` end after the present batch."""
        self._stopping = True

    async def _join(self) -> Consumer:
        return await self._log.consumer(self.flow.name, PROJECTOR_GROUP, self.name)

    async def _leave(self, consumer: Consumer) -> None:
        try:
            await self._commit(consumer)
        except (StorageError, UnavailableError, NotFoundError) as error:
            _log.info("projector %s leaves without a commit: %s", self.name, error)
        finally:
            await consumer.close()

    async def _turn(self, consumer: Consumer) -> None:
        busy = any(owned.behind for owned in self._owned.values())
        poll = await consumer.poll(self._poll_size, 0 if busy else self._idle_s)
        self.polled_ms = self._clock.now_ms()
        await self._take(poll)
        try:
            await self._look()
            failures = [error for owned in self._owned.values() if (error := await self._advance(owned))]
        finally:
            self._hold_back(consumer)
        if failures:
            raise failures[0]
        if not poll.records or not 0 <= self.polled_ms - self._committed_ms < COMMIT_MS:
            await self._commit(consumer)
        if LINGER_FROM <= len(poll.records) < self._poll_size:
            await self._clock.sleep(LINGER_S)

    async def _take(self, poll: Poll) -> None:
        for partition in poll.revoked:
            self._owned.pop(partition, None)
        if poll.assigned:
            partitions = await self._log.partitions(self.flow.name)
            for assigned in poll.assigned:
                projector = PartitionProjector(
                    self._table, assigned.partition, partitions, self._attributes_of, self._fields_of
                )
                self._owned[assigned.partition] = _Partition(projector, assigned, Pages(self._poll_size))
        for record in poll.records:
            self._owned[record.partition].pending.append(record)
        for partition, offset in poll.read.items():
            if partition in self._owned:
                self._owned[partition].polled = offset

    async def _look(self) -> None:
        """Read the store's positions: of new partitions; from time to time of all without unsaved records."""
        now_ms = self._clock.now_ms()
        partitions = [owned for owned in self._owned.values() if owned.position < 0]
        if not 0 <= now_ms - self._looked_ms < self._look_ms:  # a clock may be set back
            partitions = [owned for owned in self._owned.values() if owned.unsaved is None]
        if not partitions:
            return
        positions = await self._projections.positions(self.flow.name)
        self._looked_ms = now_ms
        for owned in partitions:
            stands = positions.get(owned.number, 0)
            if owned.position < 0:
                owned.position = stands
            elif owned.position != stands:
                self._restart(owned, stands)

    async def _advance(self, owned: _Partition) -> StorageError | UnavailableError | None:
        """Fold and save the waiting records of one partition.

        Return its failure, so that the others go on meanwhile.
        """
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
        """Return the records to fold next, and the offset behind them; polled records wait for the ones before them."""
        owned.pending = [record for record in owned.pending if record.offset >= owned.position]
        if owned.position >= owned.polled_from:
            return owned.pending, owned.polled
        limit = owned.pages.limit(owned.polled_from - owned.position)
        found = await self._log.read(self.flow.name, owned.number, owned.position, limit)
        owned.pages.read(found)
        records = [record for record in found if record.offset < owned.polled_from]
        return records, records[-1].offset + 1 if records else owned.polled_from

    async def _save(self, owned: _Partition, batch: Projected) -> None:
        """Save a batch. A batch that was saved, and whose answer was lost, is recognised when it is sent again."""
        stands = await self._projections.save(batch)
        owned.unsaved = None
        if stands != batch.position:
            self._restart(owned, stands)
            return
        owned.position = stands
        owned.projector.trim()
        self.metrics.add("projector_events", sum(map(len, batch.history.values())))

    def _restart(self, owned: _Partition, stands: int) -> None:
        _log.info("projector %s: partition %d goes on at the store's position %d", self.name, owned.number, stands)
        owned.restart(stands)

    def _hold_back(self, consumer: Consumer) -> None:
        """Pause a partition that has more unsaved records than it may have."""
        for owned in self._owned.values():
            if owned.behind != owned.held:
                owned.held = owned.behind
                (consumer.pause if owned.held else consumer.resume)([owned.number])

    async def _commit(self, consumer: Consumer) -> None:
        """Commit the group's offsets.

        The next poll reports a partition that is revoked meanwhile: nothing depends on this.
        """
        done = {
            owned.number: owned.position
            for owned in self._owned.values()
            if owned.committed < owned.position <= owned.polled
        }
        if not done:
            return
        try:
            await consumer.commit(CommitBatch(done=done))
        except LeaseLostError as error:
            _log.info("projector %s: %s", self.name, error)
            return
        self._committed_ms = self._clock.now_ms()
        for partition, offset in done.items():
            self._owned[partition].committed = offset
