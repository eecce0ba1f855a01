"""The tracker's use case on one partition: records that are not its key's, and what of a key is kept."""

from __future__ import annotations

from msgspec.structs import replace

from choreo.app.track import PartitionTracker
from choreo.core.definition import FlowTable
from choreo.core.events import Envelope, Record, from_headers, to_headers
from choreo.core.partition import partition_of
from choreo.ports.state import StateRow
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


def test_a_key_that_never_had_a_run_leaves_no_row() -> None:
    """What strangers say to it would else be kept for ever; cut into batches in any way, a later run is the same."""
    partition = partition_of("o-1", PARTITIONS)
    said = ["ShipmentPicked", "ShipmentPicked", FLOW.starts, "ShipmentPicked"]
    records = [
        Record(FLOW.name, partition, at, NOW_MS + at, Envelope(f"e-{at}", type_, "o-1", FLOW.name))
        for at, type_ in enumerate(said)
    ]
    ends = set()
    for cut in range(1, len(records)):
        rows: dict[str, StateRow] = {}
        for piece in (records[:cut], records[cut:]):
            tracker = PartitionTracker(FlowTable(FLOW), partition, PARTITIONS, lambda _: {})
            tracker.put(rows, ["o-1"])
            rows |= {row.key: row for row in tracker.fold(piece, NOW_MS).states}
            assert ("o-1" in rows) == (piece[-1].offset >= 2)
        ends.add(rows["o-1"].state)
    assert len(ends) == 1


def test_a_record_astray_that_is_too_large_to_be_published_again_is_set_aside() -> None:
    """A foreign producer may compress what no other may write."""
    fits, record = (
        astray(Envelope(f"e-{size}", FLOW.starts, "o-1", FLOW.name, data=b"x" * size))[1] for size in (97, 98)
    )
    tracker, _ = astray(record.event)
    tracker.bytes_max = 100
    batch = tracker.fold([fits, replace(record, offset=8)], NOW_MS)
    assert [event.id for event in batch.rerouted] == ["e-97"]
    assert [(letter.offset, letter.cause) for letter in batch.letters] == [
        (8, "it is of another partition, and too large to be published there again: 101 bytes")
    ]
