"""The order flow as the auditor knows it: written down by hand, from the flow's description.

Also the auditor's input from a test: its acknowledged starts, its poisoned records, and the allowed durations.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

START = "OrderPlaced"
COMPLETES = "OrderConfirmed"
CANCELLED = "OrderCancelled"
TOLD = "CustomerNotified"
WAIT_OPENS, WAIT_CLOSES, WAIT_FAILS = "ShipmentCreated", "ShipmentPicked", "PickTimedOut"


@dataclass(frozen=True)
class Step:
    """A step of the forward path; `undo` is empty where it leaves nothing that could be undone."""

    on: str
    success: str
    failure: str
    undo: str = ""


STEPS = {
    "inventory.reserve": Step(START, "StockReserved", "StockRejected", "StockReleased"),
    "payment.charge": Step("StockReserved", "PaymentCharged", "PaymentDeclined", "PaymentRefunded"),
    "shipping.create": Step("PaymentCharged", "ShipmentCreated", "ShipmentRejected", "ShipmentCancelled"),
    "notification.confirm": Step(WAIT_CLOSES, COMPLETES, "ConfirmationFailed"),
}
SUCCESSES = {step.success: name for name, step in STEPS.items()}
FAILURES = {step.failure: name for name, step in STEPS.items()}
UNDOS = {step.undo: name for name, step in STEPS.items() if step.undo}
GENERAL_FAILURES = ("choreo.StepFailed", "choreo.StepSkipped")

ENDS = {
    "choreo.FlowCompleted": "completed",
    "choreo.FlowCompensated": "compensated",
    "choreo.FlowTerminated": "terminated",
}


@dataclass(frozen=True)
class Durations:
    """The declared durations, as divided for this run, in milliseconds. Empty: not checked."""

    wait_ms: int = 0
    flow_ms: int = 0
    step_ms: Mapping[str, int] = field(default_factory=dict)
    undo_ms: Mapping[str, int] = field(default_factory=dict)
    end_ms: int = 0
    """The time from its start within which every run must have ended."""


@dataclass(frozen=True)
class Told:
    """The facts that the test knows besides the log and the books."""

    acknowledged: Mapping[str, str]
    """Id → key of every start that the log acknowledged to the test's producer."""
    poisoned: AbstractSet[tuple[int, int]] = frozenset()
    """(partition, offset) of every record that nobody can handle."""
    durations: Durations = Durations()
    plain: AbstractSet[str] = frozenset()
    """Keys of orders with gateways that never fail: nothing but a crash makes their handlers run again."""
    interrupted: AbstractSet[tuple[str, str]] = frozenset()
    """(trigger, step) of attempts that had begun and had no outcome when their process was killed."""
    uncounted: int = 0
    """Calls of an order's operation that nobody may have counted: a power cut takes the last count back."""
