"""Promise 6 by choreo's own core, the one check that shares code with the product: a state is the fold from 0."""

from __future__ import annotations

from confluent_kafka import Message

from choreo.adapters.kafka.records import record_of
from choreo.app.tracking.fold import PartitionFold
from choreo.core.flow_table import FlowTable
from choreo.core.partition import partition_of
from services.order_flow import order
from tests.audit.from_kafka import messages
from tests.chaos.world import PARTITIONS, PREFIX, TIME_SCALE, TOPIC
from tests.support.stored import stored

CHANGELOG = f"{PREFIX}choreo-order-tracker-states-changelog"


def folded(bootstrap: str) -> dict[str, bytes]:
    """Return every key's position and state, by folding the log from its first record."""
    table = FlowTable(order.definition.scaled(TIME_SCALE))
    trackers = [PartitionFold(table, number, PARTITIONS, lambda _: {}) for number in range(PARTITIONS)]
    for message in messages(bootstrap, TOPIC):
        records = [record_of(message, message.headers() or [], "order", message.timestamp()[1])]
        tracker = trackers[records[0].partition]
        tracker.put({}, tracker.missing(records))
        tracker.fold(records, 0)
    # A record astray makes its key known to a partition that never folds it. A run that has lingered may be forgotten.
    return {
        key: stored(tracked.state)
        for number, tracker in enumerate(trackers)
        for key, tracked in tracker.cache.items()
        if partition_of(key, PARTITIONS) == number
    }


def kept(bootstrap: str) -> dict[str, bytes]:
    """Return every key's state as the tracker's changelog has it: the one with the highest position."""
    states: dict[str, bytes] = {}
    for message in messages(bootstrap, CHANGELOG):
        key, value = _pair(message)
        states[key] = max(value, states.get(key, b""))
    return states


def _pair(message: Message) -> tuple[str, bytes]:
    return (message.key() or b"").decode(), message.value() or b""
