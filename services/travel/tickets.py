"""Tickets: a child flow for each traveller. The till charges the fare, the airline issues the ticket."""

from __future__ import annotations

from choreo import Retry, Service, StepContext
from schemas.travel import (
    FareCharged,
    FareDeclined,
    FareRefunded,
    TicketIssued,
    TicketRefused,
    TicketRequested,
    TicketVoided,
)
from services.gateways.bank import Bank
from services.gateways.carrier import Carrier
from services.gateways.errors import USELESS_TO_RETRY, RefusedError

till, ticketing = Service("till"), Service("ticketing")
bank, airline = Bank("till"), Carrier("tickets", "nobody of this name may fly there")
_RETRY = Retry(never=USELESS_TO_RETRY)


@till.step(on=TicketRequested, emits=FareCharged, fails=FareDeclined, timeout="10s", retry=_RETRY)
def charge(event: TicketRequested, ctx: StepContext) -> FareCharged | FareDeclined:
    """Charge the fare once, to the traveller's own card."""
    who = event.traveller
    try:
        receipt = bank.charge(key=ctx.idempotency_key, order_id=event.ticket_id, card=who.card, amount=who.fare)
    except RefusedError as refused:
        return FareDeclined(ticket_id=event.ticket_id, reason=str(refused))
    return FareCharged(ticket_id=event.ticket_id, charge_id=receipt.charge_id, name=who.name, fare=receipt.amount)


@charge.compensate(emits=FareRefunded, timeout="10s")
def refund(charged: FareCharged | None, ctx: StepContext) -> FareRefunded | None:  # noqa: ARG001 - the bank's books say it
    """Give the fare back. In doubt, the bank knows whether there was a charge, and bars the key if not."""
    receipt = bank.refund(charge_key=ctx.undoes, key=ctx.idempotency_key)
    if receipt is None:
        return None
    return FareRefunded(ticket_id=ctx.key, charge_id=receipt.charge_id, fare=receipt.amount)


@ticketing.step(on=FareCharged, emits=TicketIssued, fails=TicketRefused, timeout="10s", retry=_RETRY)
def issue(event: FareCharged, ctx: StepContext) -> TicketIssued | TicketRefused:
    """Issue the ticket to the traveller's name."""
    try:
        number = airline.book(key=ctx.idempotency_key, order_id=event.ticket_id, customer=event.name)
    except RefusedError as refused:
        return TicketRefused(ticket_id=event.ticket_id, reason=str(refused))
    return TicketIssued(ticket_id=event.ticket_id, number=number)


@issue.compensate(emits=TicketVoided, timeout="10s")
def void(issued: TicketIssued | None, ctx: StepContext) -> TicketVoided | None:  # noqa: ARG001 - the books say it
    """Make the ticket void."""
    number = airline.cancel(shipment_key=ctx.undoes, key=ctx.idempotency_key)
    return TicketVoided(ticket_id=ctx.key, number=number) if number else None
