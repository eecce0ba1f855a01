"""Asks how far a group has come, or moves it while nobody is in it, as a consumer that never joins it.

An admin client could be asked, but its process ends with a segmentation fault where the group's coordinator has moved
or is still loading, as after every start of a broker: librdkafka (2.16.0, its issue 5040) then goes by a membership
that an admin client does not have.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaException, TopicPartition

from choreo.adapters.kafka.commit_notes import NotedOffset, noted_offsets
from choreo.adapters.kafka.options import KafkaOptions
from choreo.adapters.kafka.trouble import COORDINATOR_MOVES, MEMBERSHIP_GONE, cause_of, sound
from choreo.core.errors import ConflictError

AGAIN_S = 0.2
"""Between questions, while a coordinator moves or loads: seconds in all."""


async def committed(options: KafkaOptions, group: str, places: Sequence[TopicPartition]) -> list[NotedOffset]:
    """What the group has committed in these places; an offset below 0 where nothing. Raises KafkaException.

    A consumer for each question: it takes 50 ms, and one that is kept and not polled never hears of a new coordinator.
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
    """Commit these places for a group that nobody is in; raises ConflictError where somebody is, KafkaException."""
    try:
        await asyncio.to_thread(_move, options, group, list(places))
    except KafkaException as error:
        inner = cause_of(error)
        if inner is None or inner.code() not in MEMBERSHIP_GONE:
            raise
        raise ConflictError(
            "somebody is working in it", where=f"group {group!r}", remedy="Stop every role of the flow first."
        ) from error


def _move(options: KafkaOptions, group: str, places: list[TopicPartition]) -> None:
    consumer = Consumer(options.onlooker(group))
    try:
        sound(consumer.commit(offsets=places, asynchronous=False) or [])
    finally:
        consumer.close()


def _ask(options: KafkaOptions, group: str, places: list[TopicPartition]) -> list[NotedOffset]:
    consumer = Consumer(options.onlooker(group))
    try:
        return noted_offsets(consumer, places, options.request_s)
    finally:
        consumer.close()
