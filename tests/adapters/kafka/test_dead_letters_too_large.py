"""Dead letters that do not fit, which keep position and digest of the bytes; and more of them than are read at once."""

import asyncio
import os

import msgspec
import pytest
from confluent_kafka import Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from choreo.adapters.kafka import KafkaLog
from choreo.adapters.kafka.dead_letters import COUNTED_MAX, PAGE, SUFFIX
from choreo.adapters.kafka.reader import Place, Readers
from choreo.core import facts
from choreo.core.errors import StorageError
from choreo.core.events import Record
from choreo.ports.dead_letters import DeadLetter
from choreo.testing.conformance import TOPIC, event
from tests.adapters.kafka.conftest import OpenLog
from tests.support.cluster import cluster_of

LARGE = 3_000_000


def written(log: KafkaLog, value: bytes, headers: list[tuple[str, str | bytes | None]], key: bytes = b"k") -> None:
    """Write as a foreign producer that may send more than others, for its records are compressed."""
    options = log.options
    config = {"bootstrap.servers": options.bootstrap, "message.max.bytes": 9_000_000, "compression.type": "gzip"}
    producer = Producer(config)
    producer.produce(options.name(TOPIC), value, key, headers=headers, partition=0)
    assert producer.flush(20) == 0


def dead_letter(record: Record, number: int = 1) -> DeadLetter:
    """Return the record set aside."""
    return DeadLetter(f"letter-{number}", TOPIC, 0, record.offset, "tracker", "", "cannot be read", 5, record)


async def the_record(log: KafkaLog) -> Record:
    """Return the first of the log."""
    return (await log.read(TOPIC, 0, 0, 1))[0]


@pytest.mark.parametrize(
    ("value", "headers", "key"),
    [
        (b"x" * 1_048_300, [], b"k"),
        (b"x" * LARGE, [], b"k"),
        (b"x" * LARGE, [("ce_type", b"OrderPlaced"), ("ce_id", b"i" * 5_000)], b"k"),
        (b"x", [("ce_type", b"OrderPlaced"), ("traceparent", b"t" * LARGE)], b"k"),
        (b"x", [("ce_type", b"T" * LARGE)], b"k"),
        (b"x", [("ce_type", b"OrderPlaced")], b"k" * LARGE),
        (b"x" * LARGE, [("ce_type", b"\xff" * 1_000_000)], b"\xff" * 1_000_000),
    ],
    ids=["at the limit", "compressed", "with headers", "a header", "a type", "a key", "nothing that can be read"],
)
async def test_a_letter_that_does_not_fit_is_kept_without_its_bytes(
    open_log: OpenLog, value: bytes, headers: list[tuple[str, str | bytes | None]], key: bytes
) -> None:
    """Any part of the record may be large. The bytes are shown from the log while it has them."""
    log = open_log()
    await log.create(TOPIC, 1)
    await asyncio.to_thread(written, log, value, headers, key)
    record = await the_record(log)
    await log.dead_letters.add([dead_letter(record)])
    fresh = open_log().dead_letters
    (listed,) = await fresh.list(TOPIC)
    assert (listed.id, listed.position, listed.service) == ("letter-1", dead_letter(record).position, "tracker")
    assert listed.cause.startswith("cannot be read")
    assert (await fresh.get("letter-1")).record == record


async def test_a_letter_without_its_bytes_is_shown_after_the_log_was_cut(open_log: OpenLog) -> None:
    """The rest of its dead letter stays."""
    log = open_log()
    await log.create(TOPIC, 1)
    await asyncio.to_thread(written, log, b"x" * LARGE, [])
    await log.dead_letters.add([dead_letter(await the_record(log))])
    options = log.options
    admin = AdminClient({"bootstrap.servers": options.bootstrap})
    place = TopicPartition(options.name(TOPIC), 0, 1)
    await asyncio.to_thread(admin.delete_records([place])[place].result)
    found = await open_log().dead_letters.get("letter-1")
    assert found.record.event.data == b""
    assert "3,000,000 bytes do not fit" in found.cause


async def test_large_letters_do_not_keep_others_from_being_kept(open_log: OpenLog) -> None:
    """One batch with small ones and large ones, whether client or broker refuses it."""
    log = open_log(message_max_bytes="9000000")
    await log.create(TOPIC, 1)
    await log.append(TOPIC, [event("small")])
    small = await the_record(log)
    large = Record(TOPIC, 0, 1, 1, msgspec.structs.replace(event("large"), data=os.urandom(LARGE)))
    await log.dead_letters.add(
        [dead_letter(small, 1), dead_letter(large, 2), dead_letter(small, 3), dead_letter(large, 4)]
    )
    kept = await open_log().dead_letters.list(TOPIC)
    assert sorted(each.id for each in kept) == ["letter-1", "letter-2", "letter-3", "letter-4"]


async def test_a_topic_that_takes_no_letter_at_all_says_so(open_log: OpenLog) -> None:
    """It is waited for, like one that is away."""
    log = open_log()
    await log.create(TOPIC, 1)
    await cluster_of(log).create_dead_letters(TOPIC + SUFFIX)
    options = log.options
    entry = ConfigEntry("max.message.bytes", "100", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, options.name(TOPIC + SUFFIX), incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": options.bootstrap})
    await asyncio.to_thread(admin.incremental_alter_configs([resource])[resource].result)
    record = Record(TOPIC, 0, 0, 1, event("k", type_=facts.UNREADABLE))
    with pytest.raises(StorageError, match=r"max\.message\.bytes"):
        await log.dead_letters.add([dead_letter(record)])


async def test_a_log_says_how_much_it_takes(open_log: OpenLog) -> None:
    """The lower of the producer's and the topic's limit, less the room for headers."""
    log = open_log()
    await log.create(TOPIC, 1)
    assert 990_000 < await log.bytes_max(TOPIC) < 1_000_000
    assert await open_log(message_max_bytes="9000000").bytes_max(TOPIC) < 1_048_588
    assert await open_log(message_max_bytes="200000").bytes_max(TOPIC) < 200_000


async def test_a_page_of_many_letters_reads_no_more_than_it_needs(
    open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A foreign program wrote garbage for a night: the newest are read from the end, and nothing of them is kept."""
    log = open_log()
    await log.create(TOPIC, 1)
    record = Record(TOPIC, 0, 0, 1, event("k"))
    number = 2 * COUNTED_MAX
    for first in range(0, number, 1_000):
        await log.dead_letters.add([dead_letter(record, first + place) for place in range(1_000)])
    await log.dead_letters.redriven(f"letter-{number - 2}")
    dead_letters = open_log().dead_letters
    read = counted_reads(monkeypatch)
    page = await dead_letters.list(TOPIC, 3)
    assert [(each.id, each.redriven) for each in page] == [
        (f"letter-{number - 1}", 0),
        (f"letter-{number - 2}", 1),
        (f"letter-{number - 3}", 0),
    ]
    assert await dead_letters.count(TOPIC) == number + 1, "of so many, every message is counted, by its offset"
    assert sum(read) <= PAGE
    assert [each.id for each in await dead_letters.list(TOPIC, 1, page[-1].id)] == [f"letter-{number - 4}"]
    assert (await dead_letters.get("letter-7")).id == "letter-7"


def counted_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many messages are read from now on, call by call."""
    numbers: list[int] = []
    read = Readers.read

    async def counting(readers: Readers, place: Place, limit: int) -> list[Message]:
        numbers.append(limit)
        return await read(readers, place, limit)

    monkeypatch.setattr(Readers, "read", counting)
    return numbers
