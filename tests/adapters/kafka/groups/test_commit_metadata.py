"""Notes of commits: a note reads as it was written, also where the client reads more behind it."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, TopicPartition

from choreo.adapters.kafka.cluster.group_requests import noted_offsets, whole_note
from choreo.adapters.kafka.cluster.log_identity import NOTE_END, Origin, noted, read_note, written
from choreo.testing.conformance import TOPIC
from tests.adapters.kafka.conftest import OpenLog
from tests.support.cluster import cluster_of
from tests.support.required import needed

aiokafka = needed("aiokafka", "faust")

ORIGIN = Origin("AAAAAAAAAAAAAAAAAAAAAA", 8)
PARTITIONS = 60


@pytest.mark.parametrize("behind", ["", "Q", "\x01", "|another/9", f"|another/9{NOTE_END}"])
def test_what_stands_behind_a_note_is_no_part_of_it(behind: str) -> None:
    """Its mark ends it."""
    note = noted(ORIGIN, "a memory's name")
    assert whole_note(note + behind) == note
    assert read_note(note + behind) == (ORIGIN, "a memory's name")


async def test_notes_of_every_length_come_back_as_they_were(kafka: str, open_log: OpenLog) -> None:
    """Those that a service's client writes itself."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    topic = log.options.name(TOPIC)
    notes = [noted(ORIGIN, "n" * length) for length in range(PARTITIONS)]
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": topic, "enable.auto.commit": False})
    try:
        places = [TopicPartition(topic, number, 7, note) for number, note in enumerate(notes)]
        consumer.commit(offsets=places, asynchronous=False)
        asked = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        found = noted_offsets(consumer, asked, 10)
        assert [(each.partition, each.offset, each.note) for each in found] == [
            (number, 7, note) for number, note in enumerate(notes)
        ]
    finally:
        consumer.close()


async def test_notes_that_go_through_the_trackers_client_come_back_as_they_were(kafka: str, open_log: OpenLog) -> None:
    """It sends no final zero: without one of ours, something else in memory is read behind most of them."""
    log = open_log()
    await log.create(TOPIC, PARTITIONS)
    topic = log.options.name(TOPIC)
    notes = [noted(ORIGIN, "n" * length) for length in range(PARTITIONS)]
    client = aiokafka.AIOKafkaConsumer(bootstrap_servers=kafka, group_id=topic, enable_auto_commit=False)
    await client.start()
    try:
        places = [aiokafka.TopicPartition(topic, number) for number in range(PARTITIONS)]
        client.assign(places)
        sent = [aiokafka.structs.OffsetAndMetadata(7, written(note)) for note in notes]
        await client.commit(dict(zip(places, sent, strict=True)))
    finally:
        await client.stop()
    for _ in range(10):
        commits = await cluster_of(log).commits(TOPIC, TOPIC)
        assert [commits[number].note for number in range(PARTITIONS)] == notes
