"""Branches on data in the folds of tracker and projector: only what decides a branch is decoded, and alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from choreo.app.tracking.fold import PartitionFold
from choreo.app.tracking.project import PartitionProjector
from choreo.core.conditions import Compare
from choreo.core.definition import FlowDefinition
from choreo.core.errors import DecodeError, StorageError
from choreo.core.events import Envelope, Record
from choreo.core.fields import FieldType
from choreo.core.flow_table import FlowTable
from choreo.core.state import decode
from tests.core.plain import flow, step

EXPRESS = Compare("shipping", "==", "express", FieldType("text"))
FLOW: FlowDefinition = flow(
    step("air.fly", "OrderPlaced", "Flown", when=EXPRESS), step("mail.confirm", "Flown", "OrderConfirmed")
)
TABLE = FlowTable(FLOW)


def records(*types: str, key: str = "o-1") -> list[Record]:
    """Return these events of one run, with their type as payload."""
    return [
        Record("order", 0, offset, 1_000 + offset, Envelope(f"{key}-{offset}", type_, key, "order", f"{key}-0"))
        for offset, type_ in enumerate(types)
    ]


class Payloads:
    """Gives every payload as express, and keeps which were decoded."""

    def __init__(self, error: Exception | None = None) -> None:
        self.decoded: list[str] = []
        self.error = error

    def __call__(self, event: Envelope) -> Mapping[str, Any]:
        """Return the fields, or raise the error."""
        self.decoded.append(event.type)
        if self.error:
            raise self.error
        return {"order_id": event.key, "shipping": "express"}


def test_only_the_events_that_decide_a_branch_are_decoded() -> None:
    """Every other one is folded from its headers, by the tracker and by the projector; both have the same state."""
    payloads = Payloads()
    log = records("OrderPlaced", "Flown")
    tracker = PartitionFold(TABLE, 0, 1, lambda _: {}, payloads)
    tracker.put({}, ["o-1"])
    (row,) = tracker.fold(log, 5_000).states
    projector = PartitionProjector(TABLE, 0, 1, lambda _: {}, payloads)
    projector.put({}, ["o-1"])
    (kept,) = projector.fold(log, 0, 2).keys
    assert kept.state == row.state
    assert [pending.step for pending in decode(row.state).runs[0].expected] == ["mail.confirm"]
    assert payloads.decoded == ["OrderPlaced", "OrderPlaced"]


def test_a_schema_registry_that_is_away_is_waited_for() -> None:
    """Nothing of the batch is folded: the same records are read again, and no run is compensated for it."""
    tracker = PartitionFold(TABLE, 0, 1, lambda _: {}, Payloads(StorageError("the registry does not answer")))
    tracker.put({}, ["o-1"])
    with pytest.raises(StorageError):
        tracker.fold(records("OrderPlaced"), 5_000)
    assert tracker.cache["o-1"].state.position == -1


def test_a_payload_that_cannot_be_read_is_a_dead_letter_with_its_cause() -> None:
    """The run is compensated with the same cause, and the next key goes on."""
    tracker = PartitionFold(TABLE, 0, 1, lambda _: {}, Payloads(DecodeError("is no JSON", where="OrderPlaced")))
    tracker.put({}, ["o-1"])
    batch = tracker.fold(records("OrderPlaced"), 5_000)
    (letter,) = batch.dead_letters
    assert (letter.step, letter.cause, letter.record.fields) == ("air.fly", "OrderPlaced: is no JSON", None)
    (run,) = tracker.cache["o-1"].state.runs
    assert (run.status, run.cause) == (
        "compensating",
        "no branch on OrderPlaced can be chosen: OrderPlaced: is no JSON",
    )


def test_a_fold_that_cannot_decode_what_its_flow_needs_says_so() -> None:
    """Rather than to compensate every run."""
    tracker = PartitionFold(TABLE, 0, 1, lambda _: {})
    tracker.put({}, ["o-1"])
    with pytest.raises(ValueError, match="flow order decides by fields of events"):
        tracker.fold(records("OrderPlaced"), 5_000)
