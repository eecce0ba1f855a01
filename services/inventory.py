"""Inventory: sets an order's items aside in the warehouse, and puts them back."""

from __future__ import annotations

from choreo import Retry, Service, StepContext
from schemas.orders import OrderPlaced, StockRejected, StockReleased, StockReserved
from services.gateways.errors import USELESS_TO_RETRY, OutOfStockError
from services.gateways.warehouse import Warehouse

inventory = Service("inventory")
warehouse = Warehouse()


@inventory.step(
    on=OrderPlaced, emits=StockReserved, fails=StockRejected, timeout="10s", retry=Retry(never=USELESS_TO_RETRY)
)
def reserve(event: OrderPlaced, ctx: StepContext) -> StockReserved | StockRejected:
    """Set every item aside, or none."""
    items = [(item.sku, item.quantity) for item in event.items]
    try:
        number = warehouse.reserve(key=ctx.idempotency_key, order_id=event.order_id, items=items)
    except OutOfStockError as lacking:
        return StockRejected(order_id=event.order_id, sku=lacking.sku, reason=str(lacking))
    return StockReserved(
        order_id=event.order_id,
        reservation_id=number,
        customer_id=event.customer_id,
        amount=event.amount,
        items=event.items,
        card=event.card,
    )


@reserve.compensate(emits=StockReleased, timeout="10s")
def release(reserved: StockReserved | None, ctx: StepContext) -> StockReleased | None:  # noqa: ARG001 - the warehouse's books say what there is to undo
    """Put the items back. In doubt, the warehouse knows whether there are any, and bars the key if not."""
    number = warehouse.release(reserve_key=ctx.undoes, key=ctx.idempotency_key)
    return StockReleased(order_id=ctx.key, reservation_id=number) if number else None
