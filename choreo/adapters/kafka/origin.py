"""The identity of a log: its topic's id and its number of partitions, noted in every commit.

A topic that was deleted and made again has another id (KIP-516) and the same offsets: positions, states and outcomes of
the old one mean nothing in it. A topic with another number of partitions keeps its keys elsewhere. Either stops whoever
works it until somebody chooses; nothing is read or written meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, TypeAlias

from choreo.core.errors import LeaseLostError, NotFoundError, ReplacedLogError, StorageError

LOOK_S = 5.0
"""How often a topic that is being worked is asked for its identity: one request, answered by any broker."""
_SEPARATOR = "|"
NOTE_END = "\n"
"""Ends every note: a client may give more than that of it."""
_UNKNOWN_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""The id of brokers that know none, 16 zero bytes."""

Ask: TypeAlias = Callable[[str], Awaitable["Origin"]]
Notes: TypeAlias = Callable[[str], Awaitable[Iterable[str]]]
Recall: TypeAlias = Callable[[str, str], Awaitable[str]]


class Origin(NamedTuple):
    """What a log was made as."""

    topic_id: str
    """"" where the broker does not know it."""
    partitions: int

    def __str__(self) -> str:
        """The form in which commits note it."""
        return f"{self.topic_id}/{self.partitions}"


def origin_of(topic_id: object, partitions: int) -> Origin:
    """Return the origin of a topic as an admin client describes it."""
    text = str(topic_id)
    return Origin("" if text == _UNKNOWN_ID else text, partitions)


def noted(origin: Origin, more: str = "") -> str:
    """Return the note for a commit: the origin, and `more` about what is kept beside the log."""
    return f"{origin}{_SEPARATOR}{more}{NOTE_END}"


def written(note: str) -> str:
    """Return a note as a client of another make writes it: with the zero byte that ends it for librdkafka."""
    return note + "\0"


def read_note(note: str) -> tuple[Origin | None, str]:
    """Return the origin and the rest of a note; without an origin, None and the whole note."""
    note = note.partition(NOTE_END)[0]
    head, separator, more = note.partition(_SEPARATOR)
    topic_id, slash, partitions = head.rpartition("/")
    if not (separator and slash and partitions.isdecimal()):
        return None, note
    return Origin(topic_id, int(partitions)), more


def first_noted(notes: Iterable[str]) -> Origin | None:
    """Return the origin of the first note that has one."""
    return next((origin for note in notes if (origin := read_note(note)[0]) is not None), None)


def check(topic: str, was: Origin, now: Origin) -> None:
    """Raise ReplacedLogError, with the choice there is, where `now` is another log than the one that `was`."""
    if now.partitions != was.partitions:
        raise ReplacedLogError(
            f"it has {now.partitions} partitions, and was made with {was.partitions}: its keys lie elsewhere now",
            where=f"topic {topic!r}",
            remedy=(
                f"Nothing is read or written. Copy its records into a topic with {was.partitions} partitions and put "
                f"that in its place, or declare a flow of another name with {now.partitions}; then, with every role "
                f"stopped, `choreo topics adopt {topic}`."
            ),
        )
    if now.topic_id and was.topic_id and now.topic_id != was.topic_id:
        raise ReplacedLogError(
            f"it was deleted and made again: its id is {now.topic_id}, positions and states are of {was.topic_id}",
            where=f"topic {topic!r}",
            remedy=(
                f"Nothing is read or written. To begin anew with it: stop every role, `choreo topics adopt {topic}`, "
                f"start them. If its records were restored at the offsets that they had: `choreo topics adopt {topic} "
                "--same-records`."
            ),
        )


class _Met(NamedTuple):
    """What this process knows of one topic."""

    now: Origin
    looked_s: float
    is_remembered: bool
    """Whether it was compared with what is remembered elsewhere."""
    error: ReplacedLogError | None


class Origins:
    """The topics this process works with, each looked at every few seconds while it is used."""

    def __init__(self, ask: Ask, notes: Notes, recall: Recall | None) -> None:
        """`ask` describes a topic; `notes` reads what its tracker's commits note. Both may raise StorageError.

        `recall` returns what was remembered first of a topic, in a store that outlives it.
        """
        self._ask = ask
        self._notes = notes
        self._recall = recall
        self._met: dict[str, _Met] = {}
        self._asking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def sure(self, topic: str, *, fresh: bool = False) -> Origin:
        """Return what the topic is; `fresh`: it is looked at now. Raises ReplacedLogError where it was another before.

        Raises NotFoundError.
        """
        met = self._met.get(topic)
        if fresh and met is not None:
            met = self._met[topic] = met._replace(looked_s=met.looked_s - LOOK_S)
        if met is None or time.monotonic() - met.looked_s >= LOOK_S:
            async with self._asking[topic]:
                met = self._met.get(topic)
                if met is None or time.monotonic() - met.looked_s >= LOOK_S:
                    met = self._met[topic] = await self._look(topic, met)
        if met.error is not None:
            raise met.error
        return met.now

    async def _look(self, topic: str, met: _Met | None) -> _Met:
        """Compare the topic with what it was. An error is looked into anew: somebody may have chosen meanwhile."""
        try:
            now = await self._ask(topic)
            known = [met.now] if met and met.error is None else []
            is_remembered = met is not None and met.is_remembered
            if not is_remembered:
                remembered, is_remembered = await self._remembered(topic, now)
                known += remembered
        except NotFoundError as error:
            if met is None:
                raise
            # It was there: somebody is at it just now, and it may come back.
            raise StorageError(error.what, where=error.where, remedy=error.remedy) from error
        except StorageError:
            if met is None:
                raise
            return met._replace(looked_s=time.monotonic())  # whoever reads or writes it reports that
        try:
            for was in known:
                check(topic, was, now)
        except ReplacedLogError as error:
            return _Met(now, time.monotonic(), is_remembered=False, error=error)
        return _Met(now, time.monotonic(), is_remembered, None)

    async def _remembered(self, topic: str, now: Origin) -> tuple[list[Origin], bool]:
        """What is remembered of the topic, and whether all who may remember have answered."""
        notes = list(await self._notes(topic))
        was_answered = True
        if self._recall is not None:
            try:
                notes.append(await self._recall(topic, noted(first_noted(notes) or now)))
            except StorageError:
                was_answered = False
        return [origin for note in notes if (origin := read_note(note)[0]) is not None], was_answered


class OriginWatch:
    """Looks, for one member, whether its topic is still the one it joined. Make it on the loop that polls it."""

    def __init__(self, topic: str, origins: Origins) -> None:
        """Look from now on."""
        self._topic = topic
        self._origins = origins
        self._found: ReplacedLogError | None = None
        self._refused: ReplacedLogError | None = None
        self._looking = asyncio.create_task(self._look())

    def refuse(self, error: ReplacedLogError) -> None:
        """The positions of the member's group are of another log; to be said again as long as they are."""
        self._refused = error

    def check(self) -> None:
        """Raise LeaseLostError where it is another log now, for what the member has in hand is of the old one.

        Raises ReplacedLogError once for each `refuse`.
        """
        refused, self._refused = self._refused, None
        if refused is not None:
            raise refused
        if self._found is not None:
            raise LeaseLostError(self._found.what, where=self._found.where, remedy=self._found.remedy)

    async def look(self) -> None:
        """Look now: partitions were given, which happens too when a topic is made again. Raises ReplacedLogError."""
        await self._origins.sure(self._topic, fresh=True)

    def close(self) -> None:
        """Look no more."""
        self._looking.cancel()

    async def _look(self) -> None:
        while self._found is None:
            await asyncio.sleep(LOOK_S)
            try:
                await self._origins.sure(self._topic)
            except ReplacedLogError as error:
                self._found = error
            except (StorageError, NotFoundError):
                continue  # away, or being made again: whoever polls hears of it
