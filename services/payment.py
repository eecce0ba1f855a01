"""Payment: charges the customer's card, and refunds."""

from __future__ import annotations

from choreo import Retry, Service, StepContext
from schemas.orders import PaymentCharged, PaymentDeclined, PaymentRefunded, StockReserved
from services.gateways.bank import Bank
from services.gateways.errors import USELESS_TO_RETRY, RefusedError

payment = Service("payment")
bank = Bank()


@payment.step(
    on=StockReserved,
    emits=PaymentCharged,
    fails=PaymentDeclined,
    timeout="30s",
    retry=Retry(initial="1s", backoff=2, max_interval="1m", max_attempts=4, never=USELESS_TO_RETRY),
)
def charge(event: StockReserved, ctx: StepContext) -> PaymentCharged | PaymentDeclined:
    """Charge once: every attempt gives the bank the same key."""
    try:
        receipt = bank.charge(key=ctx.idempotency_key, order_id=event.order_id, card=event.card, amount=event.amount)
    except RefusedError as refused:
        return PaymentDeclined(order_id=event.order_id, reason=str(refused))
    return PaymentCharged(
        order_id=event.order_id,
        charge_id=receipt.charge_id,
        customer_id=event.customer_id,
        amount=receipt.amount,
        items=event.items,
    )


@charge.compensate(emits=PaymentRefunded, timeout="30s")
def refund(charged: PaymentCharged | None, ctx: StepContext) -> PaymentRefunded | None:  # noqa: ARG001 - the bank's books say what there is to undo
    """Give the money back. In doubt, the bank knows whether there was a charge, and bars the key if not."""
    receipt = bank.refund(charge_key=ctx.undoes, key=ctx.idempotency_key)
    if receipt is None:
        return None
    return PaymentRefunded(order_id=ctx.key, charge_id=receipt.charge_id, amount=receipt.amount)
