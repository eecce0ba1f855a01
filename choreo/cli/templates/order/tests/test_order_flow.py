"""The flow's rules in virtual time: what the tracker decides, told as given, when, then. No service runs."""

from choreo.testing import elapsed, given, undo
from services.order_flow import order


def test_a_paid_order_is_complete() -> None:
    """The flow completes when its last event is seen and nothing is expected any more."""
    given(order, "OrderPlaced", "StockReserved").when("PaymentCharged").then("choreo.FlowCompleted", status="completed")


def test_a_declined_payment_releases_the_stock() -> None:
    """A failure turns the flow, and what was done is asked to be undone."""
    story = given(order, "OrderPlaced", "StockReserved").when("PaymentDeclined")
    story.then("choreo.FlowTurned", undo("stock.reserve"), status="compensating")
    story.when("StockReleased").then(status="compensated", ledger={"stock.reserve": "undone"})


def test_a_payment_that_never_answers_is_in_doubt_and_undone_too() -> None:
    """Past its deadline nobody knows whether the customer was charged: the bank is asked, newest effect first."""
    story = given(order, "OrderPlaced", "StockReserved").when(elapsed("16m"))
    story.then(status="compensating", ledger={"stock.reserve": "open", "payment.charge": "requested in doubt"})
