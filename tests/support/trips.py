"""A travel booking: three bookings side by side, a join that needs the start, an approval that may lapse."""

from __future__ import annotations

from choreo import Event, Flow, Service, StepContext, all_of

FLOWS = ("tests.support.trips:trip",)


class TripAsked(Event):
    """A customer wants to travel."""

    trip_id: str
    city: str


class FlightBooked(Event):
    """A seat is ours."""

    trip_id: str
    seat: int


class FlightCancelled(Event):
    """The seat is free again."""

    trip_id: str


class HotelBooked(Event):
    """A room is ours."""

    trip_id: str
    room: int


class HotelFull(Event):
    """There is no room."""

    trip_id: str


class HotelCancelled(Event):
    """The room is free again."""

    trip_id: str


class CarBooked(Event):
    """A car waits for us."""

    trip_id: str


class CarCancelled(Event):
    """The car is free again."""

    trip_id: str


class TripOffered(Event):
    """All is booked; the customer may look at it."""

    trip_id: str
    text: str


class TripApproved(Event):
    """The customer wants it."""

    trip_id: str


class TripRejected(Event):
    """The customer does not want it."""

    trip_id: str


class OfferLapsed(Event):
    """The customer did not answer."""

    trip_id: str


class TripConfirmed(Event):
    """The customer can pack."""

    trip_id: str
    text: str


class TripClosed(Event):
    """The offer is gone, and so is the customer."""

    trip_id: str


flights, hotels, cars, desk = Service("flights"), Service("hotels"), Service("cars"), Service("desk")


@flights.step(on=TripAsked, emits=FlightBooked)
async def book_seat(event: TripAsked, ctx: StepContext) -> FlightBooked:
    """Book a seat."""
    return FlightBooked(trip_id=ctx.key, seat=len(event.city))


@book_seat.compensate(emits=FlightCancelled)
async def cancel_seat(booked: FlightBooked | None, ctx: StepContext) -> FlightCancelled:
    """Cancel the seat; the key is barred where it is in doubt."""
    return FlightCancelled(trip_id=ctx.key)


@hotels.step(on=TripAsked, emits=HotelBooked, fails=HotelFull)
async def book_room(event: TripAsked, ctx: StepContext) -> HotelBooked | HotelFull:
    """Book a room; Atlantis has none."""
    if event.city == "Atlantis":
        return HotelFull(trip_id=ctx.key)
    return HotelBooked(trip_id=ctx.key, room=7)


@book_room.compensate(emits=HotelCancelled)
async def cancel_room(booked: HotelBooked | None, ctx: StepContext) -> HotelCancelled:
    """Cancel the room."""
    return HotelCancelled(trip_id=ctx.key)


@cars.step(on=TripAsked, emits=CarBooked)
async def book_car(event: TripAsked, ctx: StepContext) -> CarBooked:
    """Book a car."""
    return CarBooked(trip_id=ctx.key)


@book_car.compensate(emits=CarCancelled)
async def cancel_car(booked: CarBooked | None, ctx: StepContext) -> CarCancelled:
    """Cancel the car."""
    return CarCancelled(trip_id=ctx.key)


@desk.step(on=all_of(FlightBooked, HotelBooked, CarBooked), emits=TripOffered, effect=False)
async def offer(
    hotel: HotelBooked, car: CarBooked, flight: FlightBooked, asked: TripAsked, ctx: StepContext
) -> TripOffered:
    """Offer what is booked."""
    return TripOffered(trip_id=ctx.key, text=f"{asked.city}: seat {flight.seat}, room {hotel.room}")


@desk.step(on=TripApproved, emits=TripConfirmed, effect=False)
async def confirm(event: TripApproved, offered: TripOffered, ctx: StepContext) -> TripConfirmed:
    """Confirm the offer."""
    return TripConfirmed(trip_id=ctx.key, text=offered.text)


@desk.step(on=OfferLapsed, emits=TripClosed, effect=False)
async def close(event: OfferLapsed, ctx: StepContext) -> TripClosed:
    """Close the file."""
    return TripClosed(trip_id=ctx.key)


trip = Flow(
    "trip",
    key="trip_id",
    starts=TripAsked,
    completes={TripConfirmed: "confirmed", TripClosed: "lapsed"},
    services=[flights, hotels, cars, desk],
)
trip.wait("approval", on=TripOffered, until=TripApproved, refused=TripRejected, timeout="6s", then=OfferLapsed)
