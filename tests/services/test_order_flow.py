"""The reference flow: its declaration, and each handler called as a plain function."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from choreo import Event, StepContext
from choreo.adapters.topics_yaml import check_topics, load_topics
from choreo.core.checks.checks import check
from schemas.orders import (
    ConfirmationFailed,
    CustomerNotified,
    Item,
    OrderCancelled,
    OrderConfirmed,
    OrderPlaced,
    PaymentCharged,
    PaymentDeclined,
    PaymentRefunded,
    ShipmentCancelled,
    ShipmentCreated,
    ShipmentPicked,
    ShipmentRejected,
    StockRejected,
    StockReleased,
    StockReserved,
)
from services.gateways.errors import AnswerLostError, GatewayError
from services.inventory import release, reserve
from services.notification import confirm, tell_customer
from services.order_flow import order
from services.payment import charge, refund
from services.shipping import cancel, create

ITEMS = [Item(sku="mug", quantity=2)]
BASE: dict[str, Any] = {"order_id": "o-1", "customer_id": "c-1", "amount": Decimal("9.90"), "items": ITEMS}


def context(step: str, undoes: str = "") -> StepContext:
    """Return an attempt of that step, or the undo of one."""
    key = f"{step}-undo" if undoes else f"{step}-key"
    return StepContext(
        flow="order", key="o-1", run="r", step=step, attempt=1, idempotency_key=key, undoes=undoes and f"{undoes}-key"
    )


def placed(**changes: Any) -> OrderPlaced:
    """Return an order in which all goes well."""
    return OrderPlaced(**{**BASE, "card": "visa", **changes})


def reserved(**changes: Any) -> StockReserved:
    """Return its reservation."""
    return StockReserved(**{**BASE, "reservation_id": "reservation-1", "card": "visa", **changes})


def charged(**changes: Any) -> PaymentCharged:
    """Return its charge."""
    return PaymentCharged(**{**BASE, "charge_id": "charge-1", **changes})


def test_the_flow_is_declared_without_a_finding() -> None:
    """No error, no warning, and its topic holds every event."""
    assert order.findings() == []
    topics = load_topics(Path(__file__).parents[2] / "topics")
    assert check_topics([order.definition], topics) == []


@pytest.mark.parametrize("scale", [10, 1_000, 20_000])
def test_the_flow_stays_well_declared_when_time_runs_fast(scale: float) -> None:
    """Divided durations still fit into each other: no errors."""
    assert [found.sentence for found in check(order.definition.scaled(scale)) if found.level == "error"] == []


def test_an_order_that_goes_well() -> None:
    """Each step's event has the fields that the next one needs."""
    stock = reserve(placed(), context("reserve"))
    assert stock == reserved()
    paid = charge(stock, context("charge"))
    assert paid == charged()
    shipped = create(paid, context("create"))
    assert shipped == ShipmentCreated(**BASE, shipment_id="shipment-1")
    done = confirm(ShipmentPicked(order_id="o-1"), context("confirm"))
    assert done == OrderConfirmed(order_id="o-1", message_id="mail-1")


@pytest.mark.parametrize(
    ("step", "event", "failure"),
    [
        (
            reserve,
            placed(items=[Item(sku="none", quantity=1)]),
            StockRejected(order_id="o-1", sku="none", reason="not enough of none"),
        ),
        (charge, reserved(card="declined"), PaymentDeclined(order_id="o-1", reason="the card was declined")),
        (
            create,
            charged(customer_id="nowhere"),
            ShipmentRejected(order_id="o-1", reason="nobody delivers to this address"),
        ),
        (
            confirm,
            ShipmentPicked(order_id="o-1+unreachable"),
            ConfirmationFailed(order_id="o-1+unreachable", reason="the mailbox does not exist"),
        ),
    ],
    ids=["reserve", "charge", "create", "confirm"],
)
def test_a_refusal_is_an_event(step: Any, event: Event, failure: Event) -> None:
    """An expected outcome is no exception: the step fails with its declared event."""
    assert step(event, context("step")) == failure


def test_each_effect_is_undone() -> None:
    """Newest first, as the tracker asks for it; the second request gets the same answer."""
    stock = reserve(placed(), context("reserve"))
    paid = charge(stock, context("charge"))
    shipped = create(paid, context("create"))
    for _ in range(2):
        assert cancel(shipped, context("cancel", "create")) == ShipmentCancelled(
            order_id="o-1", shipment_id="shipment-1"
        )
        assert refund(paid, context("refund", "charge")) == PaymentRefunded(
            order_id="o-1", charge_id="charge-1", amount=Decimal("9.90")
        )
        assert release(stock, context("release", "reserve")) == StockReleased(
            order_id="o-1", reservation_id="reservation-1"
        )


def test_a_doubt_that_was_nothing_is_answered_with_nothing() -> None:
    """No outcome is known, nothing was done: the handler says None, and the key is barred from then on."""
    assert cancel(None, context("cancel", "create")) is None
    assert refund(None, context("refund", "charge")) is None
    assert release(None, context("release", "reserve")) is None


def test_a_doubt_that_was_something_is_undone() -> None:
    """The answer was lost, the charge was made: the bank knows."""
    with pytest.raises(AnswerLostError):
        charge(reserved(card="lost"), context("charge"))
    assert refund(None, context("refund", "charge")) == PaymentRefunded(
        order_id="o-1", charge_id="charge-1", amount=Decimal("9.90")
    )


def test_a_lost_answer_is_not_asked_for_again_and_a_busy_gateway_is() -> None:
    """An exception listed in `never` ends the step at once; any other exception is retried."""
    for step in order.steps.values():
        assert not issubclass(GatewayError, step.never)
    assert issubclass(AnswerLostError, order.steps["payment.charge"].never)


def test_the_customer_is_told_why() -> None:
    """A reaction to the flow's own failure sends a letter."""
    event = OrderCancelled(order_id="o-1", reason="the card was declined")
    assert tell_customer(event, context("tell")) == CustomerNotified(order_id="o-1", message_id="letter-1")
