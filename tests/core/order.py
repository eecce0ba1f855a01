"""The flows of the stories in tests/core, as plain data."""

from __future__ import annotations

from msgspec.structs import replace

from choreo.core.definition import FlowDefinition
from tests.core.plain import CHARGE, CONFIRM, CONFIRM_PICKED, HOUR_MS, PICK, RESERVE, TELL, flow, step

DAY_MS = 24 * HOUR_MS

ORDER = flow(RESERVE, CHARGE, CONFIRM, TELL, fails="OrderCancelled", deadline_ms=2 * DAY_MS)
"""Stock, then payment, then a confirmation; the customer gets a message about a cancellation."""

PICKED = flow(RESERVE, CHARGE, CONFIRM_PICKED, fails="OrderCancelled", waits=(PICK,), deadline_ms=2 * DAY_MS)
"""The same with an hour's wait for the warehouse before the confirmation."""

SCREEN = step("risk.screen", "OrderPlaced", "OrderScreened", fails="OrderSuspicious", undone="ScreeningDropped")
LABEL = step("labels.print", "StockReserved", "LabelPrinted", fails="LabelJammed", undone="LabelVoided")

WIDE = flow(RESERVE, CHARGE, LABEL, CONFIRM, deadline_ms=2 * DAY_MS)
"""Two steps on one event: the label is printed while the payment is charged."""

SCREENED = flow(SCREEN, RESERVE, CHARGE, CONFIRM, deadline_ms=2 * DAY_MS)
"""Two steps on the start, one of which nothing waits for."""


def but(definition: FlowDefinition, *, without: str = "", **steps: object) -> FlowDefinition:
    """Return the flow with each step of these names (dots as __) replaced, and `without` left out."""
    changed = tuple(
        steps.get(known.name.replace(".", "__"), known) for known in definition.steps if known.name != without
    )
    return replace(definition, steps=changed)
