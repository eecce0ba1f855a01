"""What a worker of the Faust tracker does with the partitions it owns: fold, write, say; speak up, keep the time.

A position is safe when the states and facts up to it are acknowledged, and only then may its offset be committed. Knows
neither Faust nor Kafka: the local copy and its changelog come as `States`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from choreo.app.counters import Counters
from choreo.core.definition import FlowTable
from choreo.core.errors import StorageError, UnavailableError
from choreo.core.events import Envelope, Record
from choreo.hosts.tracker_faust_index import KeyIndex
from choreo.hosts.tracker_faust_partition import Folded, Missing, OwnedPartition, index_stored, position_of
from choreo.ports.clock import Clock
from choreo.ports.dead_letters import DeadLetter, DeadLetters
from choreo.ports.dependencies import Dependencies, report_error
from choreo.ports.log import Log

_ROWS_AT_ONCE = 500
"""Stored states looked at before others get their turn: some 5 ms."""
_PAUSE_MAX_S = 5.0
_PATIENCE_MIN_S = 0.005


class States(Protocol):
    """The local copy of the states, and the changelog behind it."""

    def read(self, partition: int, key: bytes) -> bytes | None:
        """The stored state."""
        ...

    def scan(self, partition: int) -> Iterator[tuple[bytes, bytes]]:
        """Every key and stored state of the partition."""
        ...

    def put(self, partition: int, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Write the local copy at once."""
        ...

    async def publish(self, partition: int, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Write the changelog; returns when all of it is acknowledged. Raises ChangelogError."""
        ...


class ChangelogError(StorageError):
    """A state could not be written to the changelog: the process ends, and reads it again from the last safe place."""


class SkippedError(StorageError):
    """Records were not delivered, or are not being delivered: the consumer is to be made anew."""


class TrackerDesk:
    """The owned partitions of one worker and everything that is done with them."""

    def __init__(
        self,
        table: FlowTable,
        log: Log,
        letters: DeadLetters,
        states: States,
        clock: Clock,
        counters: Counters,
        dependencies: Dependencies,
    ) -> None:
        """Reads the topic named like the flow; facts go to it through `log`."""
        self.owned: dict[int, OwnedPartition] = {}
        self._table = table
        self._topic = table.flow.name
        self._log = log
        self._letters = letters
        self._states = states
        self._clock = clock
        self._counters = counters
        self._dependencies = dependencies
        self._indexes: dict[int, KeyIndex] = {}
        self._saying = asyncio.Lock()

    async def give(self, spans: Mapping[int, tuple[int, int]], missing: Mapping[int, Missing] | None = None) -> None:
        """These partitions, and no others, are this worker's: each with its next offset and the log's end.

        `missing` are records that nobody has read: no clock decides for a key of which they may have been.

        Their states are in the local copy. Raises StorageError if that is of another log.
        """
        self.take_back()
        partitions = await self._log.partitions(self._topic)
        bytes_max = await self._log.bytes_max(self._topic)
        indexes = {partition: await self._index(partition, end) for partition, (_, end) in spans.items()}
        self._indexes = indexes
        for partition, (position, end) in spans.items():
            self.owned[partition] = OwnedPartition(
                self._table,
                partition,
                partitions,
                indexes[partition],
                partial(self._states.read, partition),
                position=position,
                end=end,
                unread_until=missing[partition].end if missing and partition in missing else 0,
                bytes_max=bytes_max,
            )

    def take_back(self) -> None:
        """No partition is this worker's for now. What is known of their keys is kept: mostly they come back."""
        self.owned = {}

    def restored(self, partition: int, rows: Mapping[bytes, bytes]) -> None:
        """States of the partition were restored into the local copy."""
        index = self._indexes.get(partition)
        if index is not None:
            for key, stored in rows.items():
                index_stored(index, key.decode(), stored)

    async def work(self, batches: Mapping[int, Sequence[Record]]) -> None:
        """Fold each owned partition's records; returns when all that follows from them is acknowledged.

        Raises ChangelogError, SkippedError, and StorageError on dead letters that cannot be kept.
        """
        for partition, records in batches.items():
            await self._check_complete(partition, records)
        # Nothing is awaited until the local copy is written: it, the index and the states in memory agree.
        now_ms = self._clock.now_ms()
        folded: list[tuple[OwnedPartition, Folded]] = []
        for partition, records in batches.items():
            owned = self.owned.get(partition)
            if owned is not None:
                folded.append((owned, owned.fold(records, now_ms)))
                self._states.put(partition, folded[-1][1].rows)
        reached = [(owned, owned.position) for owned, _ in folded]
        outputs = [fact for _, one in folded for fact in one.outputs]
        letters = [letter for _, one in folded for letter in one.letters]
        await _all(
            self._say(outputs),
            self._set_aside(letters),
            *(self._states.publish(owned.partition, one.rows) for owned, one in folded),
        )
        for owned, position in reached:
            owned.safe = max(owned.safe, position)
        self._counters.add("tracker_events", sum(map(len, batches.values())))
        rerouted = sum(one.rerouted for _, one in folded)
        self._counters.add("tracker_decisions", len(outputs) - rerouted)
        self._counters.add("tracker_rerouted", rerouted)

    async def tick(self) -> None:
        """Speak up for partitions that were read to their end, and say what is due."""
        for owned in list(self.owned.values()):
            if not owned.live and owned.position >= owned.silent_until:
                again = owned.speak()
                await self._say(again)
                self._counters.add("tracker_said_again", len(again))
        now_ms = self._clock.now_ms()
        facts = [fact for owned in self.owned.values() if owned.live for fact in owned.due(now_ms)]
        await self._say(facts)
        self._counters.add("tracker_timers", len(facts))

    async def check_progress(self, before: Mapping[int, int]) -> dict[int, int]:
        """Positions now, to be given back the next time. Raises SkippedError if none moved and one is behind.

        Also passes over entries that are no records, such as the markers of a foreign transaction: they are no lag.
        """
        positions = {partition: owned.position for partition, owned in self.owned.items()}
        for partition, owned in list(self.owned.items()):
            position = owned.position
            if before.get(partition) != position or (stable := await self._stable_end(partition)) <= position:
                continue
            if not await self._log.read(self._topic, partition, position, 1):
                owned.pass_over(position, stable)
            elif positions == before:
                raise SkippedError(
                    f"nothing was delivered from offset {owned.position} on, where records stand",
                    where=f"topic {self._topic}, partition {partition}",
                    remedy="The consumer is made anew.",
                )
        return positions

    def patience_s(self, at_most_s: float) -> float:
        """How long until the next timer is due, if it is sooner."""
        moments = [owned.next_due_ms for owned in self.owned.values() if owned.live and owned.next_due_ms]
        if not moments:
            return at_most_s
        return max(_PATIENCE_MIN_S, min(at_most_s, (min(moments) - self._clock.now_ms()) / 1000))

    async def _stable_end(self, partition: int) -> int:
        return await self._log.stable_end(self._topic, partition)

    async def _index(self, partition: int, end: int) -> KeyIndex:
        known = self._indexes.get(partition)
        if known is not None:
            return known
        index = KeyIndex()
        for number, (key, stored) in enumerate(self._states.scan(partition)):
            if position_of(stored) >= end:
                raise StorageError(
                    f"the state of {key!r} has read beyond the end of the log: it is of another log",
                    where=f"topic {self._topic}, partition {partition}",
                    remedy=(
                        f"Stop every role, `choreo topics adopt {self._topic}`, start them: states and positions of "
                        "the other log are dropped, and this one is read from its first record."
                    ),
                )
            index_stored(index, key.decode(), stored)
            if number % _ROWS_AT_ONCE == _ROWS_AT_ONCE - 1:
                await asyncio.sleep(0)
        return index

    async def _check_complete(self, partition: int, records: Sequence[Record]) -> None:
        """Every record up to the last was delivered. From the first jump on this is checked against the log.

        In one read: a foreign producer's transactions of a single record leave a jump behind each.
        """
        owned = self.owned.get(partition)
        offsets = [record.offset for record in records]
        expected = _first_jump(owned.position if owned else offsets[0], offsets)
        if expected is None:
            return
        delivered = set(offsets)
        for there in await self._log.read(self._topic, partition, expected, len(offsets)):
            if there.offset < offsets[-1] and there.offset not in delivered:
                raise SkippedError(
                    f"offset {there.offset} was not delivered, {offsets[-1]} was",
                    where=f"topic {self._topic}, partition {partition}",
                    remedy="The consumer is made anew.",
                )

    async def _say(self, facts: Sequence[Envelope]) -> None:
        """Publish facts in the order in which they were decided; a log that is away is waited for."""
        if not facts:
            return
        async with self._saying:
            await self._insist(f"log of {self._topic}", lambda: self._log.append(self._topic, facts))

    async def _set_aside(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            await self._insist(f"dead letters of {self._topic}", lambda: self._letters.add(letters))

    async def _insist(self, target: str, write: Callable[[], Awaitable[Any]]) -> None:
        pause_s = 0.05
        while True:
            try:
                await write()
            except (StorageError, UnavailableError) as error:
                report_error(self._dependencies, target, error)
                self._counters.add("tracker_storage_errors", 1)
                await self._clock.sleep(pause_s)
                pause_s = min(pause_s * 2, _PAUSE_MAX_S)
            else:
                self._dependencies.clear(target)
                return


def _first_jump(expected: int, offsets: Iterable[int]) -> int | None:
    """Return the first offset from `expected` on that is left out; None if none is."""
    for offset in offsets:
        if offset > expected:
            return expected
        expected = max(expected, offset + 1)
    return None


async def _all(*parts: Awaitable[None]) -> None:
    """Do all of them at once; the first error ends the others."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
