"""The events of the order flow: facts, past tense. Each carries what later steps need.

Change a class compatibly only (`choreo schemas check`), then freeze it (`choreo schemas freeze`).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from choreo import Event

Identifier = Annotated[str, Field(min_length=1, max_length=200)]
Money = Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=2)]


class OrderPlaced(Event):
    """A customer placed an order."""

    order_id: Identifier
    article: Identifier
    quantity: Annotated[int, Field(gt=0)]
    amount: Money


class StockReserved(Event):
    """The articles are set aside."""

    order_id: Identifier
    reservation_id: Identifier
    amount: Money


class StockRejected(Event):
    """There are not so many; nothing was set aside."""

    order_id: Identifier
    reason: str


class StockReleased(Event):
    """What was set aside is free again."""

    order_id: Identifier
    reservation_id: str


class PaymentCharged(Event):
    """The customer has paid: the order is done."""

    order_id: Identifier
    charge_id: Identifier


class PaymentDeclined(Event):
    """The bank declined; nothing was charged."""

    order_id: Identifier
    reason: str


class PaymentRefunded(Event):
    """What was charged was given back."""

    order_id: Identifier
    charge_id: str
