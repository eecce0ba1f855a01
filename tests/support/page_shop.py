"""A project for tests of the web page: an order whose key decides how it goes, so that every state can be shown.

`declined-…` is compensated, `stuck-…` cannot be, `retry-…` waits for another attempt; others wait for `Picked`.
"""

from __future__ import annotations

from typing import Annotated

from choreo import Event, Flow, Retry, Sensitive, Service, StepContext
from tests.core.shop import Cancelled, Charged, Confirmed, Picked, PickTimedOut, Refunded


class Ordered(Event):
    """A customer placed an order."""

    order_id: str
    card: Annotated[str, Sensitive()] = "4711"
    note: str = ""


class Reserved(Event):
    """Set aside."""

    order_id: str


class Released(Event):
    """Free again."""

    order_id: str


class Declined(Event):
    """Declined."""

    order_id: str
    reason: str = ""


class GatewayError(Exception):
    """The gateway does not answer."""


class LockedError(Exception):
    """The shelf is locked."""


RARELY = Retry(initial="1h", max_interval="1h", max_attempts=3)
stock, payment, desk = Service("stock"), Service("payment"), Service("desk")


@stock.step(on=Ordered, emits=Reserved)
async def reserve(event: Ordered, ctx: StepContext) -> Reserved:
    """Reserve."""
    return Reserved(order_id=event.order_id)


@reserve.compensate(emits=Released, retry=Retry(max_attempts=1))
async def release(reserved: Reserved | None, ctx: StepContext) -> Released | None:
    """Release; of a stuck order not."""
    if ctx.key.startswith("stuck-"):
        raise LockedError("the shelf is locked")
    return Released(order_id=ctx.key)


@payment.step(on=Reserved, emits=Charged, fails=Declined, timeout="30s", retry=RARELY)
async def charge(event: Reserved, ctx: StepContext) -> Charged | Declined:
    """Charge, or fail as the key says."""
    if event.order_id.startswith("retry-"):
        raise GatewayError("the gateway does not answer") from ConnectionRefusedError("gateway:443 refused it")
    if event.order_id.startswith(("declined-", "stuck-")):
        return Declined(order_id=event.order_id, reason="no funds")
    return Charged(order_id=event.order_id)


@charge.compensate(emits=Refunded)
async def refund(charged: Charged | None, ctx: StepContext) -> Refunded | None:
    """Refund."""
    return Refunded(order_id=ctx.key)


@desk.step(on=Picked, emits=Confirmed, effect=False)
async def confirm(event: Picked, ctx: StepContext) -> Confirmed:
    """Confirm."""
    return Confirmed(order_id=event.order_id)


order = Flow(
    "order",
    key="order_id",
    starts=Ordered,
    completes=Confirmed,
    fails=Cancelled,
    services=[stock, payment, desk],
    deadline="30d",
)
order.wait(on=Charged, until=Picked, timeout="24h", fails=PickTimedOut)
order.attribute("note", Ordered, field="note")
