"""The identity of a log: its topic's id and its number of partitions, noted in every commit.

A topic that was deleted and made again has another id (KIP-516) and the same offsets: committed offsets, states and
outcomes of the old one are wrong in it. A topic with another number of partitions keeps its keys in other partitions.
Either stops the consumers until an operator decides; nothing is read or written meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, TypeAlias

from choreo.core.errors import LeaseLostError, NotFoundError, ReplacedLogError, StorageError

LOOK_S = 5.0
"""How often the identity of a topic in use is checked: one request, answered by any broker."""
_SEPARATOR, _LOG_ID = "|", "@"
NOTE_END = "\n"
"""Ends every note: a client may return more text than the note."""
_UNKNOWN_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""The id from brokers that have no topic ids, 16 zero bytes."""

Ask: TypeAlias = Callable[[str], Awaitable["Origin"]]
Notes: TypeAlias = Callable[[str], Awaitable[Iterable[str]]]
Recall: TypeAlias = Callable[[str, str], Awaitable[str]]


class Origin(NamedTuple):
    """The identity of a log at its creation."""

    topic_id: str
    """"" where the broker has no topic ids."""
    partitions: int
    log_id: str = ""
    """Part of the ids that are derived from positions: "" for a flow's first log, so that its ids stay as they are."""

    def __str__(self) -> str:
        """Return the form in which commits note it."""
        return f"{self.topic_id}/{self.partitions}" + (f"{_LOG_ID}{self.log_id}" if self.log_id else "")


def origin_of(topic_id: object, partitions: int) -> Origin:
    """Return the origin of a topic as an admin client describes it."""
    text = str(topic_id)
    return Origin("" if text == _UNKNOWN_ID else text, partitions)


def noted(origin: Origin, more: str = "") -> str:
    """Return the note for a commit: the origin, and `more` about the stores beside the log."""
    return f"{origin}{_SEPARATOR}{more}{NOTE_END}"


def written(note: str) -> str:
    """Return a note as other clients write it: with the zero byte that ends it for librdkafka."""
    return note + "\0"


def read_note(note: str) -> tuple[Origin | None, str]:
    """Return the origin and the rest of a note; without an origin, None and the whole note."""
    note = note.partition(NOTE_END)[0]
    head, separator, more = note.partition(_SEPARATOR)
    place, _, log_id = head.partition(_LOG_ID)
    topic_id, slash, partitions = place.rpartition("/")  # an id is in base64, which has slashes
    if not (separator and slash and partitions.isdecimal()):
        return None, note
    return Origin(topic_id, int(partitions), log_id), more


def origins_in(notes: Iterable[str]) -> list[Origin]:
    """Return the origins of topics whose id is known, in the order of their notes."""
    return [origin for note in notes if (origin := read_note(note)[0]) is not None and origin.topic_id]


def first_noted(notes: Iterable[str]) -> Origin | None:
    """Return the origin of the first note that has one."""
    return next((origin for note in notes if (origin := read_note(note)[0]) is not None), None)


def identified(now: Origin, known: Iterable[Origin]) -> Origin:
    """Return `now` with the log id that is noted for this topic."""
    ids = (was.log_id for was in known if was.topic_id == now.topic_id)
    return now._replace(log_id=next(filter(None, ids), ""))


def successor(now: Origin, was: Origin, *, is_copy: bool) -> Origin:
    """Return the origin of a topic that follows another one as the log of its flow.

    A topic with facts of choreo's own is a copy: these refer to the ids that its records had before.
    """
    return now._replace(log_id=was.log_id if is_copy else now.topic_id)


def check(topic: str, was: Origin, now: Origin) -> None:
    """Raise ReplacedLogError, with the two possible remedies, where `now` is another log than `was`."""
    if now.partitions != was.partitions:
        raise ReplacedLogError(
            f"it has {now.partitions} partitions, and was made with {was.partitions}: its keys are elsewhere now",
            where=f"topic {topic!r}",
            remedy=(
                f"Nothing is read or written. Copy its records into a topic with {was.partitions} partitions and put "
                f"that in its place, or declare a flow of another name with {now.partitions}; then, with every role "
                f"stopped, `choreo topics adopt {topic}`."
            ),
        )
    if now.topic_id and was.topic_id and now.topic_id != was.topic_id:
        raise ReplacedLogError(
            f"it was deleted and made again: its id is {now.topic_id}, offsets and states are of {was.topic_id}",
            where=f"topic {topic!r}",
            remedy=(
                f"Nothing is read or written. To begin anew with it: stop every role, `choreo topics adopt {topic}`, "
                f"start them. If its records were restored at the offsets that they had: `choreo topics adopt {topic} "
                "--same-records`."
            ),
        )


class _Entry(NamedTuple):
    """This process's knowledge of one topic."""

    now: Origin
    looked_s: float
    is_remembered: bool
    """Whether it was compared with the notes and the store."""
    error: ReplacedLogError | None


class Origins:
    """The topics that this process works with, each checked every few seconds while it is used."""

    def __init__(self, ask: Ask, notes: Notes, recall: Recall | None) -> None:
        """Take the sources: `ask` describes a topic, `notes` reads the notes of its tracker's commits.

        `recall` returns the first identity that was remembered for a topic, from a store that outlives it. `ask` and
        `notes` may raise StorageError.
        """
        self._ask = ask
        self._notes = notes
        self._recall = recall
        self._compared: dict[str, _Entry] = {}
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def sure(self, topic: str, *, fresh: bool = False) -> Origin:
        """Return the topic's identity; `fresh`: it is checked now.

        Raises ReplacedLogError where it has changed.

        Raises NotFoundError.
        """
        entry = self._compared.get(topic)
        if fresh and entry is not None:
            entry = self._compared[topic] = entry._replace(looked_s=entry.looked_s - LOOK_S)
        if entry is None or time.monotonic() - entry.looked_s >= LOOK_S:
            async with self._asking[topic]:
                entry = self._compared.get(topic)
                if entry is None or time.monotonic() - entry.looked_s >= LOOK_S:
                    entry = self._compared[topic] = await self._look(topic, entry)
        if entry.error is not None:
            raise entry.error
        return entry.now

    async def _look(self, topic: str, entry: _Entry | None) -> _Entry:
        """Compare the topic with its earlier identity.

        An error is checked again: an operator may have decided meanwhile.
        """
        try:
            now = await self._ask(topic)
            known = [entry.now] if entry and entry.error is None else []
            is_remembered = entry is not None and entry.is_remembered
            if not is_remembered:
                remembered, is_remembered = await self._remembered(topic, now)
                known += remembered
            now = identified(now, known)
        except NotFoundError as error:
            if entry is None:
                raise
            # The topic existed before: an operator may be changing it now, and it may come back.
            raise StorageError(error.what, where=error.where, remedy=error.remedy) from error
        except StorageError:
            if entry is None:
                raise
            return entry._replace(looked_s=time.monotonic())  # callers that read or write the topic report it
        try:
            for was in known:
                check(topic, was, now)
        except ReplacedLogError as error:
            return _Entry(now, time.monotonic(), is_remembered=False, error=error)
        return _Entry(now, time.monotonic(), is_remembered, None)

    async def _remembered(self, topic: str, now: Origin) -> tuple[list[Origin], bool]:
        """Return the remembered identities of the topic, and whether all sources have answered."""
        notes = list(await self._notes(topic))
        was_answered = True
        if self._recall is not None:
            try:
                notes.append(await self._recall(topic, noted(first_noted(notes) or now)))
            except StorageError:
                was_answered = False
        return [origin for note in notes if (origin := read_note(note)[0]) is not None], was_answered


class OriginWatch:
    """Checks, for one member, that its topic is still the one it joined. Make it on the loop that polls the member."""

    def __init__(self, topic: str, origins: Origins) -> None:
        """Begin to check."""
        self._topic = topic
        self._origins = origins
        self._found: ReplacedLogError | None = None
        self._refused: ReplacedLogError | None = None
        self._looking = asyncio.create_task(self._look())

    def refuse(self, error: ReplacedLogError) -> None:
        """Note that the group's offsets are of another log; `check` raises the error while they are."""
        self._refused = error

    def check(self) -> None:
        """Raise LeaseLostError where the topic is another log now: the member's unfinished work is of the old one.

        Raises ReplacedLogError once for each `refuse`.
        """
        refused, self._refused = self._refused, None
        if refused is not None:
            raise refused
        if self._found is not None:
            raise LeaseLostError(self._found.what, where=self._found.where, remedy=self._found.remedy)

    async def look(self) -> None:
        """Check now: a new assignment also follows when a topic is made again. Raises ReplacedLogError."""
        await self._origins.sure(self._topic, fresh=True)

    def close(self) -> None:
        """Stop the checks."""
        self._looking.cancel()

    async def _look(self) -> None:
        while self._found is None:
            await asyncio.sleep(LOOK_S)
            try:
                await self._origins.sure(self._topic)
            except ReplacedLogError as error:
                self._found = error
            except (StorageError, NotFoundError):
                continue  # the cluster is away, or the topic is being made again: polls report it
