"""The handlers are plain functions: called with an event and a context, they answer with an event."""

import asyncio
from decimal import Decimal

from choreo import StepContext
from schemas.orders import OrderPlaced, PaymentDeclined, StockRejected, StockReleased, StockReserved
from services.payment import charge
from services.stock import release, reserve


def context(step: str) -> StepContext:
    """The circumstances of a first attempt."""
    return StepContext(flow="order", key="o-1", run="run-1", step=step, attempt=1, idempotency_key=f"key of {step}")


def reserved(amount: str) -> StockReserved:
    """What payment reacts to."""
    return StockReserved(order_id="o-1", reservation_id="r-1", amount=Decimal(amount))


def test_more_than_there_is_is_rejected() -> None:
    """An outcome that is expected is an event, not an exception."""
    placed = OrderPlaced(order_id="o-1", article="lamp", quantity=1_000, amount=Decimal("49.90"))
    assert isinstance(asyncio.run(reserve(placed, context("stock.reserve"))), StockRejected)


def test_a_reservation_is_released_under_its_own_number() -> None:
    """A compensation gets the outcome of the step it undoes."""
    answer = asyncio.run(release(reserved("49.90"), context("stock.reserve")))
    assert answer == StockReleased(order_id="o-1", reservation_id="r-1")


def test_too_large_an_amount_is_declined() -> None:
    """The declined payment says why."""
    answer = asyncio.run(charge(reserved("4990"), context("payment.charge")))
    assert answer == PaymentDeclined(order_id="o-1", reason="4990 is above the card's limit")
