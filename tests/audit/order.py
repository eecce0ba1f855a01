"""The order flow as the auditor knows it, written down by hand: its declaration is under test, too."""

from __future__ import annotations

from tests.audit.shape import Shape, Step, Wait

ORDER = Shape(
    "order",
    "OrderPlaced",
    ("OrderConfirmed",),
    "OrderCancelled",
    {
        "inventory.reserve": Step(("OrderPlaced",), ("StockReserved",), ("StockRejected",), ("StockReleased",)),
        "payment.charge": Step(("StockReserved",), ("PaymentCharged",), ("PaymentDeclined",), ("PaymentRefunded",)),
        "shipping.create": Step(
            ("PaymentCharged",), ("ShipmentCreated",), ("ShipmentRejected",), ("ShipmentCancelled",)
        ),
        "notification.confirm": Step(("ShipmentPicked",), ("OrderConfirmed",), ("ConfirmationFailed",)),
    },
    (Wait("wait.ShipmentPicked", "ShipmentCreated", ("ShipmentPicked",), (), "PickTimedOut", turns=True),),
    {"notification.tell_customer": Step(("OrderCancelled",), ("CustomerNotified",))},
)
"""The order flow, written down by hand from its description."""

START = ORDER.start
CANCELLED, TOLD = "OrderCancelled", "CustomerNotified"
WAIT_OPENS, WAIT_CLOSES = "ShipmentCreated", "ShipmentPicked"
STEPS, SUCCESSES, FAILURES = ORDER.steps, ORDER.successes, ORDER.failures
