"""The travel flow: its declaration, its ways to an end in virtual time, and its handlers as plain functions."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from choreo import ChildResult, Event, StepContext
from choreo.adapters.topics_yaml import check_topics, load_topics
from choreo.core.checks.checks import check
from choreo.testing import child_ended, children, elapsed, given
from schemas.travel import (
    ApprovalOverdue,
    CarBooked,
    CarRejected,
    ConfirmationUndelivered,
    CustomerTold,
    FareCharged,
    FareDeclined,
    ManagerApproved,
    ManagerAsked,
    RoomsBooked,
    RoomsRejected,
    SeatsBooked,
    SeatsRejected,
    TicketIssued,
    TicketRefused,
    TicketRequested,
    TicketsIssued,
    Traveller,
    TripAccepted,
    TripApproved,
    TripCancelled,
    TripConfirmed,
    TripConfirmedLate,
    TripRequested,
)
from services.gateways.errors import GatewayError
from services.travel.bookings import book_car, book_rooms, book_seats, free_car, free_rooms, free_seats
from services.travel.desk import accept, confirm, escalate, offer, tell_customer, tickets
from services.travel.ticket_flow import ticket
from services.travel.tickets import charge, issue, refund, void
from services.travel.trip_flow import trip

BOOKED = ("TripRequested", "SeatsBooked", "RoomsBooked", "CarBooked")
ISSUED = (*BOOKED, "TripOffered", "TripApproved", "TripAccepted", children("desk.tickets", 2))
ADA = Traveller(name="ada", card="visa", fare=Decimal("90.00"))
ASKED = TripRequested(trip_id="t-1", customer_id="ada", flight="LH-1", hotel="Ritz", car="van", travellers=[ADA, ADA])


def context(step: str, undoes: str = "", key: str = "t-1") -> StepContext:
    """Return an attempt of that step, or the undo of one."""
    own = f"{step}-undo" if undoes else f"{step}-key"
    return StepContext(
        flow="trip", key=key, run="r", step=step, attempt=1, idempotency_key=own, undoes=undoes and f"{undoes}-key"
    )


def test_the_flows_are_sound_and_their_topics_fit() -> None:
    """No finding of any check; each fact has a topic."""
    assert [*check(trip.draft()), *check(ticket.draft())] == []
    topics = load_topics(Path(__file__).parents[2] / "topics")
    assert check_topics([trip.definition, ticket.definition], topics) == []


def test_three_bookings_are_joined_and_offered() -> None:
    """Whichever comes last completes the set."""
    story = given(trip, "TripRequested", "CarBooked", "SeatsBooked").then(expected=["hotels.book"])
    story.when("RoomsBooked").then(expected=["desk.offer"])
    story.when("TripOffered").then(expected=[], waits=["TripApproved"])


@pytest.mark.parametrize("failed", ["SeatsRejected", "RoomsRejected", "CarRejected"])
def test_a_booking_that_is_declined_frees_the_others(failed: str) -> None:
    """Each of the three turns the trip; nothing is offered."""
    others = [name for name in BOOKED if name[:3] != failed[:3]]
    story = given(trip, *others).when(failed)
    story.then(status="compensating", waits=[], expected=[])


def test_a_customer_who_does_not_answer_is_escalated() -> None:
    """The manager approves, and the outcome tells so."""
    story = (
        given(trip, *BOOKED, "TripOffered").when(elapsed("12h1m")).then("ApprovalOverdue", expected=["desk.escalate"])
    )
    story.when("ManagerAsked").then(waits=["ManagerApproved"])
    story.when("ManagerApproved").then(expected=["desk.accept"], waits=[])
    story.when("TripAccepted", children("desk.tickets", 1), child_ended("desk.tickets", 0))
    story.then(expected=["desk.confirm"]).when("TripConfirmedLate").then(status="completed")


@pytest.mark.parametrize(
    "answers",
    [
        ("TripRefused",),
        (elapsed("12h1m"), "ManagerAsked", "ManagerRefused"),
        (elapsed("12h1m"), "ManagerAsked", elapsed("12h1m")),
    ],
    ids=["the customer refuses", "the manager refuses", "nobody answers"],
)
def test_without_an_approval_all_bookings_are_freed(answers: tuple[str, ...]) -> None:
    """A refusal and a lapse undo alike."""
    story = given(trip, *BOOKED, "TripOffered").when(*answers)
    freed = {"flights.book": "open", "hotels.book": "open", "cars.book": "requested"}
    story.then(status="compensating", ledger=freed, waits=[])
    story.when("CarFreed", "RoomsFreed", "SeatsFreed").then(status="compensated")


def test_a_late_answer_of_the_customer_changes_nothing() -> None:
    """The time-out stands in the log before it: the manager is asked all the same."""
    story = given(trip, *BOOKED, "TripOffered").when(elapsed("12h1m"), "TripApproved")
    story.then(expected=["desk.escalate"])


def test_a_ticket_that_fails_turns_the_trip() -> None:
    """The other traveller's ticket, which is issued, is undone with it."""
    story = given(trip, *ISSUED, child_ended("desk.tickets", 0))
    story.when(child_ended("desk.tickets", 1, "compensated")).then(status="compensating")


def test_tickets_that_were_issued_are_undone_when_the_customer_cannot_be_reached() -> None:
    """The children are one effect, and the newest: they are undone first."""
    story = given(trip, *ISSUED, child_ended("desk.tickets", 0), child_ended("desk.tickets", 1), "TicketsIssued")
    story.when("ConfirmationUndelivered").then(status="compensating")


def do(handler: object, event: Event | None, step: str, undoes: str = "", key: str = "t-1") -> object:
    """Call a handler with its event."""
    assert callable(handler)
    return handler(event, context(step, undoes, key))


@pytest.mark.parametrize(
    ("book", "free", "booked", "field"),
    [
        (book_seats, free_seats, SeatsBooked, "flight"),
        (book_rooms, free_rooms, RoomsBooked, "hotel"),
        (book_car, free_car, CarBooked, "car"),
    ],
    ids=["flight", "hotel", "car"],
)
def test_each_booking_is_made_declined_and_freed(book: object, free: object, booked: type[Event], field: str) -> None:
    """Its own books decide; a key that is freed before it was used is barred."""
    made = do(book, ASKED, "b")
    assert made == booked(trip_id="t-1", booking_id="reservation-1")
    declined = do(book, ASKED.model_copy(update={field: "none"}), "other")
    assert isinstance(declined, SeatsRejected | RoomsRejected | CarRejected)
    assert declined.reason == "not enough of none"
    assert do(free, None, "b", "b") is not None
    assert do(free, None, "other", "other") is None
    assert do(free, None, "never", "never") is None


def test_the_desk_offers_what_is_booked_and_asks_the_manager() -> None:
    """And the tickets are for each traveller of the request."""
    seats, rooms, car = (
        kind(trip_id="t-1", booking_id=number)
        for kind, number in ((SeatsBooked, "s"), (RoomsBooked, "r"), (CarBooked, "c"))
    )
    assert offer(seats, rooms, car, context("offer")).bookings == ["s", "r", "c"]
    assert do(escalate, ApprovalOverdue(trip_id="t-1"), "e") == ManagerAsked(trip_id="t-1", message_id="escalation-1")
    by_customer = accept(TripApproved(trip_id="t-1"), ASKED, context("accept"))
    assert by_customer.approved_by == "customer"
    assert accept(ManagerApproved(trip_id="t-1"), ASKED, context("accept")).approved_by == "manager"
    assert [each.ticket_id for each in tickets(by_customer, context("tickets"))] == ["t-1-0", "t-1-1"]


@pytest.mark.parametrize(
    ("by", "customer", "kind"),
    [
        ("customer", "ada", TripConfirmed),
        ("manager", "ada", TripConfirmedLate),
        ("customer", "unreachable", ConfirmationUndelivered),
    ],
)
def test_the_outcome_tells_who_approved(by: str, customer: str, kind: type[Event]) -> None:
    """A mailbox that does not exist is no outcome."""
    accepted = TripAccepted.model_validate(
        {"trip_id": "t-1", "approved_by": by, "customer_id": customer, "travellers": [ADA]}
    )
    issued = TicketsIssued(
        trip_id="t-1", results=[ChildResult(place=0, key="t-1-0", outcome="completed", reason="")], completed=1
    )
    assert type(confirm(issued, accepted, context("confirm"))) is kind
    assert do(tell_customer, TripCancelled(trip_id="t-1"), "tell") == CustomerTold(
        trip_id="t-1", message_id=f"letter-{1 if kind is ConfirmationUndelivered else 2}"
    )


def test_a_ticket_is_charged_issued_voided_and_refunded() -> None:
    """To the traveller's own card, in the till's own books."""
    asked = TicketRequested(ticket_id="t-1-0", trip_id="t-1", traveller=ADA)
    charged = do(charge, asked, "charge")
    assert isinstance(charged, FareCharged)
    assert charged.fare == ADA.fare
    assert isinstance(do(issue, charged, "issue"), TicketIssued)
    assert do(void, None, "issue", "issue", "t-1-0") is not None
    assert do(refund, None, "charge", "charge", "t-1-0") is not None
    assert do(refund, None, "never", "never", "t-1-0") is None
    assert do(void, None, "never", "never", "t-1-0") is None


def test_a_ticket_is_declined_or_refused_with_its_reason() -> None:
    """And a bank that is busy is asked again."""
    asked = TicketRequested(ticket_id="t-1-0", trip_id="t-1", traveller=ADA.model_copy(update={"card": "declined"}))
    assert isinstance(do(charge, asked, "charge"), FareDeclined)
    nobody = FareCharged(ticket_id="t-1-0", charge_id="c", name="nowhere", fare=ADA.fare)
    refused = do(issue, nobody, "issue")
    assert isinstance(refused, TicketRefused)
    assert refused.reason == "nobody of this name may fly there"
    with pytest.raises(GatewayError):
        do(charge, asked.model_copy(update={"traveller": ADA.model_copy(update={"card": "flaky:1"})}), "busy")
