"""Requests about a consumer group without joining it: its members, its offsets with their notes, a move of them.

The coordinator describes the members to an admin client. Offsets go through a consumer, for an
admin client's process ends with a segmentation fault where the group's coordinator has moved or is still loading, as
after every start of a broker: librdkafka (2.16.0, its issue 5040) then uses a membership that an admin client does not
have. confluent-kafka (2.16.0) reads a note as a text that ends at the first zero, and sends that zero with those it
writes itself. Behind a note without one it returns random bytes of memory. So every note of choreo ends with a
mark, and those that go through another client with a zero too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from choreo.adapters.kafka.cluster.log_identity import NOTE_END
from choreo.adapters.kafka.errors import COORDINATOR_MOVES, MEMBERSHIP_GONE, cause_of, sound
from choreo.adapters.kafka.options import KafkaOptions
from choreo.core.errors import ChoreoError, ConflictError
from choreo.ports.log import GroupMember

AGAIN_S = 0.2
"""Between attempts, while a coordinator moves or loads: seconds in all."""


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


def describe(admin: AdminClient, timeout_s: float, group: str) -> Any:
    """Ask for the description of one group; return its future by the group's name in the cluster."""
    return admin.describe_consumer_groups([group], request_timeout=timeout_s)


def members_of(description: Any, topic: str) -> list[GroupMember]:
    """Return the members that own partitions of the topic, and those that own nothing, by name.

    A service has one group for the topics of all its flows: a member that owns partitions of other topics only is left
    out. `topic` is the name in the cluster.
    """
    return sorted(_members(description, topic), key=lambda member: (member.name, member.partitions))


def _members(description: Any, topic: str) -> Iterator[GroupMember]:
    for member in description.members:
        owned = member.assignment.topic_partitions
        of_topic = tuple(sorted(place.partition for place in owned if place.topic == topic))
        if of_topic or not owned:
            name, host = member.group_instance_id or member.client_id, member.host.lstrip("/")
            yield GroupMember(name, host, of_topic, member.member_id, member.client_id)


def is_unknown(error: ChoreoError) -> bool:
    """Return whether the cluster answered that there is no such group."""
    inner = cause_of(error.__cause__)
    return inner is not None and inner.code() == KafkaError.GROUP_ID_NOT_FOUND
