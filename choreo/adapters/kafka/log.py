"""The log port on Kafka: topics of flows, published to, read at places, shared by groups."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from confluent_kafka import KafkaException, Message

from choreo.adapters.kafka.cluster import Cluster, Commit
from choreo.adapters.kafka.cuts import Cuts
from choreo.adapters.kafka.dead_letters import KafkaDeadLetters
from choreo.adapters.kafka.log_clock import LogTime
from choreo.adapters.kafka.log_watch import LogWatch, Put
from choreo.adapters.kafka.lookups import Lookups
from choreo.adapters.kafka.member import KafkaMember
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.origin import Origin, Origins, OriginWatch, Recall, noted
from choreo.adapters.kafka.reader import OutOfRangeError, Place, Readers
from choreo.adapters.kafka.records import log_stamp, message_of, record_of
from choreo.adapters.kafka.sender import Sender
from choreo.adapters.kafka.topics import changelog_of, tracker_app
from choreo.adapters.kafka.trouble import complaint
from choreo.adapters.kafka.writing import Save, Writing
from choreo.adapters.membership import Ticket
from choreo.adapters.refusals import admit, no_partition
from choreo.core.errors import NotFoundError
from choreo.core.events import Envelope, Position, Record
from choreo.core.partition import partition_of
from choreo.ports.clock import Clock
from choreo.ports.dependencies import Dependencies, NoReports
from choreo.ports.inbox import Inbox, Memory
from choreo.ports.log import TRACKER_GROUP

STAMP_SPAN = 1_000
"""Records looked through at once for one that carries the log's time."""
HEADER_BYTES = 4_096
"""Room for an event's headers and the batch around it: some 800 bytes, without a reason of its own."""


class KafkaLog:
    """`choreo.ports.log.Log` on a cluster, with the `dead_letters` beside it. Used on one event loop.

    Everything raises StorageError when the cluster does not answer. Connections are made when they are needed.
    """

    def __init__(
        self,
        options: KafkaOptions,
        *,
        inbox: Callable[[str], Inbox] | None = None,
        memory: Callable[[str], Memory | None] | None = None,
        save: Save | None = None,
        dependencies: Dependencies | None = None,
        recall: Recall | None = None,
    ) -> None:
        """`inbox(group)` records the outcomes of a commit; `save` writes its states and views, if any are to come.

        `recall` remembers what a topic was, beside the views and outcomes of it.
        `memory(group)` is what the inbox is kept in, where that may be lost while the log stays.
        """
        self._options = options
        self._dependencies = dependencies or NoReports()
        self._cluster = Cluster(options, self._dependencies)
        self.log_time = LogTime()
        """The log's time, as far as this process has seen it."""
        self._sender = Sender(options, self.log_time)
        self._bytes_max: dict[str, int] = {}
        self._cuts: dict[tuple[str, str], Cuts] = {}
        self._readers = Readers(options)
        self.dead_letters: KafkaDeadLetters = KafkaDeadLetters(options, self._cluster, self._sender, self._readers)
        self._origins = Origins(self._cluster.origin, self._noted_by_tracker, recall)
        self._writing = Writing(self._publish, self.dead_letters.add, inbox, save, memory)

    def watch(self, own: Clock, put: Put) -> LogWatch:
        """Return a watch of the log; `own` is the machine's clock, `put` takes numbers by name."""
        return LogWatch(self._cluster, self._dependencies, put, self.log_time, own)

    async def create(self, topic: str, partitions: int) -> None:
        """Make sure the topic exists and is fit for a log; waits for a cluster that is not there yet.

        Raises SettingsError if it exists with another partition count, without LogAppendTime, or compacted.
        """
        await self._cluster.create(topic, partitions)

    async def kept_ms(self, topic: str) -> int:
        """How long the topic keeps records, -1 for ever; raises SettingsError if it is not fit for a log."""
        return await self._cluster.kept_ms(topic)

    async def partitions(self, topic: str) -> int:
        """How many partitions the topic has; raises NotFoundError."""
        return await self._cluster.partitions(topic)

    async def bytes_max(self, topic: str) -> int:
        """What the producer hands over and the topic takes, less the room for headers."""
        known = self._bytes_max.get(topic)
        if known is None:
            taken = min(await self._cluster.bytes_max(topic), self._options.message_bytes_max)
            known = self._bytes_max[topic] = max(1, taken - HEADER_BYTES)
        return known

    async def append(self, topic: str, events: Sequence[Envelope]) -> list[Position]:
        """Publish durably; raises ConflictError on an event without a key, and then none is published.

        Raises ReplacedLogError, as `read`, `end` and `member` do, where the topic is another one than before.
        """
        admit(topic, events)
        places = await self._publish(topic, events)
        return [Position(topic, partition, offset) for partition, offset in places]

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """At most `limit` records from `offset` on; from the first there is, where that one is gone."""
        await self._known(topic, partition)
        if limit < 1:
            return []
        messages = await self._messages(topic, partition, max(0, offset), limit)
        return await self._records(topic, partition, messages)

    async def scan(
        self, topic: str, partition: int, offset: int, limit: int, types: frozenset[str]
    ) -> tuple[list[Record], int]:
        """Return the records of these types among the next `limit`, and the offset to go on from."""
        await self._known(topic, partition)
        wanted = frozenset(type_.encode() for type_ in types)
        messages, following = await self._looked_at(topic, partition, offset, limit, wanted)
        # One by one, because the one before it in the log, whose time one without a time takes, may be missing here.
        records = [record for message in messages for record in await self._records(topic, partition, [message])]
        return records, following

    async def end(self, topic: str, partition: int) -> int:
        """The offset the next record will get; raises NotFoundError."""
        await self._known(topic, partition)
        return (await self._cluster.ends(topic, (partition,)))[partition]

    async def stable_end(self, topic: str, partition: int) -> int:
        """Return the offset up to which records can be read: the end, or the start of the first open transaction."""
        await self._known(topic, partition)
        return (await self._cluster.stable_ends(topic, (partition,)))[partition]

    async def member(self, topic: str, group: str, name: str, types: frozenset[str] | None = None) -> KafkaMember:
        """Join the group; with an instance in the options, an older member of that instance is out at once."""
        called = _called(group, topic)
        origin = await self._origins.sure(topic)
        self._sender.connect()  # members work, and work is published
        ends, stable_ends = partial(self._cluster.ends, topic), partial(self._cluster.stable_ends, topic)
        stamp, probe = partial(self._stamp, topic), partial(self._probe, topic)
        watch, cuts = OriginWatch(topic, self._origins), self._cuts_of(topic, called)
        lookups = Lookups(ends, stable_ends, stamp, probe, self.log_time, origin, watch, self._dependencies, cuts)
        return KafkaMember(self._options, self._writing, Ticket(topic, called, name, 0), types, lookups)

    async def committed(self, topic: str, group: str) -> dict[int, int]:
        """Return the group's committed offset by partition; where it has none, the first offset that there is.

        Raises NotFoundError.
        """
        known = await self._cluster.committed(topic, _called(group, topic))
        begins = await self._cluster.begins(topic, range(await self._cluster.partitions(topic)))
        return {partition: max(known.get(partition, 0), begin) for partition, begin in begins.items()}

    async def origin(self, topic: str) -> str:
        """What the topic is: its id and number of partitions. Raises ReplacedLogError, NotFoundError."""
        return str(await self._origins.sure(topic))

    async def described(self, topic: str) -> Origin:
        """What any topic is just now, also one that is no log; raises NotFoundError."""
        return await self._cluster.origin(topic)

    async def commits(self, topic: str, group: str) -> dict[int, Commit]:
        """What a group has committed in a topic, with its notes; absent where nothing."""
        return await self._cluster.commits(topic, _called(group, topic))

    async def tracked(self, topic: str, flow: str) -> dict[int, Commit]:
        """What the tracker of a flow has committed in a topic, with its notes; absent where nothing."""
        return await self._cluster.commits(topic, tracker_app(flow))

    async def spans(self, topic: str) -> dict[int, tuple[int, int]]:
        """The first offset that each partition still has, and the one that the next record will get."""
        partitions = range(await self._cluster.partitions(topic))
        begins, ends = await self._cluster.begins(topic, partitions), await self._cluster.ends(topic, partitions)
        return {partition: (begins[partition], ends[partition]) for partition in partitions}

    async def _noted_by_tracker(self, topic: str) -> Collection[str]:
        """The notes beside the changelog's positions: those beside the log's go with the topic when it is deleted.

        Without a note the changelog itself remembers how many partitions its log had.
        """
        changelog = changelog_of(topic)
        try:
            commits = await self._cluster.commits(changelog, tracker_app(topic))
            made_for = Origin("", await self._cluster.partitions(changelog))
        except NotFoundError:
            return ()
        return [*(commit.note for commit in commits.values()), noted(made_for)]

    async def close(self) -> None:
        """Wait a moment for what is under way, then let all connections go. Members are closed by who made them."""
        await self._sender.close()
        await self._readers.close()

    async def _messages(self, topic: str, partition: int, offset: int, limit: int) -> list[Message]:
        return (await self._looked_at(topic, partition, offset, limit, None))[0]

    async def _looked_at(
        self, topic: str, partition: int, offset: int, limit: int, types: frozenset[bytes] | None
    ) -> tuple[list[Message], int]:
        """Return the messages of these types (None: all) among the next `limit`, and the offset to go on from."""
        place = Place(self._options.name(topic), partition, offset)
        try:
            try:
                return await self._readers.scan(place, limit, types)
            except OutOfRangeError:
                first = (await self._cluster.begins(topic, (partition,)))[partition]
                if offset >= first:
                    return [], offset
                return await self._readers.scan(place._replace(offset=first), limit, types)
        except KafkaException as error:
            raise complaint(error, self._options, f"topic {topic!r}") from error

    async def _records(self, topic: str, partition: int, messages: Sequence[Message]) -> list[Record]:
        """Return the messages' records, each with the log's time: see `_stamp`."""
        records, stamp_ms = [], -1
        for message in messages:
            known_ms = log_stamp(message)
            if known_ms is not None:
                stamp_ms = known_ms
            elif stamp_ms < 0:
                stamp_ms = await self._stamp(topic, partition, message.offset() or 0)
            records.append(record_of(message, message.headers() or (), topic, stamp_ms))
        return records

    async def _stamp(self, topic: str, partition: int, offset: int) -> int:
        """Return the log's time of the record at this offset: its own stamp where the broker gave it.

        A record that carries its producer's time, because the topic was set so for a moment, is given the time of the
        last one before it that carries the log's: every reader gives it the same. Where there is none before, the log
        has no time yet: its producer's.
        """
        first = (await self._cluster.begins(topic, (partition,)))[partition]
        until = offset + 1
        while until > first:
            start = max(first, until - STAMP_SPAN)
            for message in reversed(await self._messages(topic, partition, start, until - start)):
                stamp_ms = log_stamp(message)
                if stamp_ms is not None and (message.offset() or 0) < until:
                    return stamp_ms
            until = start
        messages = await self._messages(topic, partition, offset, 1)
        return messages[0].timestamp()[1] if messages else 0

    async def _probe(self, topic: str, group: str, places: Mapping[int, int]) -> None:
        """Do what a member of the group does, through other clients."""
        partition, offset = next(iter(places.items()), (0, 0))
        await self._cluster.committed(topic, group)
        await self.read(topic, partition, offset, 1)

    def _cuts_of(self, topic: str, group: str) -> Cuts:
        if (topic, group) not in self._cuts:
            self._cuts[topic, group] = Cuts(topic, group, partial(self._cluster.begins, topic), self._dependencies)
        return self._cuts[topic, group]

    async def _publish(self, topic: str, events: Sequence[Envelope]) -> list[tuple[int, int]]:
        """Publish each event to its key's partition, by the count the topic had when this process met it.

        Partitions that are added meanwhile move no key.
        """
        count = (await self._origins.sure(topic)).partitions
        messages, partitions = [], []
        for event in events:
            messages.append(message_of(event))
            partitions.append(partition_of(event.key, count))
        return await self._sender.send(self._options.name(topic), messages, partitions)

    async def _known(self, topic: str, partition: int) -> None:
        partitions = (await self._origins.sure(topic)).partitions
        if not 0 <= partition < partitions:
            raise no_partition(topic, partition, partitions)


def _called(group: str, topic: str) -> str:
    """The group's name here: Faust calls that of the tracker like its application."""
    return tracker_app(topic) if group == TRACKER_GROUP else group
