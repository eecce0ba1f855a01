"""Two flows that carry events to each other: an order asks for an invoice, and waits until it is paid."""

from __future__ import annotations

import os

from choreo import Event, Flow, Service, StepContext

FLOWS = ("tests.support.carrying:orders", "tests.support.carrying:invoices")


class OrderPlaced(Event):
    """A customer placed an order."""

    order_id: str
    cents: int = 1_000


class OrderAccepted(Event):
    """The order can be delivered."""

    order_id: str
    cents: int


class OrderConfirmed(Event):
    """The order is paid."""

    order_id: str


class InvoiceLate(Event):
    """Nobody paid in time."""

    order_id: str
    reason: str = ""


class InvoiceRequested(Event):
    """Somebody is to pay."""

    invoice_id: str
    order_id: str
    cents: int


class InvoicePaid(Event):
    """Somebody has paid: an end in one flow, and awaited in the other."""

    invoice_id: str
    order_id: str


desk, books = Service("desk"), Service("books")


@desk.step(on=OrderPlaced, emits=OrderAccepted, effect=False)
def accept(event: OrderPlaced, ctx: StepContext) -> OrderAccepted:
    """Accept every order."""
    return OrderAccepted(order_id=event.order_id, cents=event.cents)


@desk.step(on=InvoicePaid, emits=OrderConfirmed, effect=False)
def confirm(event: InvoicePaid, ctx: StepContext) -> OrderConfirmed:
    """Confirm the order of a paid invoice."""
    return OrderConfirmed(order_id=event.order_id)


@books.step(on=InvoiceRequested, emits=InvoicePaid, effect=False)
def pay(event: InvoiceRequested, ctx: StepContext) -> InvoicePaid:
    """Take the money."""
    return InvoicePaid(invoice_id=event.invoice_id, order_id=event.order_id)


orders = Flow("orders", key="order_id", starts=OrderPlaced, completes=OrderConfirmed, services=[desk])
orders.wait(on=OrderAccepted, until=InvoicePaid, timeout="1h", fails=InvoiceLate)
invoices = Flow("invoices", key="invoice_id", starts=InvoiceRequested, completes=InvoicePaid, services=[books])

refused = {int(amount) for amount in os.environ.get("TEST_REFUSED", "").split()}
"""Amounts at which `invoice_for` fails, as a function with a fault does."""


def invoice_for(event: OrderAccepted) -> InvoiceRequested | None:
    """Return the invoice of an order; a present needs none."""
    if event.cents in refused:
        message = f"no rate for {event.cents} cents"
        raise ValueError(message)
    if not event.cents:
        return None
    return InvoiceRequested(invoice_id=f"i-{event.order_id}", order_id=event.order_id, cents=event.cents)


orders.carries(OrderAccepted, to=invoices, makes=invoice_for)
invoices.carries(InvoicePaid, to=orders)
