"""Topics and groups of the cluster: partitions, ends, committed offsets.

Creates topics as a log needs them, and refuses others. Callers use plain names of topics and groups; this module
turns them into their names in the cluster.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from choreo.adapters.errors import bad_count, wrong_count
from choreo.adapters.kafka.cluster import group_requests
from choreo.adapters.kafka.cluster.admin import Admin, JointQuestions
from choreo.adapters.kafka.cluster.group_requests import NotedOffset
from choreo.adapters.kafka.cluster.log_identity import Origin, origin_of
from choreo.adapters.kafka.errors import (
    COORDINATOR_MOVES,
    NO_LEADER,
    OUTDATED,
    PASSING,
    UNAUTHORIZED,
    cause_of,
    complaint,
    missing,
)
from choreo.adapters.kafka.options import FACT_BYTES_MAX, KafkaOptions
from choreo.core.errors import NotFoundError, SettingsError, StorageError
from choreo.ports.dependencies import Dependencies, report_error
from choreo.ports.log import GroupMember

START_PAUSE_S = 0.5
PROPAGATION_S = 0.02
"""Between looks for a topic that was just made: brokers learn of it within some ten milliseconds."""

LOG_CONFIG = {
    # Folds use the log's own time.
    "message.timestamp.type": "LogAppendTime",
    "cleanup.policy": "delete",
    # The log keeps everything unless its topic's file sets another value.
    "retention.ms": "-1",
    "retention.bytes": "-1",
}

KAFKA = "kafka"
_SOON = COORDINATOR_MOVES | OUTDATED | {NO_LEADER}
"""Nobody is in charge of a partition or group for a moment, or its broker does not know yet that it is: asked again."""
_ABOUT_TOPICS = {KafkaError.TOPIC_ALREADY_EXISTS} | UNAUTHORIZED
"""Errors that only a cluster that answers can give."""
_BYTES_MAX = 1_048_588
"""A broker's default for `max.message.bytes`."""

_log = logging.getLogger(__name__)
T = TypeVar("T")
Question = Callable[[AdminClient, float, Collection[Any]], Mapping[Any, Future[Any]]]
"""Asks an admin client, with a bound in seconds, about these parts."""


class Commit(NamedTuple):
    """A group's committed offset in a partition, with its note."""

    offset: int
    note: str


class Cluster:
    """An admin client, and a cache of the facts about topics that never change."""

    def __init__(self, options: KafkaOptions, dependencies: Dependencies) -> None:
        self._options = options
        self._dependencies = dependencies
        self._admin = Admin(options)
        self._joint = JointQuestions()
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
        """Return how long the topic keeps records, in ms; FOREVER is -1.

        Raises SettingsError if it is not fit for a log, NotFoundError, StorageError.
        """
        await self.partitions(topic)
        return int((await self._check(topic))["retention.ms"].value)

    async def bytes_max(self, topic: str) -> int:
        """Return the largest batch, compressed, that the topic takes; the broker's default without the right to ask."""
        try:
            config = await self._config(topic)
        except StorageError as error:
            inner = cause_of(error.__cause__)
            if inner is None or inner.code() not in UNAUTHORIZED:
                raise
            return _BYTES_MAX
        return int(config["max.message.bytes"].value)

    async def create_dead_letters(self, topic: str) -> None:
        """Make sure that a topic of dead letters exists; an existing one keeps its settings."""
        await self._made_sure(topic, 1)

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of the topic; raises NotFoundError."""
        known = self._partitions.get(topic)
        return (await self.origin(topic)).partitions if known is None else known

    async def origin(self, topic: str) -> Origin:
        """Return the topic's present identity; raises NotFoundError."""
        name = self._options.name(topic)
        found = await self.answers("topics", topic, [name], _describe_topics)
        origin = origin_of(found[name].topic_id, len(found[name].partitions))
        self._partitions.setdefault(topic, origin.partitions)
        return origin

    def name(self, topic: str) -> str:
        """Return the topic's name in the cluster."""
        return self._options.name(topic)

    async def named(self, suffix: str) -> list[str]:
        """Return the plain names of the topics whose names have this suffix."""
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
        """Return the first offset that each partition still has."""
        return await self._offsets(topic, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    async def committed(self, topic: str, group: str) -> dict[int, int]:
        """Return the group's committed offset by partition; a partition without one is absent."""
        return {number: commit.offset for number, commit in (await self.commits(topic, group)).items()}

    async def commits(self, topic: str, group: str) -> dict[int, Commit]:
        """Return the group's committed offset and its note by partition; a partition without one is absent."""
        return (await self.commits_in((topic,), group))[topic]

    async def commits_in(self, topics: Sequence[str], group: str) -> dict[str, dict[int, Commit]]:
        """Return `commits` of several topics, by topic, with one request."""
        counts = {topic: await self.partitions(topic) for topic in topics}
        wanted = [TopicPartition(self.name(topic), n) for topic, count in counts.items() for n in range(count)]
        try:
            found = iter(await group_requests.committed(self._options, group, wanted))
        except KafkaException as error:
            where = f"group {group!r} on topic {' and '.join(map(repr, topics))}"
            raise complaint(self._admin.denied or error, self._options, where) from error
        return {topic: _commits(islice(found, count)) for topic, count in counts.items()}

    async def members(self, topic: str, group: str) -> list[GroupMember]:
        """Return the group's members on this topic; [] for a group that never was.

        Raises NotFoundError, StorageError.
        """
        await self.partitions(topic)
        name = self._options.name(group)
        try:
            found = await self._ask(topic, lambda admin, s: group_requests.describe(admin, s, name))
        except StorageError as error:
            if group_requests.is_unknown(error):
                return []
            raise
        return group_requests.members_of(found[name], self._options.name(topic))

    async def _offsets(
        self,
        topic: str,
        partitions: Iterable[int],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[int, int]:
        name = self._options.name(topic)
        wanted = [(name, number) for number in partitions]
        if not wanted:
            return {}
        kind = ("offsets", type(spec).__name__, isolation)
        found = await self.answers(kind, topic, wanted, partial(_list_offsets, spec, isolation))
        return {number: answer.offset for (_, number), answer in found.items()}

    async def _made_sure(self, topic: str, partitions: int) -> int:
        """Return the topic's partition count; create the topic if it is missing.

        For an existing topic, read access is enough.
        """
        try:
            return await self.partitions(topic)
        except NotFoundError:
            await self._make(topic, partitions)
        until = time.monotonic() + self._options.request_s
        while True:
            try:
                return await self.partitions(topic)
            except NotFoundError:  # this broker does not know the topic yet
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(PROPAGATION_S)

    async def _make(self, topic: str, partitions: int) -> None:
        name = self._options.name(topic)
        # -1: the cluster's own default number of replicas.
        wanted = [NewTopic(name, partitions, replication_factor=-1, config=LOG_CONFIG)]
        try:
            await self._ask(topic, lambda admin, s: admin.create_topics(wanted, request_timeout=s))
        except StorageError as error:
            inner = cause_of(error.__cause__)
            if inner is None or inner.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    async def _check(self, topic: str) -> dict[str, Any]:
        """Return the topic's settings. Raises SettingsError on those that make a fold unrepeatable or incomplete."""
        config = await self._config(topic)
        for name, why in (
            ("message.timestamp.type", "time in a flow is the log's own, the same for every reader"),
            ("cleanup.policy", "the log is the only source of truth, and a compacted one drops records"),
            ("retention.bytes", "a log that is kept by its size may drop the start of a run at any time"),
        ):
            value = config[name].value
            if value != LOG_CONFIG[name]:
                change = f"--entity-name {self._options.name(topic)} --alter --add-config {name}={LOG_CONFIG[name]}"
                raise SettingsError(
                    f"its {name} is {value}, not {LOG_CONFIG[name]}: {why}",
                    where=f"topic {topic!r}",
                    remedy=f"Change it: kafka-configs.sh --entity-type topics {change}",
                )
        _refuse_small(self._options.name(topic), int(config["max.message.bytes"].value), topic)
        return config

    async def _config(self, topic: str) -> dict[str, Any]:
        """Return the topic's settings by name."""
        name = self._options.name(topic)
        return dict((await self.answers("settings", topic, [name], _describe_configs))[name])

    async def answers(self, kind: Hashable, topic: str, parts: Sequence[Any], question: Question) -> dict[Any, Any]:
        """Return the answer to each part, asked together with others' questions; alone where that fails."""
        client, timeout_s = self._admin.client, self._options.request_s
        found = await self._joint.ask(kind, parts, lambda joint: question(client, timeout_s, joint))
        if found is not None:
            self._dependencies.clear(KAFKA)
            return found
        return await self._ask(topic, lambda admin, s: question(admin, s, parts))

    async def _ask(
        self, topic: str, question: Callable[[AdminClient, float], Mapping[Any, Future[Any]]]
    ) -> dict[Any, Any]:
        """Return the answer to each part of a question."""
        until, pause_s = time.monotonic() + self._options.request_s, PROPAGATION_S
        while True:
            client = self._admin.client  # kept until it has answered, even if another call replaces it
            try:
                futures = question(client, self._options.request_s)
                answers = {part: await asyncio.wrap_future(future) for part, future in futures.items()}
            except KafkaException as error:
                inner = cause_of(error)
                if inner is not None and inner.code() in OUTDATED | PASSING:
                    # This client never asks again for a partition's leader; and it may hang.
                    self._admin.replace()
                if inner is not None and inner.code() in _SOON and time.monotonic() < until:
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, START_PAUSE_S)
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
        """Repeat `attempt` while no broker answers, for as long as a start may wait."""
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


def _refuse_small(name: str, taken: int, topic: str) -> None:
    """Raise SettingsError on a topic whose limit is below the size of choreo's own facts."""
    if taken < FACT_BYTES_MAX:
        raise SettingsError(
            f"its max.message.bytes is {taken:,}: a fact may have {FACT_BYTES_MAX:,} bytes",
            where=f"topic {topic!r}",
            remedy=f"Raise it: kafka-configs.sh --entity-type topics --entity-name {name} --alter --add-config "
            f"max.message.bytes={FACT_BYTES_MAX}",
        )


def _commits(places: Iterable[NotedOffset]) -> dict[int, Commit]:
    return {place.partition: Commit(place.offset, place.note) for place in places if place.offset >= 0}


def _describe_configs(admin: AdminClient, timeout_s: float, names: Collection[str]) -> Mapping[Any, Future[Any]]:
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
    answers = admin.describe_configs(resources, request_timeout=timeout_s)
    return {resource.name: answer for resource, answer in answers.items()}


def _describe_topics(admin: AdminClient, timeout_s: float, names: Collection[str]) -> Mapping[Any, Future[Any]]:
    return admin.describe_topics(TopicCollection(list(names)), request_timeout=timeout_s)


def _list_offsets(
    spec: OffsetSpec,
    isolation: IsolationLevel,
    admin: AdminClient,
    timeout_s: float,
    places: Collection[tuple[str, int]],
) -> Mapping[Any, Future[Any]]:
    wanted = {TopicPartition(*place): spec for place in places}
    answers = admin.list_offsets(wanted, request_timeout=timeout_s, isolation_level=isolation)
    return {(place.topic, place.partition): answer for place, answer in answers.items()}
