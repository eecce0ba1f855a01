"""Messages as events: ours, a foreign producer's, and garbage. None of it stops a reader."""

from typing import Any

import msgspec
import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, Message
from hypothesis import given
from hypothesis.strategies import SearchStrategy, binary, booleans, builds, characters, integers, text

from choreo.adapters.kafka.groups.fetch_buffer import FetchBuffer
from choreo.adapters.kafka.records import event_of, headers_of, message_of, record_of, type_of
from choreo.adapters.log_clock import LogTime, SeenEnd
from choreo.core.events import Envelope, Record, from_headers, to_headers
from choreo.core.facts import UNREADABLE
from choreo.testing.conformance import TOPIC, event

BROKERS, PRODUCERS = TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_CREATE_TIME
"""The clock behind a record's timestamp: the broker's or the producer's."""


def events() -> SearchStrategy[Envelope]:
    """Return envelopes with anything in each field."""
    values: dict[str, SearchStrategy[Any]] = {}
    for field in msgspec.structs.fields(Envelope):
        kind = str if field.default is msgspec.NODEFAULT else type(field.default)
        values[field.name] = {
            str: text(characters(codec="utf-8"), max_size=9),
            int: integers(-1, 2**45),
            bool: booleans(),
            bytes: binary(max_size=9),
        }[kind]
    values["type"] = text(characters(codec="utf-8"), min_size=1, max_size=9)
    values["time_ms"] = integers(0, 2**41)
    return builds(Envelope, **values)


def message(number: int, partition: int = 0, type_: str = "OrderPlaced", **fields: Any) -> Message:
    """Return a message as the client gives it."""
    key, value, headers = message_of(event(f"e-{partition}-{number}", type_=type_))
    given = {"key": key, "value": value, "headers": headers, "timestamp": (BROKERS, 1_000), **fields}
    return Message(topic="x", partition=partition, offset=number, **given)


def buffer(types: frozenset[str] | None = None) -> FetchBuffer:
    """Return a buffer for the partitions 0 and 1."""
    made = FetchBuffer(TOPIC, types, LogTime())
    for partition in (0, 1):
        made.add(partition)
    return made


def places(records: list[Record]) -> list[tuple[int, int]]:
    """Return where they stand."""
    return [(record.partition, record.offset) for record in records]


def test_an_event_is_read_as_it_was_written() -> None:
    """With the log's stamp, under the flow's own name."""
    found = message(3)
    assert record_of(found, found.headers(), TOPIC, 1_000) == Record(TOPIC, 0, 3, 1_000, event("e-0-3"))


@given(events())
def test_the_headers_are_those_of_the_core(given_event: Envelope) -> None:
    """Field by field, as bytes; and they are read as the core reads them."""
    headers = headers_of(given_event)
    texts = {name: value.decode() for name, value in headers}
    assert texts == to_headers(given_event)
    read = event_of(headers, given_event.key.encode(), given_event.data, "another")
    by_core = from_headers(texts, key=given_event.key, flow="another", data=given_event.data)
    assert msgspec.structs.replace(read, source=by_core.source) == by_core
    assert read.source in ("", given_event.source)


def test_a_foreign_producer_needs_a_key_and_a_type() -> None:
    """Everything else is left empty, and inferred where it is needed."""
    read = event_of([("ce_type", b"ShipmentPicked")], b"o-1", b'{"order_id": "o-1"}', TOPIC)
    assert read == Envelope("", "ShipmentPicked", "o-1", TOPIC, data=b'{"order_id": "o-1"}')


def test_headers_of_others_may_hold_anything() -> None:
    """They are not ours to read."""
    headers = [("ce_type", b"ShipmentPicked"), ("b3", b"\xff\xfe"), ("x", None), ("ce_other", b"\xff")]
    assert event_of(headers, b"o-1", b"{}", TOPIC).type == "ShipmentPicked"


def test_a_tombstone_is_an_event_without_data() -> None:
    """If it has a type; otherwise it is no event."""
    assert event_of([("ce_type", b"ShipmentPicked")], b"o-1", None, TOPIC).data == b""
    assert event_of([], b"o-1", None, TOPIC).type == UNREADABLE


@pytest.mark.parametrize(
    ("headers", "key", "why"),
    [
        ([], b"o-1", "it has no ce_type header"),
        ([("ce_type", b"\xff")], b"o-1", "utf-8"),
        ([("ce_type", b"OrderPlaced"), ("ce_choreoattempt", b"many")], b"o-1", "is no number"),
        ([("ce_type", b"OrderPlaced"), ("ce_choreoattempt", b"9" * 30)], b"o-1", "beyond"),
        ([("ce_type", b"OrderPlaced"), ("ce_choreoattempt", b"9" * 5_000)], b"o-1", "at most"),
        ([("ce_type", b"OrderPlaced"), ("ce_time", b"yesterday")], b"o-1", "isoformat"),
        ([("ce_type", b"OrderPlaced")], b"\xff", "utf-8"),
        ([("ce_type", None)], b"o-1", "it has no ce_type header"),
    ],
)
def test_what_cannot_be_read_says_why(headers: Any, key: bytes, why: str) -> None:
    """It is a record all the same, with its payload."""
    read = event_of(headers, key, b"payload", TOPIC)
    assert read.type == UNREADABLE
    assert why in read.reason
    assert read.data == b"payload"


def test_a_full_partition_does_not_keep_the_others_waiting() -> None:
    """Polls take from each in turn; in each, order is kept."""
    kept = buffer()
    for partition in (0, 1):
        kept.begin(partition, 0, 0)
    for number in range(10):
        kept.put(message(number))
    kept.put(message(0, 1))
    assert places(kept.take(4, ())) in ([(0, 0), (0, 1), (1, 0), (0, 2)], [(1, 0), (0, 0), (0, 1), (0, 2)])
    assert places(kept.take(99, ())) == [(0, number) for number in range(3, 10)]
    assert kept.moved() == {0: 10, 1: 1}
    assert kept.moved() == {}


def test_nothing_is_taken_before_it_is_known_where_to_begin() -> None:
    """Then from there: earlier records are skipped."""
    kept = buffer()
    for number in range(3):
        kept.put(message(number))
    assert kept.take(9, ()) == []
    kept.begin(0, 2, 3)
    assert places(kept.take(9, ())) == [(0, 2)]
    assert kept.caught_up()
    assert not kept.caught_up()


def test_other_types_move_the_reading_only() -> None:
    """They are not decoded, and take no room in a poll."""
    kept = buffer(frozenset({"StockReserved"}))
    kept.begin(0, 0, 3)
    for number, type_ in enumerate(["OrderPlaced", "StockReserved", "OrderPlaced"]):
        kept.put(message(number, type_=type_))
    kept.put(message(3, headers=[], key=b"\xff"))
    assert places(kept.take(1, ())) == [(0, 1)]
    assert kept.moved() == {0: 2}
    assert kept.take(1, ()) == []
    assert kept.moved() == {0: 4}


def test_a_paused_partition_waits_here() -> None:
    """And is there at once when it goes on; a lost one is forgotten."""
    kept = buffer()
    for partition in (0, 1):
        kept.begin(partition, 0, 0)
        kept.put(message(0, partition))
    assert places(kept.take(9, {0})) == [(1, 0)]
    assert kept.size((0, 1)) == 1
    assert places(kept.take(9, ())) == [(0, 0)]
    kept.put(message(1))
    kept.drop(0)
    assert kept.take(9, ()) == []
    kept.put(message(2))
    assert kept.take(9, ()) == []


async def test_a_record_with_its_producers_time_is_given_that_of_the_one_before_it() -> None:
    """Also of one that is of no interest; before the first, the log is asked for it, and nothing comes until then."""
    asked: list[tuple[int, int]] = []

    async def stamp(partition: int, offset: int) -> int:
        asked.append((partition, offset))
        return 500

    held = buffer(frozenset({"OrderPlaced"}))
    held.begin(0, 0, 4)
    held.put(message(0, timestamp=(PRODUCERS, 9_000)))
    held.put(message(1, type_="StockReserved", timestamp=(BROKERS, 2_000)))
    held.put(message(2, timestamp=(PRODUCERS, 1)))
    held.put(message(3, timestamp=(BROKERS, 3_000)))
    assert held.take(10, ()) == []
    await held.stamp_first(stamp)
    assert [(record.offset, record.stamp_ms) for record in held.take(10, ())] == [(0, 500), (2, 2_000), (3, 3_000)]
    await held.stamp_first(stamp)
    assert asked == [(0, 0)]


def test_a_cloudevent_in_structured_mode_is_read_as_one_in_binary_mode() -> None:
    """Also by a reader of some types only; any other record is unreadable, and stops nobody."""
    headers = [("content-type", b"application/cloudevents+json; charset=UTF-8"), ("other", b"\xff")]
    value = (
        b'{"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "ShipmentPicked", "data": {"order_id": "o-1"}}'
    )
    read = event_of(headers, b"o-1", value, TOPIC)
    assert read == Envelope(
        "e-1",
        "ShipmentPicked",
        "o-1",
        TOPIC,
        source="/shop",
        content_type="application/json",
        data=b'{"order_id": "o-1"}',
    )
    told = Message(topic="x", partition=0, offset=0, key=b"o-1", value=value, headers=headers)
    assert type_of(headers, told) == b"ShipmentPicked"
    for garbage in (b"{", b"[]", b'{"specversion": "1.0"}', None):
        assert event_of(headers, b"o-1", garbage, TOPIC).type == UNREADABLE


def test_a_record_behind_a_seen_end_bounds_the_logs_time() -> None:
    """It was appended after the request for the end. An earlier record gives no bound, however long it waited here."""
    elapsed_ms = 50_000
    log_time = LogTime(lambda: elapsed_ms)
    held = FetchBuffer(TOPIC, None, log_time)
    held.add(0)
    held.begin(0, 0, 3)
    log_time.ended(SeenEnd(TOPIC, 0, 1, 40_000))
    held.put(message(0, timestamp=(BROKERS, 7_000)))
    held.take(10, ())
    assert log_time.bounds() == (7_000, None)
    held.put(message(1, timestamp=(BROKERS, 9_000)))
    held.take(10, ())
    assert log_time.bounds() == (9_000, 19_000)
    assert log_time.end_of(TOPIC, 0) is None
