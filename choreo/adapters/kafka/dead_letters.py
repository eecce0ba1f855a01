"""Dead letters on Kafka: a topic `<flow>.dead-letters` a flow, each letter a message that is the event it is about.

Nothing is changed there: a redrive is one more message under the letter's id. What a process knows of the topic is
where each letter stands; the letters themselves are read when they are asked for.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from heapq import nlargest
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import KafkaException, Message

from choreo.adapters.kafka.cluster import Cluster
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.reader import OutOfRangeError, Place, Readers
from choreo.adapters.kafka.records import Outgoing, event_of, headers_of
from choreo.adapters.kafka.sender import Sender
from choreo.adapters.kafka.trouble import complaint
from choreo.adapters.refusals import no_letter
from choreo.core.errors import ChoreoError, ConflictError, StorageError
from choreo.core.events import Record
from choreo.ports.dead_letters import DeadLetter

SUFFIX = ".dead-letters"
LETTER_HEADER = "choreo_letter"
REDRIVEN_HEADER = "choreo_redriven"
Page = list[DeadLetter]
Messages = list[Message]
PAGE = 1_000
"""Messages read at once."""
TEXT_MAX = 1_000
"""Characters kept of each text in a letter that does not fit: some 20 KB with all of them."""


class _About(msgspec.Struct, omit_defaults=True):
    """What a letter says besides its event, as JSON in one header."""

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
    """SHA-256 of the bytes that the letter was too large to hold; they stand where the record does."""
    bytes: int = 0
    """How many those are."""


class _Place(NamedTuple):
    """Where a letter stands; in the order of setting aside."""

    stamp_ms: int
    topic: str
    partition: int
    offset: int


class KafkaDeadLetters:
    """`choreo.ports.dead_letters.DeadLetters` in topics. Everything raises StorageError without the cluster."""

    def __init__(self, options: KafkaOptions, cluster: Cluster, sender: Sender, readers: Readers) -> None:
        self._options = options
        self._cluster = cluster
        self._sender = sender
        self._readers = readers
        self._places: dict[str, _Place] = {}
        """By id; the first of each id counts."""
        self._redriven: dict[str, int] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._looking = asyncio.Lock()

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep them, durably; of two of one id the first counts."""
        by_topic: dict[str, list[DeadLetter]] = {}
        for letter in letters:
            by_topic.setdefault(letter.topic, []).append(letter)
        for topic, its_letters in by_topic.items():
            await self._cluster.create_letters(topic + SUFFIX)
            await self._keep(topic + SUFFIX, its_letters)

    async def _keep(self, name: str, letters: Sequence[DeadLetter]) -> None:
        """Write them whole where they fit; of one that does not, where its record stands and the digest of its bytes.

        The client refuses one message, the broker a whole batch for one: then each is written alone.
        """
        topic = self._options.name(name)
        try:
            await self._sender.send(topic, [_message_of(letter) for letter in letters])
        except ConflictError as error:
            if len(letters) > 1:
                for letter in letters:
                    await self._keep(name, [letter])
                return
            try:
                await self._sender.send(topic, [_short_message_of(letters[0])])
            except ConflictError:
                raise StorageError(
                    f"it does not even take a letter without its record's bytes: {error.what}",
                    where=f"topic {name!r}",
                    remedy="Raise its max.message.bytes to 64 KiB or more.",
                ) from error

    async def list(self, topic: str | None = None, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Newest first; raises NotFoundError if `after` is no letter."""
        await self._look(None if after else topic)
        before = self._known(after) if after else None
        fitting = (
            (place, id_)
            for id_, place in self._places.items()
            if topic in (None, place.topic) and (before is None or place < before)
        )
        return await self._letters(nlargest(limit, fitting))

    async def get(self, letter_id: str) -> DeadLetter:
        """One letter; raises NotFoundError."""
        await self._look(None)
        found = await self._letters([(self._known(letter_id), letter_id)], whole=True)
        if not found:
            raise no_letter(letter_id)
        return found[0]

    async def count(self, topic: str | None = None) -> int:
        """How many there are."""
        await self._look(topic)
        return sum(topic in (None, place.topic) for place in self._places.values())

    async def redriven(self, letter_id: str) -> None:
        """Count one more redrive; raises NotFoundError."""
        await self._look(None)
        topic = self._known(letter_id).topic + SUFFIX
        message: Outgoing = (letter_id.encode(), b"", [(REDRIVEN_HEADER, b"1")])
        await self._sender.send(self._options.name(topic), [message])

    def _known(self, letter_id: str) -> _Place:
        place = self._places.get(letter_id)
        if place is None:
            raise no_letter(letter_id)
        return place

    async def _look(self, topic: str | None) -> None:
        """Learn what has come since, of one flow or of all."""
        async with self._looking:
            names = await self._cluster.named(SUFFIX)
            for name in names if topic is None else {topic + SUFFIX}.intersection(names):
                partitions = range(await self._cluster.partitions(name))
                for partition, end in (await self._cluster.stable_ends(name, partitions)).items():
                    await self._read_on(name, partition, end)

    async def _read_on(self, name: str, partition: int, end: int) -> None:
        begins = (await self._cluster.begins(name, (partition,)))[partition]
        offset = max(begins, self._next.get((name, partition), 0))
        while offset < end:
            messages = await self._read(name, partition, offset, min(PAGE, end - offset))
            for message in messages:
                self._learn(message, name.removesuffix(SUFFIX))
            # Where nothing is left to read before the end, something else stands there, such as a marker.
            offset = (messages[-1].offset() or 0) + 1 if messages else end
        self._next[name, partition] = offset

    def _learn(self, message: Message, topic: str) -> None:
        about = _about(message)
        if about is not None:
            place = _Place(message.timestamp()[1], topic, message.partition() or 0, message.offset() or 0)
            self._places.setdefault(about.id, place)
        elif _header(message, REDRIVEN_HEADER):
            letter_id = (message.key() or b"").decode(errors="replace")
            self._redriven[letter_id] = self._redriven.get(letter_id, 0) + 1

    async def _letters(self, wanted: Sequence[tuple[_Place, str]], *, whole: bool = False) -> Page:
        """The letters at these places, in the order given; `whole`: with bytes that did not fit, from the log."""
        by_log: dict[tuple[str, int], list[int]] = {}
        for place, _ in wanted:
            by_log.setdefault((place.topic, place.partition), []).append(place.offset)
        found: dict[str, DeadLetter] = {}
        for (topic, partition), offsets in by_log.items():
            for message in await self._messages(topic + SUFFIX, partition, sorted(offsets)):
                about = _about(message)
                if about is not None:
                    letter = _letter_of(about, message, self._redriven.get(about.id, 0))
                    found[about.id] = await self._completed(letter, about) if whole and about.digest else letter
        # One that retention has taken meanwhile is no letter any more.
        return [found[letter_id] for _, letter_id in wanted if letter_id in found]

    async def _completed(self, letter: DeadLetter, about: _About) -> DeadLetter:
        """The letter with its record as it stands in the log, if it still does."""
        try:
            read = await self._read(about.topic, about.partition, about.offset, 1)
        except (OutOfRangeError, ChoreoError):
            return letter
        for message in read:
            value = message.value() or b""
            if message.offset() == about.offset and _digest(value) == about.digest:
                event = event_of(message.headers() or (), message.key(), value, about.topic)
                return msgspec.structs.replace(letter, record=msgspec.structs.replace(letter.record, event=event))
        return letter

    async def _messages(self, name: str, partition: int, offsets: Sequence[int]) -> Messages:
        """The messages at these offsets, ascending; neighbours are read together."""
        found: list[Message] = []
        left = offsets
        while left:
            together = [offset for offset in left if offset < left[0] + 2 * len(left)]
            read = await self._read(name, partition, left[0], together[-1] - left[0] + 1)
            found += [message for message in read if message.offset() in together]
            left = left[len(together) :]
        return found

    async def _read(self, name: str, partition: int, offset: int, limit: int) -> Messages:
        try:
            return await self._readers.read(Place(self._options.name(name), partition, offset), limit)
        except KafkaException as error:
            raise complaint(error, self._options, f"topic {name!r}") from error


def _message_of(letter: DeadLetter) -> Outgoing:
    event = letter.record.event
    headers = [*headers_of(event), (LETTER_HEADER, msgspec.json.encode(_about_of(letter)))]
    return letter.id.encode(), event.data, headers


def _short_message_of(letter: DeadLetter) -> Outgoing:
    """The letter without its record's bytes: every text in it is cut, whatever a foreign producer put there."""
    event = letter.record.event
    short = {name: value[:TEXT_MAX] for name, value in msgspec.structs.asdict(event).items() if isinstance(value, str)}
    about = msgspec.structs.replace(
        _about_of(letter),
        cause=f"{letter.cause[:TEXT_MAX]} (its {len(event.data):,} bytes do not fit into a letter)",
        key=event.key[:TEXT_MAX],
        digest=_digest(event.data),
        bytes=len(event.data),
    )
    headers = headers_of(msgspec.structs.replace(event, **short, data=b""))
    return letter.id.encode(), b"", [*headers, (LETTER_HEADER, msgspec.json.encode(about))]


def _about_of(letter: DeadLetter) -> _About:
    return _About(
        letter.id,
        letter.topic,
        letter.partition,
        letter.offset,
        letter.service,
        letter.step,
        letter.cause.encode(errors="replace").decode(),  # an error's text may hold what UTF-8 has no bytes for
        letter.set_aside_ms,
        letter.record.stamp_ms,
        letter.record.event.key,
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _letter_of(about: _About, message: Message, redriven: int) -> DeadLetter:
    place = (about.topic, about.partition, about.offset)
    event = event_of(message.headers() or (), about.key.encode(), message.value(), about.topic)
    record = Record(*place, about.stamp_ms, event)
    return DeadLetter(about.id, *place, about.service, about.step, about.cause, about.set_aside_ms, record, redriven)


def _about(message: Message) -> _About | None:
    """None if it is no letter of ours, whatever its header says."""
    try:
        return _decode(_header(message, LETTER_HEADER))
    except msgspec.MsgspecError:
        return None


def _header(message: Message, name: str) -> bytes:
    headers: Any = message.headers() or ()
    values = [value for header, value in headers if header == name and isinstance(value, bytes)]
    return values[-1] if values else b""


_decode = msgspec.json.Decoder(_About).decode
