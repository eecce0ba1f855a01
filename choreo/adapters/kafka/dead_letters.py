"""Dead letters on Kafka: a topic `<flow>.dead-letters` a flow.

Each dead letter is a message with the event it is about.

Messages are never changed: a redrive is one more message under the dead letter's id. Nothing is cached of the topics:
they are read backwards from their ends, as far as a page or a dead letter needs it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from heapq import nlargest
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import KafkaException, Message

from choreo.adapters.errors import no_dead_letter
from choreo.adapters.kafka.cluster.requests import Cluster
from choreo.adapters.kafka.errors import complaint
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.producer import KafkaProducer
from choreo.adapters.kafka.reader import OutOfRangeError, Place, Readers
from choreo.adapters.kafka.records import Outgoing, event_of, headers_of
from choreo.core.errors import ChoreoError, ConflictError, StorageError
from choreo.core.events import Record
from choreo.ports.dead_letters import DeadLetter

DEAD_LETTER_HEADER = "choreo_dead_letter"
REDRIVEN_HEADER = "choreo_redriven"
TEXT_MAX = 1_000
"""Characters kept of each text in a dead letter that does not fit: some 20 KB with all of them."""


class About(msgspec.Struct, omit_defaults=True):
    """The fields of a dead letter besides its event, as JSON in one header."""

    id: str
    topic: str
    partition: int
    offset: int
    service: str
    step: str
    cause: str
    set_aside_ms: int
    stamp_ms: int
    key: str = ""
    digest: str = ""
    """SHA-256 of the bytes that the dead letter was too large to hold; the record in the log holds them."""
    bytes: int = 0
    """The number of these bytes."""
    log_id: str = ""
    """The record's log id: see `Record.log_id`."""


def message_of(dead_letter: DeadLetter) -> Outgoing:
    """Return the dead letter as a message that holds its record's bytes."""
    event = dead_letter.record.event
    headers = [*headers_of(event), (DEAD_LETTER_HEADER, msgspec.json.encode(_about_of(dead_letter)))]
    return dead_letter.id.encode(), event.data, headers


def short_message_of(dead_letter: DeadLetter) -> Outgoing:
    """Return the dead letter without its record's bytes.

    Every text in it is cut, because texts of foreign producers have any length.
    """
    event = dead_letter.record.event
    short = {name: value[:TEXT_MAX] for name, value in msgspec.structs.asdict(event).items() if isinstance(value, str)}
    about = msgspec.structs.replace(
        _about_of(dead_letter),
        cause=f"{dead_letter.cause[:TEXT_MAX]} (its {len(event.data):,} bytes do not fit into a letter)",
        key=event.key[:TEXT_MAX],
        digest=digest(event.data),
        bytes=len(event.data),
    )
    headers = headers_of(msgspec.structs.replace(event, **short, data=b""))
    return dead_letter.id.encode(), b"", [*headers, (DEAD_LETTER_HEADER, msgspec.json.encode(about))]


def _about_of(dead_letter: DeadLetter) -> About:
    return About(
        dead_letter.id,
        dead_letter.topic,
        dead_letter.partition,
        dead_letter.offset,
        dead_letter.service,
        dead_letter.step,
        dead_letter.cause.encode(errors="replace").decode(),  # an error's text may hold surrogates
        dead_letter.set_aside_ms,
        dead_letter.record.stamp_ms,
        dead_letter.record.event.key,
        log_id=dead_letter.record.log_id,
    )


def digest(data: bytes) -> str:
    """Return the digest of bytes that a dead letter keeps."""
    return hashlib.sha256(data).hexdigest()


def dead_letter_of(about: About, message: Message, redriven: int) -> DeadLetter:
    """Return the dead letter in a message, with the number of its redrives."""
    place = (about.topic, about.partition, about.offset)
    event = event_of(message.headers() or (), about.key.encode(), message.value(), about.topic)
    record = Record(*place, about.stamp_ms, event, about.log_id)
    return DeadLetter(about.id, *place, about.service, about.step, about.cause, about.set_aside_ms, record, redriven)


def about_in(message: Message) -> About | None:
    """Return the fields of a dead letter in a message; None if it is not choreo's, even with its header."""
    try:
        return _decode(_header(message, DEAD_LETTER_HEADER))
    except msgspec.MsgspecError:
        return None


def redriven_in(message: Message) -> str:
    """Return the id of the dead letter whose redrive a message counts; "" if it counts none."""
    return (message.key() or b"").decode(errors="replace") if _header(message, REDRIVEN_HEADER) else ""


def redriven_message(dead_letter_id: str) -> Outgoing:
    """Return the message that counts one more redrive."""
    return dead_letter_id.encode(), b"", [(REDRIVEN_HEADER, b"1")]


def _header(message: Message, name: str) -> bytes:
    headers: Any = message.headers() or ()
    values = [value for header, value in headers if header == name and isinstance(value, bytes)]
    return values[-1] if values else b""


_decode = msgspec.json.Decoder(About).decode


SUFFIX = ".dead-letters"
PAGE = 500
"""Messages read at once."""
COUNTED_MAX = 10_000
"""Messages of a partition up to which dead letters are counted one by one, which takes a second the first time.

Of more messages every one counts: redrives and repetitions too.
"""


class _Placed(NamedTuple):
    """The place of a dead letter; ordered by the time when it was set aside."""

    stamp_ms: int
    topic: str
    partition: int
    offset: int


class _Found(NamedTuple):
    """A dead letter that was read."""

    place: _Placed
    about: About
    message: Message
    redriven: int

    @property
    def dead_letter(self) -> DeadLetter:
        """Return the dead letter, without bytes that did not fit."""
        return dead_letter_of(self.about, self.message, self.redriven)


class _Count(msgspec.Struct):
    """The dead letters of one partition, counted so far."""

    begin: int
    next: int
    ids: set[str]


class KafkaDeadLetters:
    """`choreo.ports.dead_letters.DeadLetters` in topics. Everything raises StorageError without the cluster."""

    def __init__(self, options: KafkaOptions, cluster: Cluster, sender: KafkaProducer, readers: Readers) -> None:
        self._options = options
        self._cluster = cluster
        self._sender = sender
        self._readers = readers
        self._counts: dict[tuple[str, int], _Count] = {}

    async def add(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters, durably; of two of one id the first counts."""
        by_topic: dict[str, list[DeadLetter]] = {}
        for dead_letter in dead_letters:
            by_topic.setdefault(dead_letter.topic, []).append(dead_letter)
        for topic, its_dead_letters in by_topic.items():
            await self._cluster.create_dead_letters(topic + SUFFIX)
            await self._keep(topic + SUFFIX, its_dead_letters)

    async def list(self, topic: str | None = None, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Return dead letters, newest first; raises NotFoundError if `after` is no dead letter."""
        before = (await self._find(after)).place if after else None
        found: list[_Found] = []
        for name, partition in await self._partitions(topic):
            found += await self._newest(name, partition, limit, before)
        return [each.dead_letter for each in nlargest(limit, found, key=attrgetter("place"))]

    async def get(self, dead_letter_id: str) -> DeadLetter:
        """Return one dead letter; raises NotFoundError."""
        found = await self._find(dead_letter_id)
        return await self._completed(found) if found.about.digest else found.dead_letter

    async def count(self, topic: str | None = None) -> int:
        """Return the number of dead letters; of very many, the number of messages."""
        number = 0
        for name, partition in await self._partitions(topic):
            begin, end = await self._span(name, partition)
            number += end - begin if end - begin > COUNTED_MAX else await self._counted(name, partition, begin, end)
        return number

    async def redriven(self, dead_letter_id: str) -> None:
        """Count one more redrive; raises NotFoundError."""
        topic = (await self._find(dead_letter_id)).place.topic + SUFFIX
        await self._sender.send(self._options.name(topic), [redriven_message(dead_letter_id)])

    async def _keep(self, name: str, dead_letters: Sequence[DeadLetter]) -> None:
        """Write dead letters whole where they fit, else with the position of the record and the digest of its bytes.

        The client refuses one message, the broker a whole batch because of one: then each is written alone.
        """
        topic = self._options.name(name)
        try:
            await self._sender.send(topic, [message_of(dead_letter) for dead_letter in dead_letters])
        except ConflictError as error:
            if len(dead_letters) > 1:
                for dead_letter in dead_letters:
                    await self._keep(name, [dead_letter])
                return
            try:
                await self._sender.send(topic, [short_message_of(dead_letters[0])])
            except ConflictError:
                raise StorageError(
                    f"it does not take even a dead letter without its record's bytes: {error.what}",
                    where=f"topic {name!r}",
                    remedy="Raise its max.message.bytes to 64 KiB or more.",
                ) from error

    async def _partitions(self, topic: str | None) -> Sequence[tuple[str, int]]:
        """Return every partition with dead letters of one flow, or of all."""
        names = await self._cluster.named(SUFFIX)
        wanted = names if topic is None else sorted({topic + SUFFIX}.intersection(names))
        return [(name, number) for name in wanted for number in range(await self._cluster.partitions(name))]

    async def _newest(self, name: str, partition: int, limit: int, before: _Placed | None) -> Sequence[_Found]:
        """Return the last dead letters of a partition, before a place.

        Of two of one id, the first of those that are read is returned.
        """
        redriven: Counter[str] = Counter()
        found: dict[str, _Found] = {}
        async for messages in self._backwards(name, partition):
            for message in reversed(messages):
                about = about_in(message)
                if about is None:
                    redriven[redriven_in(message)] += 1
                    continue
                place = _place_of(message, name)
                if before is None or place < before:
                    found[about.id] = _Found(place, about, message, redriven[about.id])
            if len(found) >= limit:
                break
        return [*found.values()]

    async def _find(self, dead_letter_id: str) -> _Found:
        for name, partition in await self._partitions(None):
            redriven = 0
            async for messages in self._backwards(name, partition):
                found: _Found | None = None
                for message in reversed(messages):
                    about = about_in(message)
                    if about is not None and about.id == dead_letter_id:
                        found = _Found(_place_of(message, name), about, message, redriven)
                    elif about is None and redriven_in(message) == dead_letter_id:
                        redriven += 1
                if found is not None:
                    return found._replace(redriven=redriven)
        raise no_dead_letter(dead_letter_id)

    async def _counted(self, name: str, partition: int, begin: int, end: int) -> int:
        """Count the dead letters one by one: those that came since the last time."""
        count = self._counts.get((name, partition))
        if count is None or count.begin != begin or count.next > end:
            count = self._counts[name, partition] = _Count(begin, begin, set())
        while count.next < end:
            messages = await self._read(name, partition, count.next, min(PAGE, end - count.next))
            count.ids.update(about.id for message in messages if (about := about_in(message)) is not None)
            # Where no message is left before the end, the last entries are no messages, but markers of transactions.
            count.next = (messages[-1].offset() or 0) + 1 if messages else end
        return len(count.ids)

    async def _completed(self, found: _Found) -> DeadLetter:
        """Return the dead letter with its record's bytes from the log, if the log still has them."""
        about, dead_letter = found.about, found.dead_letter
        try:
            read = await self._read(about.topic, about.partition, about.offset, 1)
        except (OutOfRangeError, ChoreoError):
            return dead_letter
        for message in read:
            value = message.value() or b""
            if message.offset() == about.offset and digest(value) == about.digest:
                event = event_of(message.headers() or (), message.key(), value, about.topic)
                return msgspec.structs.replace(
                    dead_letter, record=msgspec.structs.replace(dead_letter.record, event=event)
                )
        return dead_letter

    async def _backwards(self, name: str, partition: int) -> AsyncIterator[Sequence[Message]]:
        """Yield the partition's messages, a page at a time, from the last page to the first."""
        begin, end = await self._span(name, partition)
        while end > begin:
            start = max(begin, end - PAGE)
            read = await self._read(name, partition, start, end - start)
            yield [message for message in read if (message.offset() or 0) < end]
            end = start

    async def _span(self, name: str, partition: int) -> tuple[int, int]:
        begin = (await self._cluster.begins(name, (partition,)))[partition]
        return begin, (await self._cluster.stable_ends(name, (partition,)))[partition]

    async def _read(self, name: str, partition: int, offset: int, limit: int) -> Sequence[Message]:
        try:
            return await self._readers.read(Place(self._options.name(name), partition, offset), limit)
        except KafkaException as error:
            raise complaint(error, self._options, f"topic {name!r}") from error


def _place_of(message: Message, name: str) -> _Placed:
    topic = name.removesuffix(SUFFIX)
    return _Placed(message.timestamp()[1], topic, message.partition() or 0, message.offset() or 0)
