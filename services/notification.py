"""Notification: tells the customer how the order ended."""

from __future__ import annotations

from choreo import Retry, Service, StepContext
from schemas.orders import ConfirmationFailed, CustomerNotified, OrderCancelled, OrderConfirmed, ShipmentPicked
from services.gateways.errors import USELESS_TO_RETRY, RefusedError
from services.gateways.post import Post

notification = Service("notification")
post = Post()


@notification.step(
    on=ShipmentPicked,
    emits=OrderConfirmed,
    fails=ConfirmationFailed,
    effect=False,
    timeout="10s",
    retry=Retry(never=USELESS_TO_RETRY),
)
def confirm(event: ShipmentPicked, ctx: StepContext) -> OrderConfirmed | ConfirmationFailed:
    """The last step: a message is not undone. Where it is in doubt, the letter of `tell_customer` follows."""
    try:
        number = post.mail(key=ctx.idempotency_key, order_id=event.order_id, text="Your order is on its way.")
    except RefusedError as refused:
        return ConfirmationFailed(order_id=event.order_id, reason=str(refused))
    return OrderConfirmed(order_id=event.order_id, message_id=number)


@notification.step(on=OrderCancelled, emits=CustomerNotified, timeout="10s")
def tell_customer(event: OrderCancelled, ctx: StepContext) -> CustomerNotified:
    """A reaction: it runs when all is undone, and has nothing to undo itself."""
    text = f"Your order was cancelled: {event.reason or 'it could not be completed'}."
    return CustomerNotified(
        order_id=event.order_id,
        message_id=post.letter(key=ctx.idempotency_key, order_id=event.order_id, text=text),
    )
