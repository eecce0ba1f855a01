"""A group's offsets with the notes of their commits.

confluent-kafka (2.16.0) reads a note as a text that ends at the first zero, and sends that zero with those it writes
itself. Behind a note that another client wrote without one it gives what lies there in memory, which may be no text.
So every note of ours ends with a mark, and those that go through another client with a zero too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from choreo.adapters.kafka.origin import NOTE_END
from choreo.adapters.kafka.trouble import sound


class NotedOffset(NamedTuple):
    """What a group has committed in a partition; an offset below 0 where nothing."""

    partition: int
    offset: int
    note: str


def noted_offsets(consumer: Consumer, places: Sequence[TopicPartition], timeout_s: float) -> list[NotedOffset]:
    """Return what the consumer's group has committed in these places; raises KafkaException."""
    found = sound(consumer.committed(list(places), timeout=timeout_s))
    return [NotedOffset(place.partition, place.offset, _note_of(place)) for place in found]


def whole_note(text: str) -> str:
    """Return the note at the beginning of a text, with its mark; all of it where it has none."""
    note, mark, _ = text.partition(NOTE_END)
    return note + mark


def _note_of(place: TopicPartition) -> str:
    try:
        return whole_note(place.metadata or "")
    except UnicodeDecodeError:
        return ""  # somebody else's: ours end before anything that is no text
