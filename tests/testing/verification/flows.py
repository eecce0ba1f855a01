"""Flows with few states, as plain data, for the tests of the exploration."""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core.conditions import Compare, Otherwise
from choreo.core.definition import ChildrenDefinition, FlowDefinition, StepDefinition, WaitDefinition
from choreo.core.fields import FieldType
from tests.core.families import BY_ORDER
from tests.core.plain import CHARGE, CONFIRM, HOUR_MS, PICK, RESERVE, flow, step

DEADLINE_MS = 48 * HOUR_MS
AT_ONCE = replace(RESERVE.retry, attempts_max=1)


def once(known: StepDefinition, *, declines: bool = False, **changes: object) -> StepDefinition:
    """Return the step with one attempt, and without a declared failure unless it `declines`."""
    kept = known.fails if declines else ()
    return replace(known, **{"retry": AT_ONCE, "fails": kept, **changes})


ENDS = once(CONFIRM, on="StockReserved")
FIRST = once(RESERVE)

ONE = flow(once(RESERVE, emits=("OrderConfirmed",)), deadline_ms=DEADLINE_MS)
"""One step with a compensation."""

DECLINES = flow(once(RESERVE, declines=True, retry=RESERVE.retry), ENDS, deadline_ms=DEADLINE_MS)
"""A step with several attempts that may decline; a step that ends the run."""

SMALL = flow(RESERVE, replace(CONFIRM, on="StockReserved"), deadline_ms=DEADLINE_MS)
"""Two steps, one with a compensation."""

PAIR = flow(FIRST, once(CHARGE, declines=True), once(CONFIRM), deadline_ms=DEADLINE_MS)
"""Two steps with compensations, one after the other."""

BESIDE = flow(
    once(RESERVE, emits=("OrderConfirmed",)), once(step("risk.screen", "OrderPlaced", "Screened")),
    deadline_ms=DEADLINE_MS,
)  # fmt: skip
"""Two steps on the start, one of which nothing follows."""

JOINED = flow(
    FIRST,
    once(step("labels.print", "OrderPlaced", "LabelPrinted")),
    once(step("mail.confirm", "", "OrderConfirmed", all_of=("StockReserved", "LabelPrinted"))),
    deadline_ms=DEADLINE_MS,
)
"""A join of two steps."""

WAITING = flow(
    FIRST, once(CONFIRM, on="Picked"), waits=(replace(PICK, on="StockReserved"),), deadline_ms=DEADLINE_MS
)  # fmt: skip
"""A wait for an event from outside, before the end."""

MOVED = flow(
    FIRST,
    once(step("trial.extend", "StockReserved", "Extended")),
    once(CONFIRM, on="Ended"),
    waits=(
        WaitDefinition(
            "timer.trial", on="OrderPlaced", until="", timeout_ms=HOUR_MS, fails="", then="Ended", moved_by="Extended"
        ),
    ),
    deadline_ms=DEADLINE_MS,
)
"""A timer that a step moves."""

_EXPRESS = Compare("shipping", "==", "express", type=FieldType("text"))
BRANCHED = flow(
    once(step("mail.fly", "OrderPlaced", "OrderConfirmed", when=_EXPRESS)),
    once(step("mail.walk", "OrderPlaced", "OrderConfirmed", when=Otherwise())),
    deadline_ms=DEADLINE_MS,
)
"""Two branches on a field of the start."""

_FIRST = flow(FIRST, ENDS, deadline_ms=DEADLINE_MS)
_WEIGH = once(step("mail.weigh", "StockReserved", "Weighed"))
_SECOND = flow(FIRST, _WEIGH, once(CONFIRM, on="Weighed"), deadline_ms=DEADLINE_MS)
VERSIONS = replace(_SECOND, version=2, frozen=(_FIRST,))
"""A flow of which a second version weighs the parcel before the end; runs of the first are in flight."""

PARCEL = flow(
    once(step("carrier.book", "ParcelRequested", "ParcelTold", undone="ParcelRecalled")),
    name="parcel", key="parcel_id", starts="ParcelRequested", completes="ParcelTold", deadline_ms=DEADLINE_MS,
)  # fmt: skip
"""A child flow of one step."""


def family(**rule: int) -> FlowDefinition:
    """Return a flow of one step, which starts parcels and joins them by this rule."""
    split = step("fulfilment.split", "OrderPlaced", "OrderConfirmed", fails="ParcelsFailed")
    joined = ChildrenDefinition("parcel", **rule)
    return flow(once(split, declines=True, children=joined, compensation=BY_ORDER), deadline_ms=DEADLINE_MS)


CHILDREN = {"parcel": PARCEL}
"""The child flows, by name."""

FLOWS: dict[str, FlowDefinition] = {
    "ONE": ONE, "DECLINES": DECLINES, "SMALL": SMALL, "PAIR": PAIR, "BESIDE": BESIDE, "JOINED": JOINED,
    "WAITING": WAITING, "MOVED": MOVED, "BRANCHED": BRANCHED, "FAMILY": family(), "TOLERANT": family(tolerated=1),
    "FIRST": family(first=1), "WINDOW": family(window=1),
    "VERSIONS": VERSIONS,
}  # fmt: skip
