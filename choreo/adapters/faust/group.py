"""The tracker's group of one flow on Kafka: opens a session for a worker, and reads the states of the present one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol

from choreo.adapters.faust.consumer import FaustConsumer, Parts
from choreo.adapters.faust.data_dir import claimed
from choreo.adapters.faust.fetched import FetchedRecords, ReadEvent
from choreo.adapters.faust.local_copy import LocalCopy
from choreo.adapters.faust.options import FaustOptions
from choreo.adapters.faust.publisher import Publisher
from choreo.adapters.faust.stored_state import pending_of, position_of, row_of
from choreo.adapters.faust.topics import SessionTopics
from choreo.adapters.faust.trust import Missing, describe
from choreo.adapters.kafka import KafkaLog, KafkaOptions
from choreo.core.errors import SettingsError, StorageError
from choreo.ports.clock import Clock
from choreo.ports.dead_letters import DeadLetters
from choreo.ports.dependencies import Dependencies
from choreo.ports.state import PendingKey, StateRow

_ROWS_AT_ONCE = 500
"""Stored states read before others get their turn: some 5 ms."""


class FaustBackend(Protocol):
    """The backend with the log that the tracker reads: its cluster, its parts, and a directory for local copies."""

    options: KafkaOptions
    log: KafkaLog
    event_of: ReadEvent

    @property
    def bootstrap(self) -> str:
        """Return the addresses of the cluster."""

    @property
    def data(self) -> Path:
        """Return the directory for local copies."""

    @property
    def dead_letters(self) -> DeadLetters:
        """Return the dead letters beside the log."""


class FaustGroup:
    """Consumers (`join`) and states (`ports.state.TrackerStates`) of one worker of one flow's tracker."""

    def __init__(
        self,
        flow: str,
        log: KafkaLog,
        dead_letters: DeadLetters,
        clock: Clock,
        *,
        options: FaustOptions,
        read: ReadEvent,
        dependencies: Dependencies,
        count: Callable[[str, float], None],
        observe: Callable[[int], None] | None = None,
    ) -> None:
        """Open nothing yet. `log` publishes facts, `read` decodes a record, `count` adds to a counter.

        `observe` receives the log's time from each batch.
        """
        self._flow = flow
        self._log = log
        self._dead_letters = dead_letters
        self._clock = clock
        self._options = options
        self._read = read
        self._dependencies = dependencies
        self._count = count
        self._observe = observe or _ignore
        self._session: FaustConsumer | None = None
        self._local: LocalCopy | None = None
        self._attempts = 0
        self._has_worked = False

    def is_waiting(self) -> bool:
        """Return whether the worker waits for the cluster: to be assigned partitions, or for an answer."""
        return self._session is None or not self._session.is_recovered or self._session.is_away

    async def join(self) -> FaustConsumer:
        """Open a session.

        Raises SettingsError on topics that do not fit, StorageError on those that did, or a cluster that is away.
        """
        self._session = None
        if self._attempts:
            self._count("tracker_restarts", 1)
        self._attempts += 1
        held = ExitStack()
        try:
            data_dir = held.enter_context(claimed(self._options.data_dir / self._flow))
            local = held.enter_context(closing(LocalCopy(data_dir)))
            topics = await self._topics(local)
            parts = Parts(
                flow=self._flow,
                options=self._options,
                log=self._log,
                clock=self._clock,
                dependencies=self._dependencies,
                publisher=Publisher(
                    self._flow, self._log, self._dead_letters, self._clock, self._dependencies, self._count
                ),
                fetched=FetchedRecords(self._flow, self._log, topics.origin.log_id, self._read, self._observe),
                topics=topics,
                local=local,
                data_dir=data_dir,
                held=held,
                report_missing=self._report_missing,
            )
            session = FaustConsumer(parts)
        except BaseException:
            held.close()
            raise
        self._session, self._local, self._has_worked = session, local, True
        session.start()
        return session

    async def load(self, topic: str, partition: int, keys: Sequence[str]) -> dict[str, StateRow]:
        """Return the rows of these keys from the local copy, without a wait."""
        local = self._copy()
        found = ((key, local.read(partition, key.encode())) for key in keys)
        return {key: row_of(topic, partition, key, stored) for key, stored in found if stored is not None}

    async def pending(self, topic: str, partition: int) -> AsyncIterator[PendingKey]:
        """Yield the pending keys of an assigned partition. Raises StorageError if its states are of another log."""
        end = self._session.end_of(partition) if self._session else None
        for number, (raw, stored) in enumerate(self._copy().scan(partition)):
            key = raw.decode()
            if end is not None and position_of(stored) >= end:
                raise StorageError(
                    f"the state of {key!r} is beyond the end of the log: it is of another log",
                    where=f"topic {topic}, partition {partition}",
                    remedy=(
                        f"Stop every role, `choreo topics adopt {topic}`, start them: states and offsets of "
                        "the other log are dropped, and this one is read from its first record."
                    ),
                )
            each = pending_of(key, stored)
            if each.due_ms or each.unacknowledged:
                yield each
            if number % _ROWS_AT_ONCE == _ROWS_AT_ONCE - 1:
                await asyncio.sleep(0)

    def _copy(self) -> LocalCopy:
        if self._local is None or self._local.is_closed:
            raise StorageError("the local copy is closed", where=f"tracker of {self._flow}")
        return self._local

    async def _topics(self, local: LocalCopy) -> SessionTopics:
        try:
            return await SessionTopics.found(self._flow, self._log, self._options, local, self._count)
        except SettingsError as error:
            if self._has_worked:
                # A session has worked: the topics are just being changed.
                raise StorageError(error.what, where=error.where, remedy=error.remedy) from error
            raise

    def _report_missing(self, missing: Mapping[int, Missing]) -> None:
        """Report records that were deleted before they were read; none: clear the report."""
        name = f"records of {self._flow}"
        if not missing:
            self._dependencies.clear(name)
            return
        self._dependencies.report(
            name,
            f"records were deleted before they were read: {describe(missing)}",
            "No clock decides for runs there of which nothing came since: look at them, and cancel them where they do "
            f"not go on. With every role stopped, `choreo topics adopt {self._flow} --same-records` confirms that this "
            "is done.",
        )


def _ignore(_: int) -> None:
    """Observe nothing."""
