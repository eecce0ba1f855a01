"""Dead letters on Kafka: a topic `<flow>.dead-letters` a flow, each letter a message that is the event it is about.

Nothing is changed there: a redrive is one more message under the letter's id. Nothing of the topics is kept: they are
read from their ends backwards, as far as a page or a letter needs it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from heapq import nlargest
from operator import attrgetter
from typing import NamedTuple

import msgspec
from confluent_kafka import KafkaException, Message

from choreo.adapters.kafka.cluster import Cluster
from choreo.adapters.kafka.dead_letters_form import (
    About,
    about_in,
    digest,
    letter_of,
    message_of,
    redriven_in,
    redriven_message,
    short_message_of,
)
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.reader import OutOfRangeError, Place, Readers
from choreo.adapters.kafka.records import event_of
from choreo.adapters.kafka.sender import Sender
from choreo.adapters.kafka.trouble import complaint
from choreo.adapters.refusals import no_letter
from choreo.core.errors import ChoreoError, ConflictError, StorageError
from choreo.ports.dead_letters import DeadLetter

SUFFIX = ".dead-letters"
PAGE = 500
"""Messages read at once."""
COUNTED_MAX = 10_000
"""Messages of a partition up to which letters are counted one by one, which takes a second the first time; of more,
every message counts: redrives and repetitions too."""


class _Placed(NamedTuple):
    """Where a letter stands; in the order of setting aside."""

    stamp_ms: int
    topic: str
    partition: int
    offset: int


class _Found(NamedTuple):
    """A letter that was read."""

    place: _Placed
    about: About
    message: Message
    redriven: int

    @property
    def letter(self) -> DeadLetter:
        """The letter, without bytes that did not fit."""
        return letter_of(self.about, self.message, self.redriven)


class _Count(msgspec.Struct):
    """The letters of one partition, counted so far."""

    begin: int
    next: int
    ids: set[str]


class KafkaDeadLetters:
    """`choreo.ports.dead_letters.DeadLetters` in topics. Everything raises StorageError without the cluster."""

    def __init__(self, options: KafkaOptions, cluster: Cluster, sender: Sender, readers: Readers) -> None:
        self._options = options
        self._cluster = cluster
        self._sender = sender
        self._readers = readers
        self._counts: dict[tuple[str, int], _Count] = {}

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep them, durably; of two of one id the first counts."""
        by_topic: dict[str, list[DeadLetter]] = {}
        for letter in letters:
            by_topic.setdefault(letter.topic, []).append(letter)
        for topic, its_letters in by_topic.items():
            await self._cluster.create_letters(topic + SUFFIX)
            await self._keep(topic + SUFFIX, its_letters)

    async def list(self, topic: str | None = None, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Newest first; raises NotFoundError if `after` is no letter."""
        before = (await self._find(after)).place if after else None
        found: list[_Found] = []
        for name, partition in await self._partitions(topic):
            found += await self._newest(name, partition, limit, before)
        return [each.letter for each in nlargest(limit, found, key=attrgetter("place"))]

    async def get(self, letter_id: str) -> DeadLetter:
        """One letter; raises NotFoundError."""
        found = await self._find(letter_id)
        return await self._completed(found) if found.about.digest else found.letter

    async def count(self, topic: str | None = None) -> int:
        """How many there are; of very many, how many messages stand there."""
        number = 0
        for name, partition in await self._partitions(topic):
            begin, end = await self._span(name, partition)
            number += end - begin if end - begin > COUNTED_MAX else await self._counted(name, partition, begin, end)
        return number

    async def redriven(self, letter_id: str) -> None:
        """Count one more redrive; raises NotFoundError."""
        topic = (await self._find(letter_id)).place.topic + SUFFIX
        await self._sender.send(self._options.name(topic), [redriven_message(letter_id)])

    async def _keep(self, name: str, letters: Sequence[DeadLetter]) -> None:
        """Write them whole where they fit; of one that does not, where its record stands and the digest of its bytes.

        The client refuses one message, the broker a whole batch for one: then each is written alone.
        """
        topic = self._options.name(name)
        try:
            await self._sender.send(topic, [message_of(letter) for letter in letters])
        except ConflictError as error:
            if len(letters) > 1:
                for letter in letters:
                    await self._keep(name, [letter])
                return
            try:
                await self._sender.send(topic, [short_message_of(letters[0])])
            except ConflictError:
                raise StorageError(
                    f"it does not even take a letter without its record's bytes: {error.what}",
                    where=f"topic {name!r}",
                    remedy="Raise its max.message.bytes to 64 KiB or more.",
                ) from error

    async def _partitions(self, topic: str | None) -> Sequence[tuple[str, int]]:
        """Every partition with letters of one flow, or of all."""
        names = await self._cluster.named(SUFFIX)
        wanted = names if topic is None else sorted({topic + SUFFIX}.intersection(names))
        return [(name, number) for name in wanted for number in range(await self._cluster.partitions(name))]

    async def _newest(self, name: str, partition: int, limit: int, before: _Placed | None) -> Sequence[_Found]:
        """The last letters of a partition, those before a place; of two of one id, the first of those that are read."""
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

    async def _find(self, letter_id: str) -> _Found:
        for name, partition in await self._partitions(None):
            redriven = 0
            async for messages in self._backwards(name, partition):
                found: _Found | None = None
                for message in reversed(messages):
                    about = about_in(message)
                    if about is not None and about.id == letter_id:
                        found = _Found(_place_of(message, name), about, message, redriven)
                    elif about is None and redriven_in(message) == letter_id:
                        redriven += 1
                if found is not None:
                    return found._replace(redriven=redriven)
        raise no_letter(letter_id)

    async def _counted(self, name: str, partition: int, begin: int, end: int) -> int:
        """Count the letters one by one: those that came since the last time."""
        count = self._counts.get((name, partition))
        if count is None or count.begin != begin or count.next > end:
            count = self._counts[name, partition] = _Count(begin, begin, set())
        while count.next < end:
            messages = await self._read(name, partition, count.next, min(PAGE, end - count.next))
            count.ids.update(about.id for message in messages if (about := about_in(message)) is not None)
            # Where nothing is left to read before the end, something else stands there, such as a marker.
            count.next = (messages[-1].offset() or 0) + 1 if messages else end
        return len(count.ids)

    async def _completed(self, found: _Found) -> DeadLetter:
        """The letter with its record as it stands in the log, if it still does."""
        about, letter = found.about, found.letter
        try:
            read = await self._read(about.topic, about.partition, about.offset, 1)
        except (OutOfRangeError, ChoreoError):
            return letter
        for message in read:
            value = message.value() or b""
            if message.offset() == about.offset and digest(value) == about.digest:
                event = event_of(message.headers() or (), message.key(), value, about.topic)
                return msgspec.structs.replace(letter, record=msgspec.structs.replace(letter.record, event=event))
        return letter

    async def _backwards(self, name: str, partition: int) -> AsyncIterator[Sequence[Message]]:
        """The partition's messages, a page at a time, from the last page to the first."""
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
