"""Stock: sets articles aside, and puts them back when the order fails later."""

from __future__ import annotations

from choreo import Service, StepContext
from schemas.orders import OrderPlaced, StockRejected, StockReleased, StockReserved

stock = Service("stock")

QUANTITY_MAX = 100


@stock.step(on=OrderPlaced, emits=StockReserved, fails=StockRejected, timeout="10s")
async def reserve(event: OrderPlaced, ctx: StepContext) -> StockReserved | StockRejected:
    """Set the articles aside. Here you call your warehouse, and give it `ctx.idempotency_key`, so that it does so once."""
    if event.quantity > QUANTITY_MAX:
        return StockRejected(order_id=event.order_id, reason=f"there are only {QUANTITY_MAX} of {event.article}")
    return StockReserved(order_id=event.order_id, reservation_id=ctx.idempotency_key, amount=event.amount)


@reserve.compensate(emits=StockReleased, timeout="10s")
async def release(reserved: StockReserved | None, ctx: StepContext) -> StockReleased | None:
    """Put the articles back.

    `None` means that nobody knows whether `reserve` left anything: ask the warehouse for `ctx.undoes`, the key that was
    given to it, and let it refuse that key from now on. Nothing there: answer None. These pretended articles leave nothing.
    """
    if reserved is None:
        return None
    return StockReleased(order_id=ctx.key, reservation_id=reserved.reservation_id)
