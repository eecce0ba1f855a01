"""The desk: offers the trip, asks the manager, starts a ticket for each traveller, and tells the customer."""

from __future__ import annotations

from collections.abc import Iterable

from choreo import Retry, Service, StepContext, all_children, all_of, any_of
from schemas.travel import (
    ApprovalOverdue,
    CarBooked,
    ConfirmationUndelivered,
    CustomerTold,
    ManagerApproved,
    ManagerAsked,
    RoomsBooked,
    SeatsBooked,
    TicketRequested,
    TicketsFailed,
    TicketsIssued,
    TripAccepted,
    TripApproved,
    TripCancelled,
    TripConfirmed,
    TripConfirmedLate,
    TripOffered,
    TripRequested,
)
from services.gateways.errors import USELESS_TO_RETRY, RefusedError
from services.gateways.post import Post
from services.travel.ticket_flow import ticket

desk = Service("desk")
post = Post("desk")
_RETRY = Retry(never=USELESS_TO_RETRY)


@desk.step(on=all_of(SeatsBooked, RoomsBooked, CarBooked), emits=TripOffered, effect=False)
def offer(seats: SeatsBooked, rooms: RoomsBooked, car: CarBooked, ctx: StepContext) -> TripOffered:
    """Join the three bookings: the offer names all of them."""
    return TripOffered(trip_id=ctx.key, bookings=[seats.booking_id, rooms.booking_id, car.booking_id])


@desk.step(on=ApprovalOverdue, emits=ManagerAsked, effect=False, timeout="10s")
def escalate(event: ApprovalOverdue, ctx: StepContext) -> ManagerAsked:
    """Ask the manager, by a letter: nobody else answered."""
    text = f"Please approve the trip: {event.reason or 'the customer did not answer'}."
    return ManagerAsked(
        trip_id=ctx.key, message_id=post.letter(key=ctx.idempotency_key, order_id=ctx.key, way="escalation", text=text)
    )


@desk.step(on=any_of(TripApproved, ManagerApproved), emits=TripAccepted, effect=False)
def accept(event: TripApproved | ManagerApproved, asked: TripRequested, ctx: StepContext) -> TripAccepted:
    """Accept the trip for the first who approves it."""
    return TripAccepted(
        trip_id=ctx.key,
        approved_by="customer" if isinstance(event, TripApproved) else "manager",
        customer_id=asked.customer_id,
        travellers=asked.travellers,
    )


@desk.children(on=TripAccepted, flow=ticket, emits=TicketsIssued, fails=TicketsFailed, join=all_children())
def tickets(event: TripAccepted, ctx: StepContext) -> Iterable[TicketRequested]:
    """Start a ticket for each traveller; they are undone with the trip, also those that are issued."""
    for place, traveller in enumerate(event.travellers):
        yield TicketRequested(ticket_id=f"{ctx.key}-{place}", trip_id=ctx.key, traveller=traveller)


@desk.step(
    on=TicketsIssued,
    emits=(TripConfirmed, TripConfirmedLate),
    fails=ConfirmationUndelivered,
    effect=False,
    timeout="10s",
    retry=_RETRY,
)
def confirm(
    event: TicketsIssued, accepted: TripAccepted, ctx: StepContext
) -> TripConfirmed | TripConfirmedLate | ConfirmationUndelivered:
    """Confirm the trip; the outcome tells who approved it."""
    text = f"Your trip is booked, with {event.completed} tickets."
    try:
        number = post.mail(key=ctx.idempotency_key, order_id=ctx.key, text=text, address=accepted.customer_id)
    except RefusedError as refused:
        return ConfirmationUndelivered(trip_id=ctx.key, reason=str(refused))
    if accepted.approved_by == "manager":
        return TripConfirmedLate(trip_id=ctx.key, message_id=number)
    return TripConfirmed(trip_id=ctx.key, message_id=number)


@desk.step(on=TripCancelled, emits=CustomerTold, timeout="10s")
def tell_customer(event: TripCancelled, ctx: StepContext) -> CustomerTold:
    """Tell the customer when all is undone."""
    text = f"Your trip was cancelled: {event.reason or 'it could not be booked'}."
    return CustomerTold(trip_id=ctx.key, message_id=post.letter(key=ctx.idempotency_key, order_id=ctx.key, text=text))
