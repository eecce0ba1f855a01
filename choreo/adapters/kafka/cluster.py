"""What the cluster knows about topics and groups: partitions, ends, committed offsets.

Makes topics as a log needs them, and refuses others. Knows topics and groups by their plain names: what they are
called in the cluster is applied here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from choreo.adapters.kafka import onlooker
from choreo.adapters.kafka.admin import Admin
from choreo.adapters.kafka.commit_notes import NotedOffset
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.origin import Origin, origin_of
from choreo.adapters.kafka.trouble import NO_LEADER, OUTDATED, PASSING, UNAUTHORIZED, cause_of, complaint, missing
from choreo.adapters.refusals import bad_count, wrong_count
from choreo.core.errors import NotFoundError, SettingsError, StorageError
from choreo.ports.dependencies import Dependencies, report_error

START_PAUSE_S = 0.5
HEARSAY_S = 0.02
"""Between looks for a topic that was just made: brokers hear of it within some ten milliseconds."""

LOG_CONFIG = {
    # Time in a fold is the log's own (DESIGN.md 5).
    "message.timestamp.type": "LogAppendTime",
    "cleanup.policy": "delete",
    # The log keeps everything unless its topic's file says otherwise.
    "retention.ms": "-1",
    "retention.bytes": "-1",
}

KAFKA = "kafka"
_ABOUT_TOPICS = {KafkaError.TOPIC_ALREADY_EXISTS} | UNAUTHORIZED
"""Answers of a cluster that is there."""
_BYTES_MAX = 1_048_588
"""A broker's default for `max.message.bytes`."""

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Commit(NamedTuple):
    """What a group has committed in a partition."""

    offset: int
    note: str


class Cluster:
    """An admin client, and what never changes about topics kept."""

    def __init__(self, options: KafkaOptions, dependencies: Dependencies) -> None:
        self._options = options
        self._dependencies = dependencies
        self._admin = Admin(options)
        self._partitions: dict[str, int] = {}

    async def create(self, topic: str, partitions: int) -> None:
        """Make sure the topic exists and is fit for a log; waits for a cluster that is not there yet.

        Raises SettingsError if it exists with another partition count, with time stamps that its producers set, or
        compacted; StorageError if the cluster does not answer within the start's time.
        """
        if partitions < 1:
            raise bad_count(topic, partitions)
        existing = await self._patiently(lambda: self._made_sure(topic, partitions))
        if existing != partitions:
            raise wrong_count(topic, existing, partitions)
        await self._check(topic)

    async def kept_ms(self, topic: str) -> int:
        """How long the topic keeps records; FOREVER is -1.

        Raises SettingsError if it is not fit for a log, NotFoundError, StorageError.
        """
        await self.partitions(topic)
        return int((await self._check(topic))["retention.ms"].value)

    async def bytes_max(self, topic: str) -> int:
        """The largest batch, compressed, that the topic takes; the broker's default where this user may not ask."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, self._options.name(topic))
        try:
            found = await self._ask(topic, lambda admin, s: admin.describe_configs([resource], request_timeout=s))
        except StorageError as error:
            inner = cause_of(error.__cause__)
            if inner is None or inner.code() not in UNAUTHORIZED:
                raise
            return _BYTES_MAX
        return int(found[resource]["max.message.bytes"].value)

    async def create_letters(self, topic: str) -> None:
        """Make sure a topic of dead letters exists; one that does may be as its owner likes."""
        await self._made_sure(topic, 1)

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has; raises NotFoundError."""
        known = self._partitions.get(topic)
        return (await self.origin(topic)).partitions if known is None else known

    async def origin(self, topic: str) -> Origin:
        """What the topic is just now; raises NotFoundError."""
        name = self._options.name(topic)
        found = await self._ask(
            topic, lambda admin, s: admin.describe_topics(TopicCollection([name]), request_timeout=s)
        )
        origin = origin_of(found[name].topic_id, len(found[name].partitions))
        self._partitions.setdefault(topic, origin.partitions)
        return origin

    def name(self, topic: str) -> str:
        """Return the topic's name in the cluster."""
        return self._options.name(topic)

    async def named(self, suffix: str) -> list[str]:
        """The plain names of the topics whose names end so."""
        client = self._admin.client
        try:
            listed = await asyncio.to_thread(client.list_topics, timeout=self._options.request_s)
        except KafkaException as error:
            raise self._admin.complaint(client, error, "the list of topics") from error
        prefix = self._options.prefix
        names = [name for name in listed.topics if name.startswith(prefix) and name.endswith(suffix)]
        return sorted(name.removeprefix(prefix) for name in names)

    async def ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Return the offset that the next record of each partition will get (the high watermark)."""
        return await self._offsets(topic, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    async def stable_ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Return the offset up to which each partition can be read: its end, or the first open transaction's start."""
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        return await self._offsets(topic, partitions, latest, IsolationLevel.READ_COMMITTED)

    async def begins(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """The first offset that each still has."""
        return await self._offsets(topic, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    async def committed(self, topic: str, group: str) -> dict[int, int]:
        """The group's committed offset by partition, absent where it has none."""
        return {place.partition: place.offset for place in await self._committed(topic, group)}

    async def commits(self, topic: str, group: str) -> dict[int, Commit]:
        """The group's committed offset by partition, with what is noted beside it; absent where it has none."""
        places = await self._committed(topic, group)
        return {place.partition: Commit(place.offset, place.note) for place in places}

    async def _committed(self, topic: str, group: str) -> list[NotedOffset]:
        name = self._options.name(topic)
        wanted = [TopicPartition(name, number) for number in range(await self.partitions(topic))]
        try:
            places = await onlooker.committed(self._options, group, wanted)
        except KafkaException as error:
            where = f"group {group!r} on topic {topic!r}"
            raise complaint(self._admin.denied or error, self._options, where) from error
        return [place for place in places if place.offset >= 0]

    async def _offsets(
        self,
        topic: str,
        partitions: Iterable[int],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[int, int]:
        name = self._options.name(topic)
        wanted = {TopicPartition(name, number): spec for number in partitions}
        if not wanted:
            return {}
        found = await self._ask(
            topic, lambda admin, s: admin.list_offsets(wanted, request_timeout=s, isolation_level=isolation)
        )
        return {place.partition: answer.offset for place, answer in found.items()}

    async def _made_sure(self, topic: str, partitions: int) -> int:
        """The partition count of the topic, which is made if there is none: who may only look needs no more."""
        try:
            return await self.partitions(topic)
        except NotFoundError:
            await self._make(topic, partitions)
        until = time.monotonic() + self._options.request_s
        while True:
            try:
                return await self.partitions(topic)
            except NotFoundError:  # this broker has not heard of it yet
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(HEARSAY_S)

    async def _make(self, topic: str, partitions: int) -> None:
        name = self._options.name(topic)
        # -1: as many copies as the cluster's own default says.
        wanted = [NewTopic(name, partitions, replication_factor=-1, config=LOG_CONFIG)]
        try:
            await self._ask(topic, lambda admin, s: admin.create_topics(wanted, request_timeout=s))
        except StorageError as error:
            inner = cause_of(error.__cause__)
            if inner is None or inner.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    async def _check(self, topic: str) -> dict[str, Any]:
        """The topic's settings. Raises SettingsError on those with which a fold would not be repeatable or whole."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, self._options.name(topic))
        found = await self._ask(topic, lambda admin, s: admin.describe_configs([resource], request_timeout=s))
        config = found[resource]
        for name, why in (
            ("message.timestamp.type", "time in a flow is the log's own, the same for every reader"),
            ("cleanup.policy", "the log is the only source of truth, and a compacted one forgets"),
            ("retention.bytes", "nobody knows when a log that is kept by its size forgets the start of a run"),
        ):
            value = config[name].value
            if value != LOG_CONFIG[name]:
                change = f"--entity-name {resource.name} --alter --add-config {name}={LOG_CONFIG[name]}"
                raise SettingsError(
                    f"its {name} is {value}, not {LOG_CONFIG[name]}: {why}",
                    where=f"topic {topic!r}",
                    remedy=f"Change it: kafka-configs.sh --entity-type topics {change}",
                )
        return dict(config)

    async def _ask(
        self, topic: str, question: Callable[[AdminClient, float], Mapping[Any, Future[Any]]]
    ) -> dict[Any, Any]:
        """What is answered to each part of a question."""
        until = time.monotonic() + self._options.request_s
        again = True
        while True:
            client = self._admin.client  # kept until it has answered, also where another call replaces it
            try:
                futures = question(client, self._options.request_s)
                answers = {part: await asyncio.wrap_future(future) for part, future in futures.items()}
            except KafkaException as error:
                inner = cause_of(error)
                if inner is not None and inner.code() == NO_LEADER and time.monotonic() < until:
                    await asyncio.sleep(HEARSAY_S)
                    continue
                if inner is not None and inner.code() in OUTDATED | PASSING:
                    # It never asks again who leads a partition; and for all we know, it hangs.
                    self._admin.replace()
                    if again and inner.code() in OUTDATED:
                        again = False
                        continue
                if inner is not None and inner.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                    self._partitions.pop(topic, None)
                    raise missing(f"topic {topic!r}") from error
                refused = self._admin.complaint(client, error, f"topic {topic!r}")
                if isinstance(refused, StorageError) and (inner is None or inner.code() not in _ABOUT_TOPICS):
                    report_error(self._dependencies, KAFKA, refused)
                raise refused from error
            self._dependencies.clear(KAFKA)
            return answers

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """As `attempt`, again and again while no broker answers, for as long as a start may wait."""
        until = time.monotonic() + self._options.start_s
        while True:
            try:
                return await attempt()
            except StorageError as error:
                inner = cause_of(error.__cause__)
                if inner is None or inner.code() not in PASSING or self._admin.denied or time.monotonic() > until:
                    raise
                _log.warning("waiting for Kafka: %s", error)
                await asyncio.sleep(START_PAUSE_S)
