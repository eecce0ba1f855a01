"""Payment: charges the customer, and gives the money back."""

from __future__ import annotations

from decimal import Decimal

from choreo import Retry, Service, StepContext
from schemas.orders import PaymentCharged, PaymentDeclined, PaymentRefunded, StockReserved

payment = Service("payment")

AMOUNT_MAX = Decimal(1_000)


@payment.step(
    on=StockReserved,
    emits=PaymentCharged,
    fails=PaymentDeclined,
    timeout="30s",
    retry=Retry(max_attempts=5),
    deadline="15m",
)
async def charge(event: StockReserved, ctx: StepContext) -> PaymentCharged | PaymentDeclined:
    """Charge once: every attempt gives the bank the same `ctx.idempotency_key`. What it raises is tried again."""
    if event.amount > AMOUNT_MAX:
        return PaymentDeclined(order_id=event.order_id, reason=f"{event.amount} is above the card's limit")
    return PaymentCharged(order_id=event.order_id, charge_id=ctx.idempotency_key)


@charge.compensate(emits=PaymentRefunded, timeout="30s")
async def refund(charged: PaymentCharged | None, ctx: StepContext) -> PaymentRefunded | None:
    """Give the money back. `None`: the bank knows, by `ctx.undoes`, whether there was a charge; see `stock.release`."""
    if charged is None:
        return None
    return PaymentRefunded(order_id=ctx.key, charge_id=charged.charge_id)
