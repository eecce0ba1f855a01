"""Shipping: books a shipment with the carrier, and cancels it."""

from __future__ import annotations

from choreo import Retry, Service, StepContext
from schemas.orders import PaymentCharged, ShipmentCancelled, ShipmentCreated, ShipmentRejected
from services.gateways.carrier import Carrier
from services.gateways.errors import USELESS_TO_RETRY, RefusedError

shipping = Service("shipping")
carrier = Carrier()


@shipping.step(
    on=PaymentCharged, emits=ShipmentCreated, fails=ShipmentRejected, timeout="30s", retry=Retry(never=USELESS_TO_RETRY)
)
def create(event: PaymentCharged, ctx: StepContext) -> ShipmentCreated | ShipmentRejected:
    """Book the shipment; the warehouse picks it when it has hands free."""
    try:
        number = carrier.book(key=ctx.idempotency_key, order_id=event.order_id, customer=event.customer_id)
    except RefusedError as refused:
        return ShipmentRejected(order_id=event.order_id, reason=str(refused))
    return ShipmentCreated(
        order_id=event.order_id,
        shipment_id=number,
        customer_id=event.customer_id,
        amount=event.amount,
        items=event.items,
    )


@create.compensate(emits=ShipmentCancelled, timeout="30s")
def cancel(created: ShipmentCreated | None, ctx: StepContext) -> ShipmentCancelled | None:  # noqa: ARG001 - the carrier's books say what there is to undo
    """Cancel the shipment. In doubt, the carrier knows whether there is one, and bars the key if not."""
    number = carrier.cancel(shipment_key=ctx.undoes, key=ctx.idempotency_key)
    return ShipmentCancelled(order_id=ctx.key, shipment_id=number) if number else None
