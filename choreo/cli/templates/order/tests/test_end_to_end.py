"""Everything together: both services and the tracker in this process, with the log in memory."""

import asyncio
from decimal import Decimal

from choreo.settings import load
from choreo.wiring import everything, open_app, run
from schemas.orders import OrderPlaced


async def outcome_of(order: OrderPlaced) -> tuple[str, list[str]]:
    """Place the order, wait until its run has ended, and answer its status and the types of its events."""
    async with asyncio.timeout(30), open_app(load(), memory=True) as app:
        stop = asyncio.Event()
        running = asyncio.create_task(run(app, everything(app, rest=False), stop))
        try:
            receipt = await app.publisher.publish("order", order)
            await app.queries.reached(receipt.position, timeout_s=10)
            events = [row.type async for row in app.queries.follow("order", order.order_id) if row]
            return (await app.queries.instance("order", order.order_id)).row.status, events
        finally:
            stop.set()
            await running


def test_an_order_that_can_be_paid_completes() -> None:
    """Each step reacts to the event of the one before."""
    placed = OrderPlaced(order_id="o-1", article="lamp", quantity=1, amount=Decimal("49.90"))
    status, events = asyncio.run(outcome_of(placed))
    assert status == "completed"
    assert events == ["OrderPlaced", "StockReserved", "PaymentCharged", "choreo.FlowCompleted"]


def test_an_order_that_cannot_be_paid_gives_its_articles_back() -> None:
    """What was done is undone, newest first."""
    placed = OrderPlaced(order_id="o-2", article="lamp", quantity=1, amount=Decimal(4_990))
    status, events = asyncio.run(outcome_of(placed))
    assert status == "compensated"
    assert events[:3] == ["OrderPlaced", "StockReserved", "PaymentDeclined"]
    assert "StockReleased" in events
