"""The order saga that the benchmarks run: four steps, 5 % of the payments declined, handlers that do no work.

The same shape as the peers run, so that ratios mean something.
"""

from __future__ import annotations

from choreo import Event, Flow, Service, StepContext

DECLINED_EVERY = 20


def declined(number: int) -> bool:
    """Whether this order's payment is declined: 5 % are."""
    return number % DECLINED_EVERY == 7


class OrderPlaced(Event):
    """An order to be worked."""

    order_id: str
    amount: int
    declined: bool


class StockReserved(Event):
    """Stock is set aside."""

    order_id: str
    amount: int
    declined: bool


class StockReleased(Event):
    """Stock is given back."""

    order_id: str


class PaymentCharged(Event):
    """The card was charged."""

    order_id: str
    amount: int


class PaymentDeclined(Event):
    """The card was not charged."""

    order_id: str


class PaymentRefunded(Event):
    """The charge was given back."""

    order_id: str


class ShipmentCreated(Event):
    """A parcel is on its way."""

    order_id: str


class OrderConfirmed(Event):
    """The customer knows."""

    order_id: str


inventory, payment, shipping, notification = (
    Service(name) for name in ("inventory", "payment", "shipping", "notification")
)


@inventory.step(on=OrderPlaced, emits=StockReserved)
async def reserve(event: OrderPlaced, _ctx: StepContext) -> StockReserved:
    """Set stock aside."""
    return StockReserved(order_id=event.order_id, amount=event.amount, declined=event.declined)


@reserve.compensate(emits=StockReleased)
async def release(_reserved: StockReserved | None, ctx: StepContext) -> StockReleased | None:
    """Give it back."""
    return StockReleased(order_id=ctx.key)


@payment.step(on=StockReserved, emits=PaymentCharged, fails=PaymentDeclined)
async def charge(event: StockReserved, _ctx: StepContext) -> PaymentCharged | PaymentDeclined:
    """Charge, or decline one in twenty."""
    if event.declined:
        return PaymentDeclined(order_id=event.order_id)
    return PaymentCharged(order_id=event.order_id, amount=event.amount)


@charge.compensate(emits=PaymentRefunded)
async def refund(_charged: PaymentCharged | None, ctx: StepContext) -> PaymentRefunded | None:
    """Give the money back."""
    return PaymentRefunded(order_id=ctx.key)


@shipping.step(on=PaymentCharged, emits=ShipmentCreated, effect=False)
async def create(event: PaymentCharged, _ctx: StepContext) -> ShipmentCreated:
    """Create the shipment."""
    return ShipmentCreated(order_id=event.order_id)


@notification.step(on=ShipmentCreated, emits=OrderConfirmed, effect=False)
async def confirm(event: ShipmentCreated, _ctx: StepContext) -> OrderConfirmed:
    """Tell the customer."""
    return OrderConfirmed(order_id=event.order_id)


order = Flow(
    "order",
    key="order_id",
    starts=OrderPlaced,
    completes=OrderConfirmed,
    services=[inventory, payment, shipping, notification],
    deadline="1d",
)


def placed(number: int, prefix: str = "o") -> OrderPlaced:
    """The order of this number."""
    return OrderPlaced(order_id=f"{prefix}-{number}", amount=100 + number, declined=declined(number))
