"""The raw baselines on Kafka: what batching with the plain client gives, with nothing of choreo around it.

`chain`: the order saga as four processes, a topic of each type of event, JSON; no ids, no inbox, no ledger, no tracker,
no read model. `step`: one step that decodes, validates, encodes and commits as choreo's host does: the same codec, the
same event classes, headers of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from bench.figures import percentile
from bench.kafka_harness import PARTITIONS, Harness
from bench.raw import STEPS
from bench.saga import OrderPlaced, StockReserved, declined
from choreo.adapters.avro.codec import AvroCodec

BATCH = 500
WAIT_S = 0.02
UNDER_WAY_MAX = 200_000
"""Messages a producer is given ahead of their acknowledgement: some 200 MB."""
TYPES = ("OrderPlaced", "StockReserved", "StockReleased", "PaymentCharged", "PaymentDeclined", "ShipmentCreated")
ENDS = ("OrderConfirmed", "StockReleased")
SERVICES = {
    "inventory": ("OrderPlaced", "PaymentDeclined"),
    "payment": ("StockReserved",),
    "shipping": ("PaymentCharged",),
    "notification": ("ShipmentCreated",),
}
STEP_IN, STEP_OUT = "step-in", "step-out"
READY = "ready"
"""The line that a role alone prints when it has handled records."""
PATIENCE_S = 60.0
ORDERS_A_SECOND = 10
WARM_UP = 2_000
"""Events of a role alone before the measured ones: twice so many."""

Handle = Callable[[Message], tuple[str, bytes, Any]]
"""A message's answer: topic, value, headers."""


def serve(group: str, topics: list[str], handle: Handle, heard: Callable[[int], None] = lambda _: None) -> None:
    """Poll, handle, flush, commit, a batch at a time, until SIGTERM; `heard` receives how many were done."""
    bootstrap, prefix = os.environ["CHOREO_KAFKA"], os.environ["CHOREO_KAFKA_TOPIC_PREFIX"]
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{prefix}{group}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 10,
        }
    )
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2, "acks": "all", "enable.idempotence": True})
    consumer.subscribe([prefix + topic for topic in topics])
    running = [True]
    signal.signal(signal.SIGTERM, lambda *_: running.clear())
    while running:
        messages = consumer.consume(1, WAIT_S)
        if not messages:
            continue
        messages += consumer.consume(BATCH - 1, 0)
        done: dict[tuple[str, int], int] = {}
        for message in messages:
            if message.error() is None:
                topic, value, headers = handle(message)
                producer.produce(prefix + topic, value, message.key(), headers=headers)
                done[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1
        producer.flush()
        consumer.commit(offsets=[TopicPartition(*place, offset) for place, offset in done.items()], asynchronous=False)
        heard(len(messages))
    consumer.close()


def chain(service: str) -> None:
    """One service of the saga."""
    prefix = os.environ["CHOREO_KAFKA_TOPIC_PREFIX"]

    def handle(message: Message) -> tuple[str, bytes, Any]:
        type_ = (message.topic() or "").removeprefix(prefix)
        outcome, fields = STEPS[type_](json.loads(message.value() or b""))
        return outcome, json.dumps(fields).encode(), None

    serve(service, list(SERVICES[service]), handle)


def step(events: int) -> None:
    """The step that reserves stock; measures itself as bench.kafka_alone does."""
    handled, marks = 0, []

    def heard(number: int) -> None:
        nonlocal handled
        handled += number
        if handled == number:
            print(READY, flush=True)
        if len(marks) < 2 and handled >= (2 * WARM_UP, 2 * WARM_UP + events)[len(marks)]:
            marks.append((handled, time.perf_counter(), time.process_time()))
            if len(marks) == 2:
                done, wall_s, used_s = (after - before for before, after in zip(*marks, strict=True))
                print(json.dumps({"events_s": done / wall_s, "cpu_us": used_s / done * 1e6}), flush=True)

    codec = AvroCodec()

    def handle(message: Message) -> tuple[str, bytes, Any]:
        headers = dict(message.headers() or ())
        event = codec.decode(OrderPlaced, headers["content-type"].decode(), message.value() or b"")
        made = StockReserved(order_id=event.order_id, amount=event.amount, declined=event.declined)
        said = [
            ("ce_id", uuid.uuid4().hex.encode()),
            ("ce_type", StockReserved.event_type.encode()),
            ("content-type", codec.content_type.encode()),
        ]
        return STEP_OUT, codec.encode(made), said

    serve("step", [STEP_IN], handle, heard)


class Sink:
    """Counts what comes into topics, from now on."""

    def __init__(self, harness: Harness, topics: list[str]) -> None:
        self._consumer = Consumer(
            {
                "bootstrap.servers": harness.bootstrap,
                "group.id": uuid.uuid4().hex,
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
                "fetch.queue.backoff.ms": 10,
            }
        )
        places = [TopicPartition(topic, partition, 0) for topic in topics for partition in range(PARTITIONS)]
        self._consumer.assign(places)

    def await_(self, number: int) -> None:
        """Until so many messages have come."""
        until, seen = time.monotonic() + PATIENCE_S, 0
        while seen < number:
            seen += sum(message.error() is None for message in self._consumer.consume(BATCH, WAIT_S))
            if time.monotonic() > until:
                sys.exit(f"the bare loop brought {seen} of {number} messages within {PATIENCE_S:g} s")

    def keys(self, wait_s: float) -> list[str]:
        """Of what has come, waiting for the first."""
        messages = self._consumer.consume(1, wait_s)
        return [(message.key() or b"").decode() for message in messages if message.error() is None]

    def close(self) -> None:
        """Let go."""
        self._consumer.close()


def make_topics(harness: Harness, names: list[str]) -> None:
    """Topics of the bare loops."""
    admin = AdminClient({"bootstrap.servers": harness.bootstrap})
    made = admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
    for future in made.values():
        future.result()


def pour(harness: Harness, topic: str, messages: Iterator[tuple[bytes, bytes, Any]]) -> None:
    """Produce key, value and headers as fast as the client takes them."""
    settings = {"linger.ms": 2, "queue.buffering.max.messages": 1_000_000, "partitioner": "murmur2_random"}
    producer = Producer({"bootstrap.servers": harness.bootstrap, **settings})
    for key, value, headers in messages:
        # Room for more comes only as what is under way is acknowledged, and reported.
        while len(producer) >= UNDER_WAY_MAX:
            producer.poll(WAIT_S)
        producer.produce(topic, value, key, headers=headers)
    producer.flush()


def chain_figures(harness: Harness, orders: int, slow_orders: int, warm_up: int = 100) -> dict[str, float]:
    """Orders a second from the first one placed until the last one's end is read; then milliseconds of one at 10/s."""
    prefix = harness.own("raw")
    make_topics(harness, [prefix + type_ for type_ in {*TYPES, *ENDS}])
    commands = {name: ("-m", "bench.kafka_raw", "chain", name) for name in SERVICES}
    with harness.running(prefix, commands):
        sink = Sink(harness, [prefix + type_ for type_ in ENDS])
        pour(harness, f"{prefix}OrderPlaced", _orders(warm_up, "warm"))
        sink.await_(warm_up)
        begun = time.perf_counter()
        pour(harness, f"{prefix}OrderPlaced", _orders(orders, "o"))
        sink.await_(orders)
        took_s = time.perf_counter() - begun
        taken = _slowly(harness, f"{prefix}OrderPlaced", sink, slow_orders)
        sink.close()
    return {"orders_s": orders / took_s, **{f"p{p}_ms": percentile(taken, p) for p in (50, 99)}}


def _slowly(harness: Harness, topic: str, sink: Sink, orders: int) -> list[float]:
    """Milliseconds of each order from handing it to the client until its end is read."""
    # As the door of choreo does: nobody is waited for, so nothing lingers for company.
    producer = Producer({"bootstrap.servers": harness.bootstrap, "linger.ms": 0, "partitioner": "murmur2_random"})
    coming, placed, taken = list(_orders(orders, "slow")), dict[str, float](), list[float]()
    begun = time.perf_counter()
    until = begun + orders / ORDERS_A_SECOND + PATIENCE_S
    while len(taken) < orders:
        now = time.perf_counter()
        if coming and now >= begun + len(placed) / ORDERS_A_SECOND:
            key, value, headers = coming.pop(0)
            placed[key.decode()] = now
            producer.produce(topic, value, key, headers=headers)
            producer.poll(0)
        taken += [(time.perf_counter() - placed[key]) * 1_000 for key in sink.keys(0.001)]
        if now > until:
            sys.exit(f"the bare loop brought {len(taken)} of {orders} orders to their end within {until - begun:g} s")
    return taken


def _orders(number: int, prefix: str) -> Iterator[tuple[bytes, bytes, Any]]:
    for place in range(number):
        key = f"{prefix}-{place}"
        order = {"order_id": key, "amount": 100 + place, "declined": declined(place)}
        yield key.encode(), json.dumps(order).encode(), None


if __name__ == "__main__":
    if sys.argv[1] == "chain":
        chain(sys.argv[2])
    else:
        step(int(sys.argv[2]))
