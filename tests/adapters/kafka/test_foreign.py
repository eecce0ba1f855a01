"""Foreign programs on a topic: plain producers, transactions, other settings; choreo's records in a plain consumer."""

import asyncio
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from choreo.adapters.kafka import KafkaLog
from choreo.core.errors import NotFoundError, SettingsError
from choreo.core.facts import UNREADABLE
from choreo.core.partition import partition_of
from choreo.testing.conformance import TOPIC, event
from tests.adapters.kafka.conftest import OpenLog
from tests.support.patience import PATIENCE_S


def real_name(log: KafkaLog, topic: str = TOPIC) -> str:
    """Return the topic's name in the cluster."""
    return log.options.name(topic)


def produce(kafka: str, topic: str, *messages: dict[str, Any], **settings: Any) -> Producer:
    """Produce messages by a client that knows nothing of choreo."""
    producer = Producer({"bootstrap.servers": kafka, **settings})
    for message in messages:
        producer.produce(topic, **message)
    producer.flush(10)
    return producer


def make_topic(kafka: str, topic: str, **config: str) -> None:
    """Create a topic with the settings of a foreign program."""
    admin = AdminClient({"bootstrap.servers": kafka})
    wanted = NewTopic(topic, 1, 1, config={name.replace("_", "."): value for name, value in config.items()})
    admin.create_topics([wanted])[topic].result(PATIENCE_S)


async def test_a_record_of_a_plain_producer_is_read(kafka: str, open_log: OpenLog) -> None:
    """Key, `ce_type` and JSON are enough; a message with neither is a record all the same."""
    log = open_log()
    await log.create(TOPIC, 4)
    produce(
        kafka,
        real_name(log),
        {"key": "o-1", "value": b'{"order_id": "o-1"}', "headers": {"ce_type": "ShipmentPicked"}, "partition": 3},
        {"key": "o-1", "value": None, "partition": 3},
        {"value": b"\xff", "headers": {"ce_type": b"\xff"}, "partition": 3},
    )
    picked, tombstone, garbage = [record.event for record in await log.read(TOPIC, 3, 0, 10)]
    assert (picked.type, picked.key, picked.data) == ("ShipmentPicked", "o-1", b'{"order_id": "o-1"}')
    assert (tombstone.type, tombstone.key) == (UNREADABLE, "o-1")
    assert (garbage.type, garbage.key, garbage.data) == (UNREADABLE, "", b"\xff")


async def test_javas_rule_places_a_key(kafka: str, open_log: OpenLog) -> None:
    """A foreign producer with that rule and this log agree on every key."""
    log = open_log()
    await log.create(TOPIC, 7)
    keys = [f"o-{number}" for number in range(50)] + ["", "é", "订单"]
    positions = await log.append(TOPIC, [event("e", key=key) for key in keys if key])
    assert [position.partition for position in positions] == [partition_of(key, 7) for key in keys if key]
    produce(kafka, real_name(log), *({"key": key} for key in keys if key), partitioner="murmur2_random")
    for partition in range(7):
        for record in await log.read(TOPIC, partition, 0, 200):
            assert partition_of(record.event.key, 7) == partition


async def test_partitions_that_are_added_move_no_key_of_ours(kafka: str, open_log: OpenLog) -> None:
    """An event goes where its key's events are, also when the client has heard of the new count."""
    log = open_log(topic_metadata_refresh_interval_ms="100")
    await log.create(TOPIC, 4)
    events = [event(f"e-{number}", key=f"o-{number}") for number in range(50)]
    before = await log.append(TOPIC, events)
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_partitions([NewPartitions(real_name(log), 12)])[real_name(log)].result(PATIENCE_S)
    while len(admin.list_topics(real_name(log), timeout=10).topics[real_name(log)].partitions) < 12:
        pass  # the broker hears of it a moment later
    for _ in range(5):
        after = await log.append(TOPIC, events)
        assert [position.partition for position in after] == [position.partition for position in before]


async def test_our_records_are_cloudevents_to_others(kafka: str, open_log: OpenLog) -> None:
    """Binary mode: the attributes are headers, the value is the payload."""
    log = open_log()
    await log.create(TOPIC, 1)
    await log.append(TOPIC, [event("e-1")])
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "foreign", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(real_name(log), 0, 0)])
    (message,) = consumer.consume(1, 20)
    consumer.close()
    headers = dict(message.headers())
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_id"] == b"e-1"
    assert headers["ce_type"] == b"OrderPlaced"
    assert headers["ce_source"] == b"choreo/order"
    assert message.key() == b"o-1"


def transactional(kafka: str, name: str, **settings: Any) -> Producer:
    """Return a foreign producer with an open transaction, its first."""
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": name, **settings})
    producer.init_transactions(20)
    producer.begin_transaction()
    return producer


PICKED: dict[str, Any] = {"key": "o-1", "value": b"{}", "headers": {"ce_type": "ShipmentPicked"}, "partition": 0}


async def test_a_record_of_an_aborted_transaction_never_happened(kafka: str, open_log: OpenLog) -> None:
    """Neither a read at offsets nor a consumer returns it; both go past it."""
    log = open_log()
    await log.create(TOPIC, 1)
    producer = transactional(kafka, real_name(log))
    producer.produce(real_name(log), **PICKED)
    producer.flush(10)
    producer.abort_transaction(20)
    while await log.stable_end(TOPIC, 0) < 2:
        pass  # the marker is written after the producer has its answer
    await log.append(TOPIC, [event("e-1")])
    assert [record.offset for record in await log.read(TOPIC, 0, 0, 10)] == [2]
    consumer = await log.consumer(TOPIC, "payment", "a")
    records, read = [], 0
    async with asyncio.timeout(PATIENCE_S):
        while read < 3:
            poll = await consumer.poll(10, 0.2)
            records += poll.records
            read = poll.read.get(0, read)
    assert [record.event.id for record in records] == ["e-1"]
    await consumer.close()


async def test_an_open_transaction_holds_back_what_stands_behind_it(kafka: str, open_log: OpenLog) -> None:
    """A partition that is given then ends where its records end: later records are read first, and come after it."""
    log = open_log(still_s=0.5)
    await log.create(TOPIC, 1)
    await log.append(TOPIC, [event("e-1")])
    producer = transactional(kafka, real_name(log))
    producer.produce(real_name(log), **PICKED)
    producer.flush(10)
    await log.append(TOPIC, [event("e-2")])
    assert (await log.stable_end(TOPIC, 0), await log.end(TOPIC, 0)) == (1, 3)
    assert [record.event.id for record in await log.read(TOPIC, 0, 0, 10)] == ["e-1"]
    consumer = await log.consumer(TOPIC, "payment", "a")
    records: list[str] = []
    assigned, polls = [], 0
    async with asyncio.timeout(PATIENCE_S):
        while polls < 10:  # longer than a consumer without records is kept
            poll = await consumer.poll(10, 0.2)
            records += [record.event.id for record in poll.records]
            assigned += poll.assigned
            polls += bool(records)
    assert (records, [one.end for one in assigned]) == (["e-1"], [3])
    producer.commit_transaction(20)
    async with asyncio.timeout(PATIENCE_S):
        while len(records) < 3:
            records += [record.event.id for record in (await consumer.poll(10, 0.2)).records]
    assert records[2] == "e-2"
    await consumer.close()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_a_compressed_record_is_read(kafka: str, open_log: OpenLog, codec: str) -> None:
    """With any codec of a foreign producer, and of ours where it is set to one."""
    log = open_log(compression_type=codec)
    await log.create(TOPIC, 1)
    many = [PICKED | {"value": b'{"order_id": "o-1"}' * 100} for _ in range(20)]
    produce(kafka, real_name(log), *many, **{"compression.type": codec, "linger.ms": 50})
    await log.append(TOPIC, [event(f"e-{number}") for number in range(20)])
    records = await log.read(TOPIC, 0, 0, 100)
    assert [record.event.data for record in records[:20]] == [each["value"] for each in many]
    assert [record.event.id for record in records[20:]] == [f"e-{number}" for number in range(20)]
    consumer = await log.consumer(TOPIC, "payment", "a")
    found = 0
    async with asyncio.timeout(PATIENCE_S):
        while found < 40:
            found += len((await consumer.poll(100, 0.2)).records)
    await consumer.close()


async def test_a_foreign_transaction_leaves_no_gap_in_what_is_read(kafka: str, open_log: OpenLog) -> None:
    """Its markers are no records; reading goes past them, and reports that, also at the log's end."""
    log = open_log()
    await log.create(TOPIC, 1)
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": real_name(log)})
    producer.init_transactions(20)
    for _ in range(2):
        producer.begin_transaction()
        producer.produce(real_name(log), b"{}", "o-1", headers={"ce_type": "ShipmentPicked"})
        producer.commit_transaction(20)
    while await log.end(TOPIC, 0) < 4:
        pass  # the last marker is written after the producer has its answer
    assert [record.offset for record in await log.read(TOPIC, 0, 0, 10)] == [0, 2]
    assert await log.read(TOPIC, 0, 3, 10) == []
    consumer = await log.consumer(TOPIC, "payment", "a")
    read, records = 0, 0
    async with asyncio.timeout(PATIENCE_S):
        while read < 4:
            poll = await consumer.poll(10, 0.2)
            records += len(poll.records)
            read = poll.read.get(0, read)
    assert records == 2
    await consumer.close()


async def test_a_topic_with_its_producers_time_is_refused(kafka: str, open_log: OpenLog) -> None:
    """A fold over it would not be the same twice. So is one that is compacted."""
    log = open_log()
    make_topic(kafka, real_name(log, "created"), message_timestamp_type="CreateTime")
    with pytest.raises(SettingsError, match=r"message\.timestamp\.type is CreateTime.*kafka-configs\.sh"):
        await log.create("created", 1)
    make_topic(kafka, real_name(log, "compact"), message_timestamp_type="LogAppendTime", cleanup_policy="compact")
    with pytest.raises(SettingsError, match=r"cleanup\.policy is compact"):
        await log.create("compact", 1)
    make_topic(kafka, real_name(log, "small"), message_timestamp_type="LogAppendTime", retention_bytes="1000000")
    with pytest.raises(SettingsError, match=r"retention\.bytes is 1000000"):
        await log.kept_ms("small")


async def test_a_topic_nobody_made_is_not_made_by_asking(open_log: OpenLog) -> None:
    """Neither by reading nor by appending."""
    log = open_log()
    for _ in range(2):
        with pytest.raises(NotFoundError, match="no such topic"):
            await log.append("nowhere", [event("e-1")])
        with pytest.raises(NotFoundError, match="no such topic"):
            await log.read("nowhere", 0, 0, 1)


async def test_what_retention_has_taken_is_passed_over(kafka: str, open_log: OpenLog) -> None:
    """Reading begins with the first existing record, and so does a consumer without a position."""
    log = open_log()
    await log.create(TOPIC, 1)
    await log.append(TOPIC, [event(f"e-{number}") for number in range(5)])
    admin = AdminClient({"bootstrap.servers": kafka})
    place = TopicPartition(real_name(log), 0, 3)
    admin.delete_records([place])[place].result(PATIENCE_S)
    assert [record.offset for record in await log.read(TOPIC, 0, 0, 10)] == [3, 4]
    assert await log.read(TOPIC, 0, 9, 10) == []
    consumer = await log.consumer(TOPIC, "payment", "a")
    async with asyncio.timeout(PATIENCE_S):
        while not (assigned := (await consumer.poll(10, 0.2)).assigned):
            pass
    assert (assigned[0].committed, assigned[0].end) == (3, 5)
    await consumer.close()
