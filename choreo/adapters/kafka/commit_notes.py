"""A group's offsets with the notes of their commits, free of what the client reads beyond a note's end.

librdkafka copies a note without a final zero, and confluent-kafka (2.16.0) takes it for a text that ends at the next
one: what lies behind it in memory is given too, or is no text. So every note of ours ends with a mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from choreo.adapters.kafka.origin import NOTE_END
from choreo.adapters.kafka.trouble import TIMED_OUT, sound

TRIES = 30
"""Each is another copy, behind which something else lies: mostly zeros."""

TRIES_WITHOUT_MARK = 3
"""A note without a mark is somebody else's, or one that was spoilt on its way."""


class NotedOffset(NamedTuple):
    """What a group has committed in a partition; an offset below 0 where nothing."""

    partition: int
    offset: int
    note: str


def noted_offsets(consumer: Consumer, places: Sequence[TopicPartition], timeout_s: float) -> list[NotedOffset]:
    """Return what the consumer's group has committed in these places; raises KafkaException."""
    for number in range(TRIES):
        found = sound(consumer.committed(list(places), timeout=timeout_s))
        with suppress(UnicodeDecodeError):
            noted = [NotedOffset(place.partition, place.offset, whole_note(place.metadata or "")) for place in found]
            is_whole = all(NOTE_END in each.note or not each.note for each in noted)
            if is_whole or number >= TRIES_WITHOUT_MARK:
                return noted
    raise KafkaException(KafkaError(TIMED_OUT, f"the notes of commits were no text, {TRIES} times"))


def whole_note(text: str) -> str:
    """Return the note at the beginning of a text, with its mark; all of it where it has none."""
    note, mark, _ = text.partition(NOTE_END)
    return note + mark
