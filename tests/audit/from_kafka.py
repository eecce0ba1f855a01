"""Read the auditor's input from the Kafka backend as a foreign program: plain consumer, HTTP, plain Redis client.

Shares no code with choreo: headers are decoded here, by the words of CloudEvents and the names that the design gives.
"""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition
from redis import Redis

from tests.audit.reading import Fact

FLOW = "order"
PATIENCE_S = 30.0
PAGE = 200

_IDS = uuid.uuid5(uuid.NAMESPACE_URL, "https://choreo.dev/ids")
_TEXTS = {
    "run": "ce_choreorun",
    "step": "ce_choreostep",
    "causation": "ce_causationid",
    "entry": "ce_choreoentry",
    "trigger": "ce_choreotrigger",
    "reason": "ce_choreoreason",
}
_NUMBERS = {"round": "ce_choreoround", "outcome": "ce_choreooutcome", "due_ms": "ce_choreodue"}


def facts(bootstrap: str, topic: str) -> list[Fact]:
    """Return every record of the topic by partition and offset."""
    return [fact_of(message) for message in messages(bootstrap, topic)]


def fact_of(message: Message) -> Fact:
    """Convert a record; one without a type has the type "unreadable", one without an id its first position as id."""
    partition, offset = message.partition() or 0, message.offset() or 0
    headers = headers_of(message)
    id_, type_ = headers.get("ce_id", ""), headers.get("ce_type", "") or "unreadable"
    return Fact(
        partition=partition,
        offset=offset,
        stamp_ms=message.timestamp()[1],
        id=id_ or _placed(partition, offset),
        type=type_,
        key=_text(message.key()),
        certain=headers.get("ce_choreocertain") == "true",
        data=message.value() or b"",
        is_foreign=not id_,
        **{name: headers.get(header, "") for name, header in _TEXTS.items()},
        parent=tuple(json.loads(headers.get("ce_choreoparent", "[]"))),
        **{name: int(headers[header]) for name, header in _NUMBERS.items() if header in headers},
    )


def _placed(partition: int, offset: int) -> str:
    """Return the id of an event that has none: derived from its first position, and marked as a UUIDv8."""
    text = str(uuid.uuid5(_IDS, "\x1f".join(("foreign", FLOW, str(partition), str(offset)))))
    return f"{text[:14]}8{text[15:]}"


def dead_letters(bootstrap: str, topic: str) -> list[tuple[int, int, str, str]]:
    """Return (partition, offset, service, cause) of every dead letter, each once."""
    found: dict[str, tuple[int, int, str, str]] = {}
    for message in messages(bootstrap, topic):
        about = headers_of(message).get("choreo_dead_letter")
        if about:
            dead_letter = json.loads(about)
            place = dead_letter["partition"], dead_letter["offset"], dead_letter["service"], dead_letter["cause"]
            found.setdefault(dead_letter["id"], place)
    return list(found.values())


def shown(door: str, flow: str = FLOW) -> dict[str, str]:
    """Run → the status that the REST view at `door` shows."""
    statuses: dict[str, str] = {}
    cursor = ""
    while True:
        address = f"{door}/flows/{flow}/instances?limit={PAGE}&cursor={cursor}"
        with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:  # noqa: S310 - the test's own server
            page = json.load(answer)
        statuses |= {row["run"]: row["status"] for row in page["items"]}
        cursor = page["cursor"]
        if not cursor:
            return statuses


class Inboxes:
    """How many attempts the services' inboxes have counted. Entries expire: look before they do, and again."""

    def __init__(self, url: str, prefix: str) -> None:
        """Read keys that begin with `prefix`."""
        self._redis = Redis.from_url(url, decode_responses=False)
        self._prefix = prefix
        self._begun: dict[tuple[str, str], int] = {}

    def rows(self, places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, bool]]:
        """Return (trigger, step) → attempts begun, and whether an outcome is recorded; absent if unknown."""
        asked = list(places)
        with self._redis.pipeline(transaction=False) as pipeline:
            for trigger, step in asked:
                service = step.partition(".")[0]
                pipeline.hmget(f"{self._prefix}:inbox:{service}:row:{step}:{trigger}", "begun", "outcome")
            answers = pipeline.execute()
        known = {
            place: (int(begun or 0), outcome is not None)
            for place, (begun, outcome) in zip(asked, answers, strict=True)
            if begun is not None or outcome is not None
        }
        for place, (begun, _) in known.items():
            self._begun[place] = max(begun, self._begun.get(place, 0))
        return known

    def attempts(self, runs: Mapping[str, str]) -> list[tuple[str, str, str, int]]:
        """Return (run, trigger, step, attempts begun) of each row ever read; `runs`: trigger → run."""
        return [(runs.get(trigger, ""), trigger, step, begun) for (trigger, step), begun in self._begun.items()]


def messages(bootstrap: str, topic: str) -> Iterator[Message]:
    """Yield every message of the topic, partition by partition."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "auditor", "enable.auto.commit": False}
    # Read only from the assigned offsets: by default the client would wait at the end for new records. The
    # last entries of a partition may be markers of a transaction, which are no messages: the client reports the end.
    reading = {"auto.offset.reset": "error", "isolation.level": "read_committed", "enable.partition.eof": True}
    consumer = Consumer({**settings, **reading})
    try:
        partitions = consumer.list_topics(topic, timeout=PATIENCE_S).topics[topic].partitions
        for partition in sorted(partitions):
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=PATIENCE_S)
            yield from _from_start_to(end, TopicPartition(topic, partition, 0), consumer)
    finally:
        consumer.close()


def _from_start_to(end: int, place: TopicPartition, consumer: Consumer) -> Iterator[Message]:
    consumer.assign([place])
    until, why = time.monotonic() + PATIENCE_S, f"nothing came for {PATIENCE_S:g} s"
    while place.offset < end:
        message = consumer.poll(max(0.0, until - time.monotonic()))
        trouble = message.error() if message is not None else None
        if message is not None and trouble is None:
            place.offset = (message.offset() or 0) + 1
            yield message
            until = time.monotonic() + PATIENCE_S
            continue
        if message is not None and trouble is not None and trouble.name() == "_PARTITION_EOF":
            if (message.offset() or 0) >= end:
                return
            continue
        why = str(trouble) if trouble else why
        if time.monotonic() >= until:
            where = f"{place.topic}/{place.partition} ends at {end}"
            raise AssertionError(f"{where}, cannot be read beyond {place.offset}: {why}")
        consumer.assign([place])  # an error of the client is no answer yet


def headers_of(message: Message) -> dict[str, str]:
    """Return the headers as texts."""
    found: Any = message.headers() or ()
    return {name: _text(value) for name, value in found}


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
