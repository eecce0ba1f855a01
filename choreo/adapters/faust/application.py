"""The tracker's Faust application.

The one file that imports Faust, using private parts of 0.15.3.

Faust keeps the group, restores the table and fetches. Four things are not left to it: the owner names the offsets to
commit; a restore takes the highest position of each key; the changelog's acknowledgements are awaited; nothing is
decoded. Records go to the owner a fetch at a time, and not through Faust's streams: one by one they cost 250 µs each,
six times the work on them, and Faust acknowledges records that it cannot decode.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from choreo.adapters.faust.local_copy import LocalCopy
from choreo.adapters.faust.options import TABLE, FaustOptions
from choreo.adapters.faust.stored_state import position_of
from choreo.adapters.kafka.options import ISOLATION
from choreo.core.errors import ChangelogError, MissingExtraError, StorageError

try:
    import faust
    from aiokafka import TopicPartition
    from aiokafka import client as kafka_client
    from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
    from aiokafka.protocol.metadata import MetadataRequest
    from aiokafka.structs import OffsetAndMetadata
    from faust.stores.base import Store
    from faust.tables.recovery import Recovery
    from faust.transport.drivers import aiokafka as driver
    from mode.services import Service
    from mode.threads import WorkerThread
except ImportError as _missing:
    raise MissingExtraError.of("Faust is not installed", where="choreo.adapters.faust", extra="faust") from _missing

# aiokafka lets the broker create each topic that it asks about, and has no setting for it.
kafka_client.MetadataRequest = partial(MetadataRequest, allow_auto_topic_creation=False)

RESTORE_FETCH_MS = 50
"""A broker answers a connection's requests in their order: a restore's requests, and the first fetch after it, wait
until the fetch before is over.
"""
_LOOK_S = 0.2
"""How long aiokafka's fetching rests when nothing happens, its own default: 50 idle flows look 250 times a second."""


class Place(NamedTuple):
    """Offsets to commit for a partition, in the log and in the changelog."""

    offset: int
    """The next record to read."""
    written: int
    """Behind the last acknowledged record of the changelog."""
    note: str


class Owner(Protocol):
    """The user of the application, as the application calls it."""

    async def fetched(self, messages: Sequence[Any]) -> None:
        """Take the flow's records; until it returns no more are fetched."""
        ...

    def restored(self, partition: int, rows: Mapping[bytes, bytes]) -> None:
        """Note that states of the partition were restored into the local copy."""
        ...

    async def recovered(self) -> None:
        """Take over the assigned partitions: their states are in the local copy. Nothing is fetched meanwhile."""
        ...

    async def revoked(self) -> None:
        """Give up the partitions: a rebalance begins. Offsets may be committed until it returns."""
        ...


class _Store(Store[bytes, bytes]):
    """The local copy as Faust sees it: Faust asks how far each partition of the changelog was restored, and no more."""

    local: LocalCopy

    def persisted_offset(self, tp: Any) -> int | None:
        """Return the last offset of the changelog that the copy holds."""
        return self.local.reached(tp.partition)

    def apply_changelog_batch(self, *_: Any) -> None:
        """Do nothing: `StateTable` restores."""

    def reset_state(self) -> None:
        """Do nothing: a copy is dropped where it is opened."""

    async def backup_partition(self, *_: Any, **__: Any) -> None:
        """Do nothing: the changelog is the backup."""

    def restore_backup(self, *_: Any, **__: Any) -> None:
        """Do nothing: the changelog is the backup."""


class StateTable(faust.Table[bytes, bytes]):
    """The states: the local copy, and the changelog topic behind it."""

    owner: Owner
    local: LocalCopy
    written: dict[int, int]
    """Behind the last record of each partition of the changelog that is known to be acknowledged."""

    def put(self, partition: int, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Write the local copy at once."""
        self.local.put(partition, rows)

    async def publish(self, partition: int, rows: Sequence[tuple[bytes, bytes]]) -> None:
        """Write the changelog; return when all of it is acknowledged. Raises ChangelogError."""
        topic, send = self.changelog_topic_name, self.app.producer.send
        try:
            sent = [await send(topic, key, stored, partition, None, None) for key, stored in rows]
            offsets = [written.offset for written in await asyncio.gather(*sent)]
        except Exception as error:
            raise ChangelogError(
                f"states were not written: {error!r}",
                where=f"topic {topic}, partition {partition}",
                remedy="Start the process again: it goes on from the last safe offset.",
            ) from error
        self.written[partition] = max([self.written.get(partition, 0), *(offset + 1 for offset in offsets)])
        self._restore_from(partition, offsets)

    def _restore_from(self, partition: int, offsets: Iterable[int]) -> None:
        """Move the start of the next restore over records of our own; a former owner's may stand between them."""
        if self.local.is_closed:
            return
        before = self.local.reached(partition)
        reached = -1 if before is None else before
        for offset in offsets:
            if offset == reached + 1:
                reached = offset
        if reached >= 0 and reached != before:
            self.local.put(partition, (), reached)

    def restore(self, messages: Iterable[Any]) -> None:
        """Take of each key the state with the highest position, in any order of writing."""
        newest: dict[int, dict[bytes, bytes]] = {}
        offsets: dict[int, int] = {}
        for message in messages:
            offsets[message.partition] = message.offset
            rows = newest.setdefault(message.partition, {})
            known = rows.get(message.key) or self.local.read(message.partition, message.key)
            if message.value and (known is None or position_of(message.value) >= position_of(known)):
                rows[message.key] = message.value
        for partition, rows in newest.items():
            self.local.put(partition, list(rows.items()), offsets[partition])
            self.owner.restored(partition, rows)

    def apply_changelog_batch(self, batch: Iterable[Any]) -> None:
        """Do nothing: records were restored when they were fetched. Faust drops its own queue at each rebalance."""

    async def on_recovery_completed(self, active_tps: set[Any], standby_tps: set[Any]) -> None:
        """Let the owner take over: the local copy is as the changelog is."""
        await super().on_recovery_completed(active_tps, standby_tps)
        await self.owner.recovered()

    def _new_store(self) -> Any:
        store = _Store("copy://", self.app, self, table_name=self.name)
        store.local = self.local
        return store


class _Recovery(Recovery):
    """Faust's restore. One that a rebalance has overtaken would hand over partitions that are not restored yet."""

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Hand over, unless another restore follows."""
        if generation_id == self.app.consumer_generation_id:
            await super().on_recovery_completed(generation_id)


class FetchThread(WorkerThread):
    """The thread in which Faust fetches. It must not outlive the process: to leave a frozen cluster takes it 90 s."""

    def __init__(self, service: Any, **options: Any) -> None:
        """Let the process end while the thread still runs."""
        super().__init__(service, **options)
        self.daemon = True

    def run(self) -> None:
        """Serve; the end needs no report where the loop that waited for it is closed."""
        try:
            super().run()
        except RuntimeError:
            if not self.service.parent_loop.is_closed():
                raise


class ClientThread(driver.AIOKafkaConsumerThread):
    """Faust's client thread: its consumer reads committed records only, and its commits carry a note."""

    @property
    def fetch_wait_ms(self) -> int:
        """Return how long the broker may hold a fetch for which there is nothing."""
        consumer: Any = self._ensure_consumer()
        return int(consumer._fetcher._fetch_max_wait_ms)  # noqa: SLF001 - aiokafka has a setting for its start alone

    @fetch_wait_ms.setter
    def fetch_wait_ms(self, wait_ms: int) -> None:
        fetcher: Any = cast("Any", self._ensure_consumer())._fetcher  # noqa: SLF001
        fetcher._fetch_max_wait_ms = wait_ms  # noqa: SLF001
        fetcher._fetcher_timeout = max(_LOOK_S, wait_ms / 1_000)  # noqa: SLF001 - an answer or a rebalance ends it

    async def _keepalive2(self) -> None:
        """Do nothing: Faust would wake the owner's loop each second, to log whether it is awake."""

    @Service.task
    async def _thread_keepalive(self) -> None:
        """Do nothing: Faust would wake the thread each second; whoever calls it wakes it."""

    async def commit_noted(self, places: Mapping[Any, Any]) -> bool:
        """Commit these places; return False if a rebalance began. Raises KafkaError."""
        return bool(await self.call_thread(self._commit_noted, places))

    async def _commit_noted(self, places: Mapping[Any, Any]) -> bool:
        try:
            await self._ensure_consumer().commit(places)
        except (CommitFailedError, IllegalStateError):
            return False
        return True

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer: Any = super()._create_worker_consumer(transport)
        # Read when it starts; Faust has a setting for its transactions alone.
        consumer._isolation_level = ISOLATION  # noqa: SLF001
        consumer._fetch_max_wait_ms = RESTORE_FETCH_MS  # noqa: SLF001
        return consumer


class _Monitor(faust.Monitor):
    """Faust's figures of itself, which nobody reads."""

    @Service.task
    async def _sampler(self) -> None:
        """Do nothing: Faust would compute means each second."""


class _Consumer(driver.Consumer):
    """Faust's consumer; its records go to the owner directly."""

    def _new_consumer_thread(self) -> Any:
        thread: Any = ClientThread(self, loop=self.loop, beacon=self.beacon)
        thread.Worker = FetchThread
        return thread

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, Any]]:  # noqa: ASYNC109 - Faust's own
        """Fetch: the flow's records for the owner, the changelog's for the local copy, the last of each for Faust."""
        app: Any = self.app
        fetched: dict[Any, list[Any]] = {}
        async for tp, message in super().getmany(timeout):
            fetched.setdefault(tp, []).append(message)
        records = [message for tp, messages in fetched.items() if tp.topic == app.flow_topic for message in messages]
        # Before anything is awaited: a rebalance that cancels the fetch must lose none of it.
        shown = [(tp, app.restore(tp, messages)) for tp, messages in fetched.items() if tp.topic != app.flow_topic]
        if records:
            await app.owner.fetched(records)
        for tp, message in shown:
            yield tp, message

    async def perform_seek(self) -> None:
        """Seek to the committed offsets; in the changelog to the end of the local copy.

        The offsets that are committed there say how far its owners have written: a restore would skip records.
        Faust also seeks in the middle of a restore, when it fetched while its flow had stopped.
        """
        await super().perform_seek()
        app: Any = self.app
        changelog = [tp for tp in self.assignment() if tp.topic != app.flow_topic]
        reached = {tp: app.states.local.reached(tp.partition) for tp in changelog}
        await self.seek_wait({tp: 0 if last is None else last + 1 for tp, last in reached.items()})

    def verify_event_path(self, now: float, tp: Any) -> None:
        """Do nothing: Faust would look here for streams that stand still; `session_watch` checks the progress."""


class _Transport(driver.Transport):
    Consumer = _Consumer


class TrackerApp(faust.App):
    """The application: one table, one topic, no streams."""

    owner: Owner
    flow_topic: str
    live_fetch_ms: int
    states: StateTable
    crash_reason: BaseException | None

    @classmethod
    def of(
        cls, flow: str, options: FaustOptions, data_dir: Path, partitions: int, owner: Owner, local: LocalCopy
    ) -> TrackerApp:
        """Return an application that is not started; Faust's own files lie in `data_dir`."""
        app = cls(options.application(flow), **_settings(options, data_dir, partitions))
        app.owner = owner
        app.flow_topic = options.topic(flow)
        app.live_fetch_ms = options.live_fetch_ms
        app.topics.add(app.topic(app.flow_topic))
        app.on_partitions_revoked.connect(app._on_revoked)
        app.states = StateTable(app, name=TABLE, key_type=bytes, value_type=bytes)
        app.states.owner, app.states.local = owner, local
        app.states.written = {}
        app.tables.add(app.states)
        app.tables._recovery = _Recovery(app, app.tables, beacon=app.tables.beacon)  # type: ignore[attr-defined] # noqa: SLF001
        return app

    def restore(self, changelog: Any, messages: Sequence[Any]) -> Any:
        """Restore all of a fetch; return its last record, which shows Faust how far the restore has come."""
        self.states.restore(messages)
        if len(messages) > 1:
            self.tables.recovery.active_offsets[changelog] = messages[-2].offset  # type: ignore[attr-defined]
        return messages[-1]

    async def assigned(self) -> dict[int, int] | None:
        """Return the committed offset of each assigned partition.

        None if a rebalance began meanwhile: Faust then restores once more. Raises StorageError.
        """
        consumer: Any = self.consumer
        ours = [tp for tp in consumer.assignment() if tp.topic == self.flow_topic]
        if not ours:
            return {}
        try:
            found = await consumer.seek_to_committed()
        except IllegalStateError:
            return None
        except KafkaError as error:
            raise StorageError(f"no answer about committed offsets: {error!r}", where=self.flow_topic) from error
        return {tp.partition: found.get(tp) or 0 for tp in ours}

    def fetch_patiently(self, *, is_live: bool) -> None:
        """Set how long the broker may hold a fetch for which there is nothing: short until the partitions are live."""
        consumer: Any = self.consumer
        consumer._thread.fetch_wait_ms = self.live_fetch_ms if is_live else RESTORE_FETCH_MS  # noqa: SLF001

    def partitions(self) -> set[int]:
        """Return the assigned partitions of the flow's topic."""
        consumer: Any = self.consumer
        return {tp.partition for tp in consumer.assignment() if tp.topic == self.flow_topic}

    async def commit_offsets(self, places: Mapping[int, Place]) -> bool:
        """Commit these places, by partition; return False if a rebalance began. Raises StorageError.

        Each is committed in log and changelog: a commit that is deleted with one topic is still there for the other.
        """
        consumer: Any = self.consumer
        wanted: dict[Any, Any] = {}
        for partition, place in places.items():
            wanted[TopicPartition(self.flow_topic, partition)] = OffsetAndMetadata(place.offset, place.note)
            changelog = TopicPartition(self.states.changelog_topic_name, partition)
            wanted[changelog] = OffsetAndMetadata(place.written, place.note)
        try:
            return bool(await consumer._thread.commit_noted(wanted))  # noqa: SLF001 - Faust's own carries no note
        except KafkaError as error:
            raise StorageError(f"offsets were not committed: {error!r}", where=self.flow_topic) from error

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        await self.owner.revoked()

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)


def _settings(options: FaustOptions, data_dir: Path, partitions: int) -> dict[str, Any]:
    """Return Faust's settings, with its parts that have nothing to do here."""
    own = {"broker_credentials": _credentials(options), "Monitor": _Monitor}
    return {**options.settings_of_faust(data_dir, partitions), **own}


def _credentials(options: FaustOptions) -> faust.auth.Credentials | None:
    context = options.ssl_context()
    if options.protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=options.settings.get("sasl.username"),
            password=options.settings.get("sasl.password"),
            mechanism=options.mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None
