"""The events of the order flow. Each carries what later steps need, so that no step reads another's database.

Change a class compatibly only (`choreo schemas check`), then freeze it (`choreo schemas freeze`).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from choreo import Event, Part

Identifier = Annotated[str, Field(min_length=1, max_length=200)]
Money = Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=2)]


class Item(Part):
    """A quantity of one article."""

    sku: Identifier
    quantity: Annotated[int, Field(gt=0)]


class OrderPlaced(Event):
    """A customer placed an order."""

    order_id: Identifier
    customer_id: Identifier
    amount: Money
    items: Annotated[list[Item], Field(min_length=1)]
    card: Identifier


class StockReserved(Event):
    """Every item of the order is set aside in the warehouse."""

    order_id: Identifier
    reservation_id: Identifier
    customer_id: Identifier
    amount: Money
    items: list[Item]
    card: Identifier


class StockRejected(Event):
    """An item is out of stock; nothing was set aside."""

    order_id: Identifier
    sku: Identifier
    reason: str


class StockReleased(Event):
    """The stock reserved for the order is free again."""

    order_id: Identifier
    reservation_id: str
    reason: str = ""


class PaymentCharged(Event):
    """The customer's card was charged."""

    order_id: Identifier
    charge_id: Identifier
    customer_id: Identifier
    amount: Money
    items: list[Item]


class PaymentDeclined(Event):
    """The card's issuer declined; nothing was charged."""

    order_id: Identifier
    reason: str


class PaymentRefunded(Event):
    """The charge was given back."""

    order_id: Identifier
    charge_id: str
    amount: Money


class ShipmentCreated(Event):
    """The carrier has the order's shipment booked; the warehouse is to pick it."""

    order_id: Identifier
    shipment_id: Identifier
    customer_id: Identifier
    amount: Money
    items: list[Item]


class ShipmentRejected(Event):
    """The carrier does not take the shipment; nothing was booked."""

    order_id: Identifier
    reason: str


class ShipmentCancelled(Event):
    """The booked shipment was cancelled."""

    order_id: Identifier
    shipment_id: str


class ShipmentPicked(Event):
    """The warehouse picked the shipment; said from outside, by the warehouse's own system."""

    order_id: Identifier
    picked_by: str = ""


class PickTimedOut(Event):
    """Nobody picked the shipment in time."""

    order_id: Identifier
    reason: str = ""


class OrderConfirmed(Event):
    """The customer has the confirmation: the order is done."""

    order_id: Identifier
    message_id: str = ""


class ConfirmationFailed(Event):
    """The customer cannot be reached; no message was sent."""

    order_id: Identifier
    reason: str


class OrderCancelled(Event):
    """The order failed and all it did was undone."""

    order_id: Identifier
    reason: str = ""


class CustomerNotified(Event):
    """The customer knows that the order was cancelled."""

    order_id: Identifier
    message_id: str = ""
