"""The tracker's use case on one partition: what lies in a partition that is not its key's."""

from __future__ import annotations

from msgspec.structs import replace

from choreo.app.track import PartitionTracker
from choreo.core.definition import FlowTable
from choreo.core.events import Envelope, Record, from_headers, to_headers
from choreo.core.partition import partition_of
from tests.core.order import ORDER as FLOW

NOW_MS = 1_000
PARTITIONS = 4


def astray(event: Envelope) -> tuple[PartitionTracker, Record]:
    """The tracker of another partition than the event's key has, and the event as it stands there."""
    partition = (partition_of(event.key, PARTITIONS) + 1) % PARTITIONS
    tracker = PartitionTracker(FlowTable(FLOW), partition, PARTITIONS, lambda _: {})
    return tracker, Record(FLOW.name, partition, 7, NOW_MS, event)


def test_a_record_astray_is_published_again_with_a_mark() -> None:
    """The mark survives the way through the headers, so that whoever reads it knows of the first time."""
    tracker, record = astray(Envelope("e-1", FLOW.starts, "o-1", FLOW.name))
    batch = tracker.fold([record], NOW_MS)
    (again,) = batch.rerouted
    assert again == replace(record.event, moved=True)
    assert from_headers(to_headers(again), key="o-1", flow=FLOW.name, data=b"") == replace(
        again, source=f"choreo/{FLOW.name}"
    )
    assert not batch.letters


def test_a_record_is_published_again_once_in_its_life() -> None:
    """Where it still lies in another partition than its key's, whoever counts partitions otherwise gets a letter."""
    tracker, record = astray(Envelope("e-1", FLOW.starts, "o-1", FLOW.name, moved=True))
    batch = tracker.fold([record], NOW_MS)
    assert not batch.rerouted
    (letter,) = batch.letters
    assert "published again once" in letter.cause
