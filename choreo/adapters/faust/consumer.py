"""One session of the Faust application, as a member of the tracker's group (`ports.log.Consumer`).

Brings records, stores states, and moves offsets as far as all is acknowledged. A session that fails is closed, and its
poll or commit raises the cause; the next one is opened by `group`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from choreo.adapters.faust.application import Place, TrackerApp
from choreo.adapters.faust.assignments import Assignments
from choreo.adapters.faust.fetched import BATCH, BURST, LINGER_S, FetchedRecords
from choreo.adapters.faust.local_copy import LocalCopy
from choreo.adapters.faust.options import FaustOptions
from choreo.adapters.faust.publisher import Publisher, all_of
from choreo.adapters.faust.session_watch import SessionWatch
from choreo.adapters.faust.stored_state import pack
from choreo.adapters.faust.topics import SessionTopics
from choreo.adapters.faust.trust import Trust, note_of
from choreo.core.errors import StorageError
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies
from choreo.ports.log import Assigned, CommitBatch, Log, Poll

_log = logging.getLogger(__name__)

COMMIT_S = 1.0
"""How often offsets are committed: so much is read again after a crash."""
STOP_S = 20.0
"""How long Faust may take to leave its group."""


class Parts(msgspec.Struct):
    """The parts that a session is made of."""

    flow: str
    options: FaustOptions
    log: Log
    clock: Clock
    dependencies: Dependencies
    publisher: Publisher
    fetched: FetchedRecords
    topics: SessionTopics
    local: LocalCopy
    data_dir: Path
    held: ExitStack
    """Holds the data directory and the local copy until the session is closed."""
    report_missing: Callable[[Mapping[int, Any]], None]


class FaustConsumer:
    """One session. Faust calls it as `application.Owner`."""

    def __init__(self, parts: Parts) -> None:
        """Run nothing before `start`."""
        self.is_recovered: bool = False
        """Whether its partitions are assigned and their states restored."""
        self._parts = parts
        self._assignments = Assignments()
        self._app = TrackerApp.of(
            parts.flow, parts.options, parts.data_dir, parts.topics.origin.partitions, self, parts.local
        )
        self._trusts: Mapping[int, Trust] = {}
        self._revocations = 0
        self._wakeup = asyncio.Event()
        self._watch = SessionWatch(parts.flow, parts.log, parts.clock, parts.dependencies, self._wakeup.set)
        self._tasks: list[asyncio.Future[None]] = []

    def start(self) -> None:
        """Let Faust join the group."""
        watch = self._watch
        starting = asyncio.ensure_future(self._app.start())
        self._tasks = [
            starting,
            *(
                asyncio.ensure_future(watch.failing_with(work))
                for work in (
                    watch.supervise(self._app, starting),
                    watch.watch(self._parts.topics.check, self._assignments),
                    self._commit_now_and_then(),
                )
            ),
        ]

    @property
    def is_away(self) -> bool:
        """Return whether the cluster did not answer the last request."""
        return self._watch.is_away

    # As a member of the group.

    async def poll(self, limit: int, timeout_s: float) -> Poll:
        """Return records, or changes of the assignment; see the port. Raises StorageError, SkippedError."""
        until_s = asyncio.get_running_loop().time() + timeout_s
        while True:
            self._watch.raise_failure()
            self._wakeup.clear()
            if self._assignments.has_news:
                assigned, lost = self._assignments.take_news()
                return Poll(assigned=assigned, revoked=lost)
            passed = self._assignments.take_passed()
            if passed:
                return Poll(read=passed)
            if not self._parts.fetched.is_empty:
                generation = self._app.consumer_generation_id
                records = await self._parts.fetched.take(limit, generation, self._assignments.polled)
                read = {record.partition: record.offset + 1 for record in records}
                return Poll(records, read=read, full=len(records) >= min(limit, BATCH))
            try:
                async with asyncio.timeout_at(until_s):
                    await self._wakeup.wait()
            except TimeoutError:
                return Poll()

    async def commit(self, work: CommitBatch) -> None:
        """Write states and publish events; return when all of it is acknowledged.

        Raises LeaseLostError where states are of a revoked partition, ChangelogError, StorageError. Without states
        nothing is refused: a fact that a former owner publishes is a duplicate.
        """
        rows: dict[int, list[tuple[bytes, bytes]]] = {}
        for row in work.states:
            rows.setdefault(row.partition, []).append((row.key.encode(), pack(row)))
        self._assignments.require(rows)
        # Nothing is awaited since the poll: states in memory, index and local copy agree.
        states = self._app.states
        for partition, stored in rows.items():
            states.put(partition, stored)
        acknowledged = self._assignments.mark()
        await self._watch.unless_failed(
            all_of(
                self._parts.publisher.facts(work.outputs),
                self._parts.publisher.dead_letters(work.dead_letters),
                *(states.publish(partition, stored) for partition, stored in rows.items()),
            )
        )
        acknowledged(work.done)

    def pause(self, partitions: Sequence[int]) -> None:
        """Do nothing: a tracker does not pause partitions."""

    def resume(self, partitions: Sequence[int]) -> None:
        """Do nothing, as `pause`."""

    async def close(self) -> None:
        """Leave the group: commit acknowledged offsets, stop Faust, release local copy and data directory."""
        where = f"tracker of {self._parts.flow}"
        self._watch.fail(StorageError("the session is closed", where=where))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_S)
        try:
            async with asyncio.timeout(STOP_S):
                await self._commit_offsets()
                await self._app.stop()
        except Exception as error:  # noqa: BLE001 - the session is closed; its files are released below
            _log.warning("%s: Faust did not stop in order: %r", where, error)
        finally:
            self.is_recovered = False
            self._parts.held.close()

    # As the application's owner.

    async def fetched(self, messages: Sequence[Any]) -> None:
        """Take the flow's records; until it returns no more are fetched."""
        await self._parts.fetched.put(messages)
        self._wakeup.set()
        if BURST <= len(messages) < 2 * BATCH:
            await asyncio.sleep(LINGER_S)

    def restored(self, partition: int, rows: Mapping[bytes, bytes]) -> None:
        """Note which states were restored into the local copy."""
        self._watch.sign()
        self._assignments.restored(partition, rows)

    async def recovered(self) -> None:
        """Take over the assigned partitions; their states are in the local copy."""
        self._watch.is_assigned = True
        self._parts.fetched.restart()
        try:
            await self._take_over()
        except Exception as error:  # noqa: BLE001 - Faust would swallow it; the session ends with it
            self._watch.fail(error)
        finally:
            self._watch.is_assigned = self.is_recovered

    async def revoked(self) -> None:
        """Commit the offsets of this worker, and give up its partitions."""
        self.is_recovered = self._watch.is_assigned = False
        self._revocations += 1
        self._app.fetch_patiently(is_live=False)
        self._watch.sign()
        self._parts.report_missing({})
        await self._commit_offsets()
        self._assignments.revoke()
        self._wakeup.set()

    async def _take_over(self) -> None:
        app, topics, revocations = self._app, self._parts.topics, self._revocations
        takes = await topics.look_over(app.partitions())
        app.states.written.update(topics.written)
        self._trusts = {partition: take.trust for partition, take in takes.items()}
        places = self._places({partition: take.position for partition, take in takes.items()})
        if places and not await app.commit_offsets(places):
            return
        committed = await app.assigned()
        if committed is None:
            return
        # Requested by another client: the answers of Faust's come behind its fetches. The end is that of the log,
        # also behind an open transaction: decisions that stand there are read before any is made.
        spans = await topics.spans()
        if self._revocations != revocations:
            return  # the partitions of now may not be restored yet: Faust calls again when they are
        missing = {number: trust.missing for number, trust in self._trusts.items() if trust.missing}
        assigned = [
            Assigned(
                number,
                max(offset, spans[number][0]),
                spans[number][1],
                unread_until=missing[number].end if number in missing else 0,
            )
            for number, offset in committed.items()
        ]
        self._assignments.assign(assigned, committed)
        self._parts.report_missing(missing)
        self.is_recovered = True
        app.fetch_patiently(is_live=True)
        self._wakeup.set()

    # Offsets.

    def end_of(self, partition: int) -> int | None:
        """Return the log's end when the partition was assigned; None: it is not."""
        return self._assignments.end_of(partition)

    async def _commit_offsets(self) -> None:
        moved = self._assignments.to_commit()
        if moved and await self._app.commit_offsets(self._places(moved)):
            self._assignments.committed(moved)

    def _places(self, offsets: Mapping[int, int]) -> dict[int, Place]:
        written, origin = self._app.states.written, self._parts.topics.origin
        return {
            partition: Place(offset, written.get(partition, 0), note_of(origin, self._trusts[partition]))
            for partition, offset in offsets.items()
        }

    async def _commit_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            await self._commit_offsets()
