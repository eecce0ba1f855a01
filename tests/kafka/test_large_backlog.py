"""A backlog of large records: a process keeps a bounded number of bytes of it at once, not of records.

The real processes on a real broker and a real Redis.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from confluent_kafka import Producer

from choreo.app.query.queries import READ_MODEL
from choreo.ports.log import TRACKER_GROUP
from tests.kafka.conftest import Servers
from tests.kafka.harness import FLOW, PARTITIONS, Harness
from tests.support.fleet import Worker

LIMIT_MIB = 512
"""The memory limit of each container in deploy/."""
ORDERS, PADDING = 600, 900_000
"""More than half a gigabyte: a process that took all of it at once would be beyond the limit with its first copy."""


pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it reads the peak from /proc")


def peak_mib(worker: Worker) -> int:
    """Return the most memory that the process has had."""
    lines = Path(f"/proc/{worker.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1_024


def fill(servers: Servers) -> list[str]:
    """Let a foreign producer write large orders."""
    producer = Producer({"bootstrap.servers": servers.kafka, "partitioner": "murmur2_random"})
    keys = [f"large-{number}" for number in range(ORDERS)]
    for key in keys:
        order = {"order_id": key, "customer_id": "a" * PADDING, "card": "visa", "amount": "12.50", "items": []}
        order["items"] = [{"sku": "tea", "quantity": 1}]
        producer.produce(
            os.environ["CHOREO_KAFKA_TOPIC_PREFIX"] + FLOW,
            json.dumps(order).encode(),
            key,
            headers={"ce_type": "OrderPlaced"},
        )
        producer.poll(0)
        while len(producer) > 20:
            producer.poll(0.1)
    assert not producer.flush(60)
    return keys


async def test_a_service_that_meets_a_backlog_of_large_records_stays_within_its_memory(
    harness: Harness, servers: Servers
) -> None:
    """So do the tracker and the projector, which meet the same one."""
    keys = fill(servers)
    workers = [harness.fleet.start(role) for role in ("inventory", "tracker", "projector")]
    await harness.until(lambda: _is_worked(harness, len(keys)), "every order is worked", patience_s=120)
    peaks = {worker.role: peak_mib(worker) for worker in workers}
    assert max(peaks.values()) < LIMIT_MIB, peaks


async def _is_worked(harness: Harness, orders: int) -> bool:
    """Return whether all groups have read all there is, and the service has answered each order."""
    ends = [await harness.app.backend.log.end(FLOW, partition) for partition in range(PARTITIONS)]
    return sum(ends) >= 2 * orders and not any(
        lag.behind
        for lag in await harness.app.queries.lags(FLOW)
        if lag.group in ("inventory", TRACKER_GROUP, READ_MODEL)
    )
