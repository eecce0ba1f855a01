"""The log port on Kafka: publish to topics of flows, read at offsets, join consumer groups."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from confluent_kafka import KafkaException, Message

from choreo.adapters.assignment import MemberId
from choreo.adapters.commit_writer import CommitWriter, Save
from choreo.adapters.errors import admit, no_partition
from choreo.adapters.kafka.cluster.log_identity import Origin, Origins, OriginWatch, Recall, first_noted, noted
from choreo.adapters.kafka.cluster.log_watch import LogWatch, Put
from choreo.adapters.kafka.cluster.requests import Cluster, Commit
from choreo.adapters.kafka.dead_letters import KafkaDeadLetters
from choreo.adapters.kafka.errors import complaint
from choreo.adapters.kafka.groups.conditions import StaticMembership, Truncation
from choreo.adapters.kafka.groups.consumer import KafkaConsumer, Lookups
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.producer import KafkaProducer
from choreo.adapters.kafka.reader import IsWanted, OutOfRangeError, Place, Readers
from choreo.adapters.kafka.records import is_wanted, log_stamp, message_of, record_of
from choreo.adapters.kafka.topics import changelog_of, tracker_app
from choreo.adapters.log_clock import LogTime
from choreo.core.errors import NotFoundError
from choreo.core.events import Envelope, Position, Record
from choreo.core.partition import partition_of
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies, NoReports
from choreo.ports.inbox import Inbox, InboxIdentity
from choreo.ports.log import TRACKER_GROUP, Admits, GroupMember

STAMP_SPAN = 1_000
"""Records looked through at once for one that carries the log's time."""
_log = logging.getLogger(__name__)

HEADER_BYTES = 4_096
"""Room for an event's headers and the batch around it: some 800 bytes, without the text of a reason."""


class KafkaLog:
    """`choreo.ports.log.Log` on a cluster, with the `dead_letters` beside it. Used on one event loop.

    Every method raises StorageError when the cluster does not answer. Connections are made when they are needed.
    """

    def __init__(
        self,
        options: KafkaOptions,
        *,
        inbox: Callable[[str], Inbox] | None = None,
        memory: Callable[[str], InboxIdentity | None] | None = None,
        save: Save | None = None,
        dependencies: Dependencies | None = None,
        recall: Recall | None = None,
    ) -> None:
        """Record a commit's outcomes in `inbox(group)`; `save` writes its states and views, if any are to come.

        `recall` returns a topic's identity as the stores remember it. `memory(group)` is the identity of the group's
        inbox, where that may be lost while the log stays.
        """
        self.options: KafkaOptions = options
        self._dependencies = dependencies or NoReports()
        self._cluster = Cluster(options, self._dependencies)
        self.log_time: LogTime = LogTime()
        """The log's time, as far as this process has seen it."""
        self._sender = KafkaProducer(options, self.log_time)
        self._bytes_max: dict[str, int] = {}
        self._cut: dict[tuple[str, str], Truncation] = {}
        self._static: dict[tuple[str, str], StaticMembership] = {}
        self._firsts: dict[tuple[str, int], int] = {}
        self._readers = Readers(options)
        self.dead_letters: KafkaDeadLetters = KafkaDeadLetters(options, self._cluster, self._sender, self._readers)
        self._origins = Origins(self._cluster.origin, partial(notes_of_tracker, self._cluster), recall)
        self._writer = CommitWriter(self._publish, self.dead_letters.add, inbox, save, memory)

    def watch(self, own: Clock, put: Put) -> LogWatch:
        """Return a watch of the log; `own` is the machine's clock, `put` takes numbers by name."""
        return LogWatch(self._cluster, self._dependencies, put, self.log_time, own)

    async def create(self, topic: str, partitions: int) -> None:
        """Make sure the topic exists and is fit for a log; waits for a cluster that is not there yet.

        Raises SettingsError if it exists with another partition count, without LogAppendTime, or compacted.
        """
        await self._cluster.create(topic, partitions)

    async def kept_ms(self, topic: str) -> int:
        """Return how long it keeps records, in ms, -1 for ever; raises SettingsError if it is unfit for a log."""
        return await self._cluster.kept_ms(topic)

    async def partitions(self, topic: str) -> int:
        """Return the number of partitions of the topic; raises NotFoundError."""
        return await self._cluster.partitions(topic)

    async def bytes_max(self, topic: str) -> int:
        """Return the largest event that producer and topic take: their limit without the room for headers."""
        cached = self._bytes_max.get(topic)
        if cached is None:
            limit = min(await self._cluster.bytes_max(topic), self.options.message_bytes_max)
            cached = self._bytes_max[topic] = max(1, limit - HEADER_BYTES)
        return cached

    async def append(self, topic: str, events: Sequence[Envelope]) -> list[Position]:
        """Publish durably; raises ConflictError on an event without a key, and then none is published.

        Raises ReplacedLogError, as `read`, `end` and `consumer` do, where the topic was replaced by another.
        """
        admit(topic, events)
        places = await self._publish(topic, events)
        return [Position(topic, partition, offset) for partition, offset in places]

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return at most `limit` records from `offset` on; from the first existing one where that is deleted.

        Logs the deleted offsets.
        """
        await self._known(topic, partition)
        if limit < 1:
            return []
        messages, _ = await self._looked_at(topic, partition, max(0, offset), limit, None)
        return await self._records(topic, partition, messages)

    async def scan(
        self,
        topic: str,
        partition: int,
        offset: int,
        limit: int,
        types: frozenset[str],
        admits: Admits | None = None,
    ) -> tuple[list[Record], int]:
        """Return the records of these types among the next `limit`, and the offset to go on from.

        `admits` is called in another thread; a record that it refuses is not decoded.
        """
        await self._known(topic, partition)
        messages, following = await self._looked_at(topic, partition, offset, limit, is_wanted(types, admits))
        return await self._records(topic, partition, messages, has_gaps=True), following

    async def end(self, topic: str, partition: int) -> int:
        """Return the offset of the next record; raises NotFoundError."""
        await self._known(topic, partition)
        return (await self._cluster.ends(topic, (partition,)))[partition]

    async def stable_end(self, topic: str, partition: int) -> int:
        """Return the offset up to which records can be read: the end, or the start of the first open transaction."""
        await self._known(topic, partition)
        return (await self._cluster.stable_ends(topic, (partition,)))[partition]

    async def consumer(self, topic: str, group: str, name: str, types: frozenset[str] | None = None) -> KafkaConsumer:
        """Join the group; with an instance in the options, an older member of that instance leaves at once.

        Waits some seconds where this process was such an older member itself.
        """
        called, reports = _called(group, topic), self._dependencies
        key = topic, called
        static = self._static.setdefault(key, StaticMembership(self.options.instance, *key, reports))
        await static.wait_to_join()
        origin = await self._origins.sure(topic)
        self._sender.connect()  # a consumer's work will publish
        ends, stable_ends = partial(self._cluster.ends, topic), partial(self._cluster.stable_ends, topic)
        cuts = self._cut.setdefault(key, Truncation(*key, partial(self._cluster.begins, topic), reports))
        stamp, probe, watch = (
            partial(self._stamp, topic),
            partial(self._probe, topic),
            OriginWatch(topic, self._origins),
        )
        lookups = Lookups(ends, stable_ends, stamp, probe, self.log_time, origin, watch, reports, cuts, static)
        return KafkaConsumer(self.options, self._writer, MemberId(topic, called, name, 0), types, lookups)

    async def committed(self, topic: str, group: str) -> dict[int, int]:
        """Return the group's committed offset by partition; where it has none, the first offset that there is.

        Raises NotFoundError.
        """
        known = await self._cluster.committed(topic, _called(group, topic))
        begins = await self._cluster.begins(topic, range(await self._cluster.partitions(topic)))
        return {partition: max(known.get(partition, 0), begin) for partition, begin in begins.items()}

    async def members(self, topic: str, group: str) -> list[GroupMember]:
        """Return the group's members as its coordinator knows them."""
        return await self._cluster.members(topic, _called(group, topic))

    async def origin(self, topic: str) -> Origin:
        """Return the identity of the log. Raises ReplacedLogError, NotFoundError."""
        return await self._origins.sure(topic)

    async def described(self, topic: str) -> Origin:
        """Return any topic's present identity, also of one that is no log; raises NotFoundError."""
        return await self._cluster.origin(topic)

    async def commits(self, topic: str, group: str) -> dict[int, Commit]:
        """Return the group's committed offsets in a topic, with their notes; absent where there is none."""
        return await self._cluster.commits(topic, _called(group, topic))

    async def tracked(self, topics: Sequence[str], flow: str) -> dict[str, dict[int, Commit]]:
        """Return offsets and notes committed by a flow's tracker in these topics; absent where there is none."""
        return await self._cluster.commits_in(topics, tracker_app(flow))

    async def spans(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return the first offset that each partition still has, and the offset of its next record."""
        partitions = range(await self._cluster.partitions(topic))
        begins, ends = await asyncio.gather(
            self._cluster.begins(topic, partitions), self._cluster.ends(topic, partitions)
        )
        return {partition: (begins[partition], ends[partition]) for partition in partitions}

    async def close(self) -> None:
        """Wait a moment for work under way, then close all connections. Consumers are closed by their callers."""
        await self._sender.close()
        await self._readers.close()

    async def _looked_at(
        self, topic: str, partition: int, offset: int, limit: int, wants: IsWanted | None
    ) -> tuple[list[Message], int]:
        """Return the wanted messages (None: all) among the next `limit`, and the offset to go on from."""
        place = Place(self.options.name(topic), partition, offset)
        try:
            try:
                return await self._readers.scan(place, limit, wants)
            except OutOfRangeError:
                first = (await self._cluster.begins(topic, (partition,)))[partition]
                if offset >= first:
                    return [], offset
                self._report_missing(topic, partition, offset, first)
                return await self._readers.scan(place._replace(offset=first), limit, wants)
        except KafkaException as error:
            raise complaint(error, self.options, f"topic {topic!r}") from error

    def _report_missing(self, topic: str, partition: int, offset: int, first: int) -> None:
        """Log a range that is requested and deleted, once for each new first offset of the partition."""
        if self._firsts.get((topic, partition)) != first:
            self._firsts[topic, partition] = first
            gone = "topic %s: offsets %d to %d of partition %d are no longer in the log; it is read from offset %d on"
            _log.warning(gone, topic, offset, first - 1, partition, first)

    async def _records(
        self, topic: str, partition: int, messages: Sequence[Message], *, has_gaps: bool = False
    ) -> list[Record]:
        """Return the messages' records, each with the log's time: see `_stamp`; gaps may hide the record before."""
        records, stamp_ms, log_id = [], -1, (await self._origins.sure(topic)).log_id
        for message in messages:
            known_ms = log_stamp(message)
            if known_ms is not None:
                stamp_ms = known_ms
            elif has_gaps or stamp_ms < 0:
                stamp_ms = await self._stamp(topic, partition, message.offset() or 0)
            records.append(record_of(message, message.headers() or (), topic, stamp_ms, log_id))
        return records

    async def _stamp(self, topic: str, partition: int, offset: int) -> int:
        """Return the log's time of the record at this offset: its own stamp where the broker gave it.

        A record that carries its producer's time, because the topic was set so for a moment, gets the time of the last
        one before it with the log's: every reader gives it the same. Without one before, it keeps its producer's.
        """
        first = (await self._cluster.begins(topic, (partition,)))[partition]
        until = offset + 1
        while until > first:
            start = max(first, until - STAMP_SPAN)
            messages, _ = await self._looked_at(topic, partition, start, until - start, None)
            for message in reversed(messages):
                stamp_ms = log_stamp(message)
                if stamp_ms is not None and (message.offset() or 0) < until:
                    return stamp_ms
            until = start
        messages, _ = await self._looked_at(topic, partition, offset, 1, None)
        return messages[0].timestamp()[1] if messages else 0

    async def _probe(self, topic: str, group: str, places: Mapping[int, int]) -> None:
        """Do the requests of a group's member, through other clients."""
        partition, offset = next(iter(places.items()), (0, 0))
        await self._cluster.committed(topic, group)
        await self.read(topic, partition, offset, 1)

    async def _publish(self, topic: str, events: Sequence[Envelope]) -> list[tuple[int, int]]:
        """Publish each event to its key's partition; partitions added since this process first used it move no key."""
        count = (await self._origins.sure(topic)).partitions
        messages, partitions = [], []
        for event in events:
            messages.append(message_of(event))
            partitions.append(partition_of(event.key, count))
        return await self._sender.send(self.options.name(topic), messages, partitions)

    async def _known(self, topic: str, partition: int) -> None:
        partitions = (await self._origins.sure(topic)).partitions
        if not 0 <= partition < partitions:
            raise no_partition(topic, partition, partitions)


def _called(group: str, topic: str) -> str:
    """Return the group's name in the cluster: Faust gives the tracker's group the name of its application."""
    return tracker_app(topic) if group == TRACKER_GROUP else group


async def notes_of_tracker(cluster: Cluster, flow: str) -> list[str]:
    """Return the notes of the tracker's commits, the most reliable first; raises StorageError.

    The changelog's notes outlive the log's topic; the log's are there where the changelog was removed. The changelog
    itself has as many partitions as its log was made with.
    """
    changelog, tracker = changelog_of(flow), tracker_app(flow)
    notes = await _notes(cluster, changelog, tracker)
    if first_noted(notes) is None:
        notes += await _notes(cluster, flow, tracker)
    try:
        notes.append(noted(Origin("", await cluster.partitions(changelog))))
    except NotFoundError:
        return notes
    return notes


async def _notes(cluster: Cluster, topic: str, group: str) -> list[str]:
    try:
        return [commit.note for commit in (await cluster.commits(topic, group)).values()]
    except NotFoundError:
        return []
