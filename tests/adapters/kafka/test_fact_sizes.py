"""Every fact of choreo's own fits into the log, with any texts in its records."""

import asyncio
from typing import Any

import msgspec
import pytest
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from choreo.adapters.kafka import KafkaLog, KafkaOptions
from choreo.adapters.kafka.options import FACT_BYTES_MAX
from choreo.adapters.kafka.records import TEXT_BYTES_MAX, Headers, event_of, message_of
from choreo.core import facts
from choreo.core.baggage import BYTES_MAX
from choreo.core.errors import SettingsError
from choreo.core.events import Envelope, Record
from choreo.core.facts import UNREADABLE
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import KeyState
from choreo.testing.conformance import TOPIC, event
from tests.adapters.kafka.conftest import OpenLog
from tests.core.plain import STEPS, flow

LONGEST = "\u20ac" * (TEXT_BYTES_MAX // 3)
CARRIED: dict[str, Any] = {"traceparent": LONGEST, "tracestate": LONGEST, "baggage": "x" * BYTES_MAX}


def size(event: Envelope) -> int:
    """Return bytes of its key, value and headers, with Kafka's own bytes around each."""
    key, value, headers = message_of(event)
    return len(key) + len(value) + sum(len(name) + len(text or b"") + 10 for name, text in headers) + 100


@pytest.mark.parametrize(
    "reason", ["\u20ac" * 1_000_000, "\x01" * 1_000_000, LONGEST], ids=["many", "escaped", "longest"]
)
@pytest.mark.parametrize("fact", [facts.STEP_FAILED, facts.STEP_SKIPPED, facts.CANCEL_REQUESTED])
def test_what_follows_from_a_reason_of_any_length_is_bounded(fact: str, reason: str) -> None:
    """It stands in header and payload of the decision; the longest key, ids, trace and baggage beside it."""
    events = {"OrderCancelled": ("order_id", "reason")}
    table = FlowTable(flow(*STEPS, fails="OrderCancelled", events=events))
    start = Envelope(LONGEST, "OrderPlaced", LONGEST, TOPIC, source="choreo/publish", **CARRIED)
    about = Envelope(
        "f-1",
        fact,
        LONGEST,
        TOPIC,
        run=LONGEST,
        step=STEPS[0].name,
        causation=LONGEST,
        reason=reason,
        source="choreo/stock",
        **CARRIED,
    )
    state, said = KeyState(), []
    for offset, each in enumerate((start, about)):
        state, decisions = react(table, state, Record(TOPIC, 0, offset, 1_000 + offset, each))
        said += decisions
    for offset, each in enumerate(tuple(said), start=2):
        state, decisions = react(table, state, Record(TOPIC, 0, offset, 2_000, each))
        said += decisions
    assert said
    assert max(map(size, said)) <= FACT_BYTES_MAX


@pytest.mark.parametrize(
    ("headers", "key", "why"),
    [
        ([], b"k" * (TEXT_BYTES_MAX + 1), "its key has 4,097 bytes, 4,096 at most"),
        ([("ce_choreoreason", b"r" * 5_000)], b"o-1", "its header ce_choreoreason has 5,000 bytes"),
        ([("ce_id", b"i" * 5_000)], b"o-1", "its header ce_id has 5,000 bytes"),
        ([("ce_choreorun", b"i" * 5_000)], b"o-1", "its header ce_choreorun has 5,000 bytes"),
    ],
)
def test_a_record_with_a_text_that_no_fact_could_repeat_is_unreadable(headers: Headers, key: bytes, why: str) -> None:
    """It becomes a dead letter in tracker and services alike."""
    read = event_of([("ce_type", b"OrderPlaced"), *headers], key, b"{}", TOPIC)
    assert read.type == UNREADABLE
    assert why in read.reason


def test_a_trace_that_is_too_long_is_ignored() -> None:
    """Nobody's order waits for a header of a tracing library."""
    headers: Headers = [("ce_type", b"OrderPlaced"), ("traceparent", b"t" * 5_000), ("other", b"o" * 50_000)]
    headers += [("tracestate", b"t" * 5_000), ("baggage", b"t=" + b"a" * BYTES_MAX)]
    read = event_of(headers, b"k" * TEXT_BYTES_MAX, b"{}", TOPIC)
    assert (read.type, read.traceparent, read.tracestate, read.baggage) == ("OrderPlaced", "", "", "")


@pytest.mark.parametrize("name", ["traceparent", "tracestate", "baggage"])
def test_a_header_that_would_begin_another_one_is_ignored(name: str) -> None:
    """A handler may send it on in a call to another system."""
    for text in (b"a=b\r\nX-Role: admin", b"a=b\nc=d", b"a=b\x00", b"a=b\x7f"):
        assert getattr(event_of([("ce_type", b"T"), (name, text)], b"o-1", b"{}", TOPIC), name) == ""
    assert getattr(event_of([("ce_type", b"T"), (name, b"a=b,\tc=d")], b"o-1", b"{}", TOPIC), name) == "a=b,\tc=d"


def test_baggage_that_is_no_text_is_ignored() -> None:
    """The largest that is allowed is read."""
    headers: Headers = [("ce_type", b"OrderPlaced"), ("traceparent", b"\xff"), ("baggage", b"tenant=\xff")]
    read = event_of(headers, b"o-1", b"{}", TOPIC)
    assert (read.type, read.traceparent, read.baggage) == ("OrderPlaced", "", "")
    large = b"t=" + b"a" * (BYTES_MAX - 2)
    assert event_of([("ce_type", b"T"), ("baggage", large)], b"o-1", b"{}", TOPIC).baggage == large.decode()


async def test_facts_of_many_keys_go_into_a_topic_that_takes_small_batches_only(
    open_log: OpenLog, kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The client makes batches that the broker refuses, then smaller ones; all events stand there once."""
    log = open_log()
    await log.create(TOPIC, 1)
    await take_at_most(kafka, log, FACT_BYTES_MAX)
    events = [msgspec.structs.replace(event(f"e-{n}", key=f"o-{n}"), data=b"x" * 1_000) for n in range(1_000)]
    with caplog.at_level("INFO"):
        places = await log.append(TOPIC, events)
    assert "takes no batch of the usual size" in caplog.text
    assert sorted(place.offset for place in places) == list(range(1_000))
    read = await log.read(TOPIC, 0, 0, 2_000)
    assert {record.offset: record.event.id for record in read} == {
        place.offset: each.id for place, each in zip(places, events, strict=True)
    }


async def test_a_topic_into_which_not_every_fact_fits_is_refused(open_log: OpenLog, kafka: str) -> None:
    """With the remedy."""
    log = open_log()
    await log.create(TOPIC, 1)
    await take_at_most(kafka, log, FACT_BYTES_MAX - 1)
    with pytest.raises(SettingsError, match=r"its max.message.bytes is 65,535: a fact may have 65,536 bytes") as caught:
        await open_log().create(TOPIC, 1)
    assert "--add-config max.message.bytes=65536" in caught.value.remedy


def test_a_client_that_sends_less_than_a_fact_is_refused() -> None:
    """Before anything is begun."""
    with pytest.raises(SettingsError, match="a fact of choreo's own may have 65,536 bytes"):
        KafkaOptions.of("localhost:9092", {"message.max.bytes": "1000"}).producer()


async def take_at_most(kafka: str, log: KafkaLog, number: int) -> None:
    """Let the topic take batches of so many bytes."""
    entry = ConfigEntry("max.message.bytes", str(number), incremental_operation=AlterConfigOpType.SET)
    name = log.options.name(TOPIC)
    resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": kafka})
    await asyncio.to_thread(admin.incremental_alter_configs([resource])[resource].result, 20)
