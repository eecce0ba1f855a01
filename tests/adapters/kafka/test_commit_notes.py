"""Notes of commits: what was written comes back, whatever the client reads behind it."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, TopicPartition

from choreo.adapters.kafka.commit_notes import noted_offsets, whole_note
from choreo.adapters.kafka.origin import NOTE_END, Origin, noted, read_note
from choreo.testing.conformance import TOPIC
from tests.adapters.kafka.conftest import OpenLog

ORIGIN = Origin("AAAAAAAAAAAAAAAAAAAAAA", 8)
PARTITIONS = 60


@pytest.mark.parametrize("behind", ["", "Q", "\x01", "|another/9", f"|another/9{NOTE_END}"])
def test_what_stands_behind_a_note_is_no_part_of_it(behind: str) -> None:
    """Its mark ends it."""
    note = noted(ORIGIN, "a memory's name")
    assert whole_note(note + behind) == note
    assert read_note(note + behind) == (ORIGIN, "a memory's name")


async def test_notes_of_every_length_come_back_as_they_were(kafka: str, open_log: OpenLog) -> None:
    """Read again and again: each time the client copies them to another place."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    topic = log._options.name(TOPIC)
    notes = [noted(ORIGIN, "n" * length) for length in range(PARTITIONS)]
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": topic, "enable.auto.commit": False})
    try:
        places = [TopicPartition(topic, number, 7, note) for number, note in enumerate(notes)]
        consumer.commit(offsets=places, asynchronous=False)
        asked = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        for _ in range(50):
            found = noted_offsets(consumer, asked, 10)
            assert [(each.partition, each.offset, each.note) for each in found] == [
                (number, 7, note) for number, note in enumerate(notes)
            ]
    finally:
        consumer.close()
