"""The events of the travel flow: a trip with its bookings, and a ticket for each traveller as a child of the trip.

Change a class compatibly only (`choreo schemas check`), then freeze it (`choreo schemas freeze`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from choreo import ChildResult, Event, Part
from schemas.orders import Identifier, Money


class Traveller(Part):
    """A person who travels, and the card that pays for this person's ticket."""

    name: Identifier
    card: Identifier
    fare: Money


class TripRequested(Event):
    """A customer wants to travel."""

    trip_id: Identifier
    customer_id: Identifier
    flight: Identifier
    hotel: Identifier
    car: Identifier
    travellers: Annotated[list[Traveller], Field(min_length=1)]


class SeatsBooked(Event):
    """A seat for each traveller is booked."""

    trip_id: Identifier
    booking_id: Identifier


class SeatsRejected(Event):
    """The flight is sold out; nothing was booked."""

    trip_id: Identifier
    reason: str


class SeatsFreed(Event):
    """The seats are free again."""

    trip_id: Identifier
    booking_id: str


class RoomsBooked(Event):
    """A room for each traveller is booked."""

    trip_id: Identifier
    booking_id: Identifier


class RoomsRejected(Event):
    """The hotel is full; nothing was booked."""

    trip_id: Identifier
    reason: str


class RoomsFreed(Event):
    """The rooms are free again."""

    trip_id: Identifier
    booking_id: str


class CarBooked(Event):
    """A car is booked."""

    trip_id: Identifier
    booking_id: Identifier


class CarRejected(Event):
    """There is no such car left; nothing was booked."""

    trip_id: Identifier
    reason: str


class CarFreed(Event):
    """The car is free again."""

    trip_id: Identifier
    booking_id: str


class TripOffered(Event):
    """Flight, hotel and car are booked; the customer is to approve the trip."""

    trip_id: Identifier
    bookings: list[str]


class TripApproved(Event):
    """The customer wants the trip; from outside."""

    trip_id: Identifier


class TripRefused(Event):
    """The customer does not want the trip; from outside."""

    trip_id: Identifier


class ApprovalOverdue(Event):
    """The customer did not answer in time: the approval is escalated."""

    trip_id: Identifier
    reason: str = ""


class ManagerAsked(Event):
    """The customer's manager was asked to approve the trip."""

    trip_id: Identifier
    message_id: str = ""


class ManagerApproved(Event):
    """The manager wants the trip; from outside."""

    trip_id: Identifier


class ManagerRefused(Event):
    """The manager does not want the trip; from outside."""

    trip_id: Identifier


class ApprovalLapsed(Event):
    """Nobody answered in time."""

    trip_id: Identifier
    reason: str = ""


class TripAccepted(Event):
    """The trip is approved; the tickets are to be issued."""

    trip_id: Identifier
    approved_by: Literal["customer", "manager"]
    customer_id: Identifier
    travellers: list[Traveller]


class TicketsIssued(Event):
    """Each traveller has a ticket."""

    trip_id: Identifier
    results: list[ChildResult]
    completed: int


class TicketsFailed(Event):
    """A traveller cannot have a ticket."""

    trip_id: Identifier
    results: list[ChildResult]
    reason: str


class TripConfirmed(Event):
    """The customer approved the trip, and has the confirmation."""

    trip_id: Identifier
    message_id: str = ""


class TripConfirmedLate(Event):
    """The manager approved the trip, and the customer has the confirmation."""

    trip_id: Identifier
    message_id: str = ""


class ConfirmationUndelivered(Event):
    """The customer cannot be reached; no message was sent."""

    trip_id: Identifier
    reason: str


class TripCancelled(Event):
    """The trip failed and all that was booked for it is free again."""

    trip_id: Identifier
    reason: str = ""


class CustomerTold(Event):
    """The customer knows that the trip was cancelled."""

    trip_id: Identifier
    message_id: str = ""


class TicketRequested(Event):
    """A traveller of an approved trip needs a ticket."""

    ticket_id: Identifier
    trip_id: Identifier
    traveller: Traveller


class FareCharged(Event):
    """The traveller's card was charged."""

    ticket_id: Identifier
    charge_id: Identifier
    name: Identifier
    fare: Money


class FareDeclined(Event):
    """The card's issuer declined; nothing was charged."""

    ticket_id: Identifier
    reason: str


class FareRefunded(Event):
    """The fare was given back."""

    ticket_id: Identifier
    charge_id: str
    fare: Money


class TicketIssued(Event):
    """The traveller has a ticket."""

    ticket_id: Identifier
    number: Identifier


class TicketRefused(Event):
    """The airline issues no ticket to this traveller."""

    ticket_id: Identifier
    reason: str


class TicketVoided(Event):
    """The ticket is void."""

    ticket_id: Identifier
    number: str
