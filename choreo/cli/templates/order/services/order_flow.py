"""The order on one screen: reserve the stock, then charge the payment. Who reacts to what stands in the services."""

from __future__ import annotations

from choreo import Flow
from schemas.orders import OrderPlaced, PaymentCharged
from services.payment import payment
from services.stock import stock

order = Flow(
    "order",
    key="order_id",
    starts=OrderPlaced,
    completes=PaymentCharged,
    deadline="1d",
    services=[stock, payment],
)
