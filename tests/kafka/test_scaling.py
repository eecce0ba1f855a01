"""A service goes from one worker to three and back while a plain foreign producer writes: nothing is lost or doubled.

The real processes on a real broker and a real Redis. CHOREO_SCALING_ORDERS asks for more orders; a page of
docs/speed.md has the time of 20,000.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence

from confluent_kafka import Producer

from choreo import Event
from schemas.orders import ShipmentPicked
from services import audit
from services.demo import Demo, Placed
from tests.kafka.conftest import Servers
from tests.kafka.harness import FLOW, Harness, shared

ORDERS = int(os.environ.get("CHOREO_SCALING_ORDERS", "900"))
KINDS = {"all well", "card declined", "out of stock", "no delivery there"}
"""Orders that need no time of their own, some of which are undone."""
PATIENCE_S = 60 + ORDERS / 50
"""At the least fifty orders a second, on a machine that does other things too."""
AT_ONCE = 200
"""Orders that the foreign producer hands to its client before others get their turn."""

Recorded = Callable[[str, object], None]


class Foreign:
    """A producer that knows key, type, JSON and Java's partitioner, and nothing of choreo."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "acks": "all"})
        self._topic = topic

    async def order(self, orders: Sequence[Placed]) -> None:
        """Write these orders, and the pick of each before it can be shipped."""
        for number, placed in enumerate(orders):
            self._write(placed.event)
            self._write(ShipmentPicked(order_id=placed.event.order_id, picked_by="p-7"))
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.to_thread(self._producer.flush, 60)
        assert not await asyncio.to_thread(self._producer.flush, 60)

    def _write(self, event: Event) -> None:
        key, type_ = event.order_id, event.event_type  # type: ignore[attr-defined]  # both are keyed by it
        self._producer.produce(self._topic, event.model_dump_json().encode(), key, headers={"ce_type": type_})


async def test_a_service_is_scaled_up_and_down_under_a_foreign_producers_load(
    harness: Harness, servers: Servers, record_testsuite_property: Recorded
) -> None:
    """Every order ends as it should, the books add up, and no group lags behind."""
    wanted = [placed for placed in Demo().orders(3 * ORDERS) if placed.kind.name in KINDS][:ORDERS]
    foreign = Foreign(servers.kafka, os.environ["CHOREO_KAFKA_TOPIC_PREFIX"] + FLOW)
    for role in ("inventory", "shipping", "notification", "tracker", "projector"):
        harness.fleet.start(role)
    first = harness.fleet.start("payment")
    await harness.until(lambda: shared(first), "one worker has all partitions")
    began_s = time.monotonic()

    await foreign.order(wanted[0::3])
    await harness.until(lambda: _has_read(harness, ORDERS // 3), "the one worker is at it", PATIENCE_S)
    more = harness.fleet.start("payment"), harness.fleet.start("payment")
    await foreign.order(wanted[1::3])
    await harness.until(lambda: shared(first, *more), "three workers share the partitions")
    await harness.until(lambda: _has_read(harness, ORDERS), "the three workers are at it", PATIENCE_S)
    await foreign.order(wanted[2::3])
    for worker in more:
        await harness.stop(worker)
    await harness.until(lambda: shared(first), "one worker has all partitions again")

    await harness.until(lambda: _are_over(harness, len(wanted)), "every order has ended", PATIENCE_S)
    took_s = time.monotonic() - began_s
    await harness.until(lambda: _is_caught_up(harness), "no group lags behind", PATIENCE_S)
    ends = {placed.event.order_id: placed.kind.ends for placed in wanted}
    counts = await harness.app.queries.counts(FLOW)
    assert {status: number for status, number in counts.items() if number} == Counter(ends.values())
    assert audit.audit(harness.books, ends) == []
    record_testsuite_property("scaling: orders, s", f"{len(wanted)}, {took_s:.1f}")


async def _has_read(harness: Harness, records: int) -> bool:
    """Return whether the service is through with so many records; an order and its pick are the least of each."""
    return sum((await harness.app.backend.log.committed(FLOW, "payment")).values()) >= records


async def _are_over(harness: Harness, orders: int) -> bool:
    counts = await harness.app.queries.counts(FLOW)
    return sum(number for status, number in counts.items() if status in ("completed", "compensated")) == orders


async def _is_caught_up(harness: Harness) -> bool:
    return not any(lag.behind for lag in await harness.app.queries.lags(FLOW))
