"""Read a group's offsets with the notes of their commits, or move them, as a consumer that never joins the group.

An admin client's process ends with a segmentation fault where the group's coordinator has moved or is still loading, as
after every start of a broker: librdkafka (2.16.0, its issue 5040) then uses a membership that an admin client does not
have. confluent-kafka (2.16.0) reads a note as a text that ends at the first zero, and sends that zero with those it
writes itself. Behind a note without one it returns random bytes of memory. So every note of choreo ends with a
mark, and those that go through another client with a zero too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from choreo.adapters.kafka.cluster.log_identity import NOTE_END
from choreo.adapters.kafka.errors import COORDINATOR_MOVES, MEMBERSHIP_GONE, cause_of, sound
from choreo.adapters.kafka.options import KafkaOptions
from choreo.core.errors import ConflictError


class NotedOffset(NamedTuple):
    """A group's committed offset and note in a partition; an offset below 0 where there is none."""

    partition: int
    offset: int
    note: str


def noted_offsets(consumer: Consumer, places: Sequence[TopicPartition], timeout_s: float) -> list[NotedOffset]:
    """Return the committed offsets of the consumer's group in these places; raises KafkaException."""
    found = sound(consumer.committed(list(places), timeout=timeout_s))
    return [NotedOffset(place.partition, place.offset, _note_of(place)) for place in found]


def whole_note(text: str) -> str:
    """Return the note at the beginning of a text, with its mark; the whole text where it has no mark."""
    note, mark, _ = text.partition(NOTE_END)
    return note + mark


def _note_of(place: TopicPartition) -> str:
    try:
        return whole_note(place.metadata or "")
    except UnicodeDecodeError:
        return ""  # a foreign note: ours end before any byte that is no text


AGAIN_S = 0.2
"""Between attempts, while a coordinator moves or loads: seconds in all."""


async def committed(options: KafkaOptions, group: str, places: Sequence[TopicPartition]) -> list[NotedOffset]:
    """Return the group's committed offsets in these places; below 0 where there is none.

    Raises KafkaException.

    Each call makes a consumer, which takes 50 ms: a kept one that is not polled never learns of a new coordinator.
    """
    until = time.monotonic() + options.request_s
    while True:
        try:
            return await asyncio.to_thread(_ask, options, group, list(places))
        except KafkaException as error:
            inner = cause_of(error)
            if inner is None or inner.code() not in COORDINATOR_MOVES or time.monotonic() > until:
                raise
        await asyncio.sleep(AGAIN_S)


async def move(options: KafkaOptions, group: str, places: Sequence[TopicPartition]) -> None:
    """Commit these places for an empty group; raises ConflictError where the group has members, KafkaException."""
    try:
        await asyncio.to_thread(_move, options, group, list(places))
    except KafkaException as error:
        inner = cause_of(error)
        if inner is None or inner.code() not in MEMBERSHIP_GONE:
            raise
        raise ConflictError(
            "the group has members", where=f"group {group!r}", remedy="Stop every role of the flow first."
        ) from error


def _move(options: KafkaOptions, group: str, places: list[TopicPartition]) -> None:
    consumer = Consumer(options.outsider(group))
    try:
        sound(consumer.commit(offsets=places, asynchronous=False) or [])
    finally:
        consumer.close()


def _ask(options: KafkaOptions, group: str, places: list[TopicPartition]) -> list[NotedOffset]:
    consumer = Consumer(options.outsider(group))
    try:
        return noted_offsets(consumer, places, options.request_s)
    finally:
        consumer.close()
