"""The choreography of an order on one screen: who reacts to what stands in the services; here they come together.

Reserve stock → charge the payment → book the shipment → (the warehouse picks it, within a day) → confirm.
"""

from __future__ import annotations

from choreo import Flow
from schemas.orders import (
    OrderCancelled,
    OrderConfirmed,
    OrderPlaced,
    PickTimedOut,
    ShipmentCreated,
    ShipmentPicked,
)
from services.inventory import inventory
from services.notification import notification
from services.payment import payment
from services.shipping import shipping

order = Flow(
    "order",
    key="order_id",
    starts=OrderPlaced,
    completes=OrderConfirmed,
    fails=OrderCancelled,
    deadline="2d",
    services=[inventory, payment, shipping, notification],
)
order.wait(on=ShipmentCreated, until=ShipmentPicked, timeout="24h", fails=PickTimedOut)
