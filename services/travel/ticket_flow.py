"""The child flow of a trip: charge one traveller's fare → issue the ticket."""

from __future__ import annotations

from choreo import Flow
from schemas.travel import TicketIssued, TicketRequested
from services.travel.tickets import ticketing, till

ticket = Flow(
    "ticket",
    key="ticket_id",
    starts=TicketRequested,
    completes=TicketIssued,
    deadline="1d",
    services=[till, ticketing],
)
