"""The choreography of a trip on one screen.

Book flight, hotel and car side by side → offer → (the customer approves, or after 12 hours the manager within 12) →
a ticket for each traveller, as a child flow → confirm.
"""

from __future__ import annotations

from choreo import Flow
from schemas.travel import (
    ApprovalLapsed,
    ApprovalOverdue,
    ManagerApproved,
    ManagerAsked,
    ManagerRefused,
    TripApproved,
    TripCancelled,
    TripConfirmed,
    TripConfirmedLate,
    TripOffered,
    TripRefused,
    TripRequested,
)
from services.travel.bookings import cars, flights, hotels
from services.travel.desk import desk

trip = Flow(
    "trip",
    key="trip_id",
    starts=TripRequested,
    completes={TripConfirmed: "approved", TripConfirmedLate: "escalated"},
    fails=TripCancelled,
    deadline="5d",
    services=[flights, hotels, cars, desk],
)
trip.wait("customer", on=TripOffered, until=TripApproved, refused=TripRefused, timeout="12h", then=ApprovalOverdue)
trip.wait(
    "manager", on=ManagerAsked, until=ManagerApproved, refused=ManagerRefused, timeout="12h", fails=ApprovalLapsed
)
