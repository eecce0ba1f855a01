"""A backlog of large records: what a process keeps of it at once is bounded by bytes, not by their number.

The real processes on a real broker and a real Redis.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from confluent_kafka import Producer

from choreo.app.query import READ_MODEL
from choreo.ports.log import TRACKER_GROUP
from tests.members.conftest import Servers
from tests.members.scene import FLOW, PARTITIONS, Scene
from tests.support.fleet import Worker

LIMIT_MIB = 512
"""The memory limit of each container in deploy/."""
ORDERS, PADDING = 600, 900_000
"""More than half a gigabyte: who took all of it at once would be beyond the limit with its first copy."""


pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it reads the peak from /proc")


def peak_mib(worker: Worker) -> int:
    """The most memory that the process has had."""
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
    scene: Scene, servers: Servers
) -> None:
    """So do the tracker and the projector, which meet the same one."""
    keys = fill(servers)
    workers = [scene.fleet.start(role) for role in ("inventory", "tracker", "projector")]
    await scene.until(lambda: _is_worked(scene, len(keys)), "every order is worked", patience_s=120)
    peaks = {worker.role: peak_mib(worker) for worker in workers}
    assert max(peaks.values()) < LIMIT_MIB, peaks


async def _is_worked(scene: Scene, orders: int) -> bool:
    """Whether all groups have read all there is, and the service has answered each order."""
    ends = [await scene.app.home.log.end(FLOW, partition) for partition in range(PARTITIONS)]
    return sum(ends) >= 2 * orders and not any(
        lag.behind
        for lag in await scene.app.queries.lags(FLOW)
        if lag.group in ("inventory", TRACKER_GROUP, READ_MODEL)
    )
