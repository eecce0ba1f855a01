"""A small shop that is declared well, for the tests of wrong declarations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from choreo import Event, Flow, Retry, Service, StepContext


class Placed(Event):
    """An order came in."""

    order_id: str


class Charged(Event):
    """It is paid."""

    order_id: str


class Declined(Event):
    """It cannot be paid."""

    order_id: str


class Refunded(Event):
    """The money is back."""

    order_id: str


class Picked(Event):
    """The goods are taken."""

    order_id: str


class PickTimedOut(Event):
    """Nobody took the goods."""

    order_id: str


class Confirmed(Event):
    """The customer knows."""

    order_id: str


class Cancelled(Event):
    """The order is undone."""

    order_id: str
    reason: str


def context(**changes: Any) -> StepContext:
    """Return the circumstances of a first attempt."""
    values: dict[str, Any] = {"flow": "order", "key": "o-1", "run": "r", "step": "payment.charge", "attempt": 1}
    return StepContext(**{**values, "idempotency_key": "k", **changes})


def charge(event: Placed, ctx: StepContext) -> Charged | Declined:
    """Charge: a well-hinted handler."""
    return Charged(order_id=event.order_id)


def refund(charged: Charged | None, ctx: StepContext) -> Refunded | None:
    """Refund: a well-hinted compensation."""
    return Refunded(order_id=charged.order_id) if charged else None


def shop() -> tuple[Service, Service]:
    """Return two services that are declared well."""
    payment, mail = Service("payment"), Service("mail")
    step = payment.step(on=Placed, emits=Charged, fails=Declined, timeout="10s", retry=Retry(max_attempts=2))(charge)
    step.compensate(emits=Refunded, deadline="5m")(refund)

    @mail.step(on=Picked, emits=Confirmed, effect=False)
    async def confirm(event: Picked, ctx: StepContext) -> Confirmed:
        return Confirmed(order_id=event.order_id)

    @mail.step(on=Cancelled)
    def tell(event: Cancelled, ctx: StepContext) -> None:
        """Send it."""

    return payment, mail


def order(services: Sequence[Service], **changes: Any) -> Flow:
    """Return the flow of these services, with its wait."""
    options: dict[str, Any] = {"key": "order_id", "starts": Placed, "completes": Confirmed, "fails": Cancelled}
    flow = Flow("order", services=services, **{**options, **changes})
    flow.wait(on=Charged, until=Picked, timeout="24h", fails=PickTimedOut)
    return flow
