"""Timers at a moment in a field, in the folds of tracker and projector: only what sets a moment is decoded."""

from __future__ import annotations

import pytest

from choreo.app.tracking.fold import PartitionFold
from choreo.app.tracking.project import PartitionProjector
from choreo.core.definition import WaitDefinition
from choreo.core.errors import DecodeError
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.state import decode
from tests.core.plain import flow, step

SIGN = step("desk.sign", "OrderPlaced", "Signed", effect=False)
BILL = step("desk.bill", "Due", "OrderConfirmed", effect=False)
RENEWAL = WaitDefinition("timer.renewal", "Signed", "", 0, "", then="Due", at="renews_at", moved_by="Extended")
FIELDS = ("order_id", "renews_at")
TABLE = FlowTable(flow(SIGN, BILL, waits=(RENEWAL,), events={"Signed": FIELDS, "Extended": FIELDS}))
MOMENTS = {"Signed": "2027-03-01T09:00:00+01:00", "Extended": "2028-03-01T09:00:00+01:00"}


class Payloads:
    """Gives the moment of each event, and keeps which were decoded."""

    def __init__(self, broken: str = "", moment: object = None) -> None:
        self.decoded: list[str] = []
        self.broken = broken
        self.moment = moment

    def __call__(self, event: Envelope) -> dict[str, object]:
        """Return the fields, or raise as the codec does."""
        self.decoded.append(event.type)
        if event.type == self.broken and self.moment is None:
            raise DecodeError("is no JSON", where=event.type)
        moment = self.moment if event.type == self.broken else MOMENTS[event.type]
        return {"order_id": event.key, "renews_at": moment}


def records(*types: str) -> list[Record]:
    """Return these events of one run."""
    return [
        Record("order", 0, offset, 1_000 + offset, Envelope(f"e-{offset}", type_, "o-1", "order", "e-0"))
        for offset, type_ in enumerate(types)
    ]


def tracker(payloads: Payloads) -> PartitionFold:
    """Return the tracker's fold with an empty state of the key."""
    fold = PartitionFold(TABLE, 0, 1, lambda _: {}, payloads)
    fold.put({}, ["o-1"])
    return fold


def test_tracker_and_projector_decode_what_sets_the_moment_and_nothing_else() -> None:
    """The row has the moment as its next due time, so that no timer needs a scan."""
    payloads, log = Payloads(), records("OrderPlaced", "Signed", "Extended")
    (row,) = tracker(payloads).fold(log, 5_000).states
    projector = PartitionProjector(TABLE, 0, 1, lambda _: {}, payloads)
    projector.put({}, ["o-1"])
    (kept,) = projector.fold(log, 0, 3).keys
    assert kept.state == row.state
    assert payloads.decoded == ["Signed", "Extended"] * 2
    assert row.due_ms == 1_835_510_400_000  # 2028-03-01T08:00:00Z


@pytest.mark.parametrize(
    ("moment", "cause"),
    [
        (None, "Extended: is no JSON"),
        (7, "Extended.renews_at: 7 is not a datetime with a time zone"),
        (
            "9999-12-31T23:59:59-12:00",
            "Extended.renews_at: 9999-12-31 23:59:59-12:00 lies outside of the years 1 to 9999 in UTC",
        ),
    ],
)
def test_an_event_with_no_moment_is_a_dead_letter_and_the_timer_keeps_its_time(moment: object, cause: str) -> None:
    """It stops neither the tracker nor the run; the next event is folded."""
    fold = tracker(Payloads("Extended", moment))
    batch = fold.fold(records("OrderPlaced", "Signed", "Extended"), 5_000)
    (letter,) = batch.dead_letters
    assert (letter.service, letter.step, letter.cause, letter.record.fields) == ("tracker", "", cause, None)
    (run,) = decode(batch.states[0].state).runs
    assert (run.status, [wait.name for wait in run.waits]) == ("running", ["timer.renewal"])
    assert batch.states[0].due_ms == 1_803_888_000_000  # 2027-03-01T08:00:00Z
