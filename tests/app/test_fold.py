"""The tracker's use case on one partition: records that are not its key's, and what of a key is kept."""

from __future__ import annotations

from msgspec.structs import replace

from choreo.app.tracking.fold import PartitionFold
from choreo.core.events import Envelope, Record, from_headers, to_headers
from choreo.core.flow_table import FlowTable
from choreo.core.partition import partition_of
from choreo.ports.state import StateRow
from tests.core.order import ORDER as FLOW

NOW_MS = 1_000
PARTITIONS = 4


def astray(event: Envelope) -> tuple[PartitionFold, Record]:
    """Return the tracker of another partition than the event's key has, and the event as it stands there."""
    partition = (partition_of(event.key, PARTITIONS) + 1) % PARTITIONS
    tracker = PartitionFold(FlowTable(FLOW), partition, PARTITIONS, lambda _: {})
    return tracker, Record(FLOW.name, partition, 7, NOW_MS, event)


def test_a_record_astray_is_published_again_with_a_mark() -> None:
    """The mark survives the way through the headers, so that every reader knows of the first time."""
    tracker, record = astray(Envelope("e-1", FLOW.starts, "o-1", FLOW.name))
    batch = tracker.fold([record], NOW_MS)
    (again,) = batch.rerouted
    assert again == replace(record.event, moved=True)
    assert from_headers(to_headers(again), key="o-1", flow=FLOW.name, data=b"") == replace(
        again, source=f"choreo/{FLOW.name}"
    )
    assert not batch.dead_letters


def test_a_record_is_published_again_once_in_its_life() -> None:
    """Still outside of its key's partition, it was moved with another partition count: it becomes a dead letter."""
    tracker, record = astray(Envelope("e-1", FLOW.starts, "o-1", FLOW.name, moved=True))
    batch = tracker.fold([record], NOW_MS)
    assert not batch.rerouted
    (dead_letter,) = batch.dead_letters
    assert "published again once" in dead_letter.cause


def test_a_key_that_never_had_a_run_leaves_no_row() -> None:
    """Events of foreign programs would else be kept for ever; cut into batches in any way, a later run is the same."""
    partition = partition_of("o-1", PARTITIONS)
    types = ["ShipmentPicked", "ShipmentPicked", FLOW.starts, "ShipmentPicked"]
    records = [
        Record(FLOW.name, partition, at, NOW_MS + at, Envelope(f"e-{at}", type_, "o-1", FLOW.name))
        for at, type_ in enumerate(types)
    ]
    ends = set()
    for cut in range(1, len(records)):
        rows: dict[str, StateRow] = {}
        for piece in (records[:cut], records[cut:]):
            tracker = PartitionFold(FlowTable(FLOW), partition, PARTITIONS, lambda _: {})
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
    assert [(dead_letter.offset, dead_letter.cause) for dead_letter in batch.dead_letters] == [
        (8, "it is of another partition, and too large to be published there again: 101 bytes")
    ]


def test_an_event_of_a_version_that_is_not_frozen_is_set_aside_and_keeps_the_state() -> None:
    """The other keys go on; once the file is restored and the dead letter redriven, the run goes on as well."""
    second = replace(FLOW, version=2)
    alone, both = (replace(second, frozen=frozen) for frozen in ((second,), (FLOW, second)))
    partition = partition_of("o-1", PARTITIONS)
    other = next(key for n in range(100) if partition_of(key := f"p-{n}", PARTITIONS) == partition)
    started = Record(FLOW.name, partition, 1, NOW_MS, Envelope("e-1", FLOW.starts, "o-1", FLOW.name))
    reserved = Record(
        FLOW.name, partition, 2, NOW_MS, Envelope("e-2", "StockReserved", "o-1", FLOW.name, run="e-1", causation="e-1")
    )
    beside = Record(FLOW.name, partition, 3, NOW_MS, Envelope("e-3", FLOW.starts, other, FLOW.name, version=2))
    folded = {}
    for name, flow in (("alone", alone), ("both", both)):
        tracker = PartitionFold(FlowTable(FLOW), partition, PARTITIONS, lambda _: {})
        tracker.put({}, ["o-1", other])
        tracker.fold([started], NOW_MS)
        after = PartitionFold(FlowTable(flow), partition, PARTITIONS, lambda _: {})
        after.cache = tracker.cache
        folded[name] = after.fold([reserved, beside], NOW_MS), after.cache["o-1"].state.position
    batch, position = folded["alone"]
    (dead_letter,) = batch.dead_letters
    assert (dead_letter.offset, position) == (2, 1)
    assert "version 1 of flow order is in flight, and not frozen here" in dead_letter.cause
    assert {row.key for row in batch.states} == {"o-1", other}
    assert (folded["both"][0].dead_letters, folded["both"][1]) == ([], 2)
