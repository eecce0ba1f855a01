"""A journey that tries to fly, and takes the train where that fails: the flight is a child that undoes itself."""

from __future__ import annotations

from collections.abc import Iterable

from choreo import Event, Flow, Service, StepContext, field, otherwise, tolerate
from tests.support.running import importable

FLOWS = ("journey_project:journey", "journey_project:flight")


class JourneyWanted(Event):
    """Somebody wants to travel."""

    journey_id: str


class FlightWanted(Event):
    """A flight and a hotel at its end are wanted."""

    flight_id: str


class SeatBooked(Event):
    """There is a seat."""

    flight_id: str


class SeatGivenBack(Event):
    """The seat is free again."""

    flight_id: str


class HotelBooked(Event):
    """There is a room."""

    flight_id: str


class HotelFull(Event):
    """There is no room."""

    flight_id: str


class FlightTried(Event):
    """The flight is booked as a whole, or undone as a whole."""

    journey_id: str
    failed: int


class TrainBooked(Event):
    """It goes by train."""

    journey_id: str


class JourneyReady(Event):
    """All is booked."""

    journey_id: str


class Journey:
    """Both flows, and the bookings that stand."""

    def __init__(self) -> None:
        self.bookings: list[str] = []
        travel, desk = Service("travel"), Service("desk")

        @desk.children(on=JourneyWanted, flow=self._flight(), emits=FlightTried, join=tolerate(1))
        def fly(event: JourneyWanted, ctx: StepContext) -> Iterable[FlightWanted]:
            return [FlightWanted(flight_id=event.journey_id)]

        @travel.step(on=FlightTried, emits=TrainBooked, effect=False, when=field("failed") > 0)
        def take_the_train(event: FlightTried, ctx: StepContext) -> TrainBooked:
            self.bookings.append(f"train {ctx.key}")
            return TrainBooked(journey_id=event.journey_id)

        @travel.step(on=FlightTried, emits=JourneyReady, effect=False, when=otherwise())
        def fly_away(event: FlightTried, ctx: StepContext) -> JourneyReady:
            return JourneyReady(journey_id=event.journey_id)

        @desk.step(on=TrainBooked, emits=JourneyReady, effect=False)
        def tell(event: TrainBooked, ctx: StepContext) -> JourneyReady:
            return JourneyReady(journey_id=event.journey_id)

        services = [desk, travel]
        self.journey = Flow(
            "journey", key="journey_id", starts=JourneyWanted, completes=JourneyReady, services=services, deadline="2d"
        )
        importable("journey_project", journey=self.journey, flight=self.journey.child_flows["flight"])

    def _flight(self) -> Flow:
        air, hotel = Service("air"), Service("hotel")

        @air.step(on=FlightWanted, emits=SeatBooked)
        def book(event: FlightWanted, ctx: StepContext) -> SeatBooked:
            self.bookings.append(f"seat {ctx.key}")
            return SeatBooked(flight_id=event.flight_id)

        @book.compensate(emits=SeatGivenBack)
        def give_back(booked: SeatBooked | None, ctx: StepContext) -> SeatGivenBack:
            self.bookings.remove(f"seat {ctx.key}")
            return SeatGivenBack(flight_id=ctx.key)

        @hotel.step(on=SeatBooked, emits=HotelBooked, fails=HotelFull, effect=False)
        def reserve(event: SeatBooked, ctx: StepContext) -> HotelBooked | HotelFull:
            if ctx.key.startswith("full"):
                return HotelFull(flight_id=event.flight_id)
            self.bookings.append(f"room {ctx.key}")
            return HotelBooked(flight_id=event.flight_id)

        services = [air, hotel]
        return Flow(
            "flight", key="flight_id", starts=FlightWanted, completes=HotelBooked, services=services, deadline="1d"
        )
