"""Two flows and a child flow whose handlers note the baggage that they get, and add to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from choreo import Event, Flow, Retry, Service, StepContext, all_of
from tests.support.running import importable

FLOWS = ("luggage_project:travel", "luggage_project:bag", "luggage_project:books")


class Asked(Event):
    """Somebody wants to travel."""

    trip_id: str
    fails: bool = False


class Opened(Event):
    """A file is open."""

    trip_id: str


class Closed(Event):
    """The file is closed again."""

    trip_id: str


class FlightBooked(Event):
    """A seat is ours."""

    trip_id: str


class HotelBooked(Event):
    """A room is ours."""

    trip_id: str


class Offered(Event):
    """The customer may look at it."""

    trip_id: str


class Approved(Event):
    """The customer wants it."""

    trip_id: str


class Lapsed(Event):
    """The customer did not answer."""

    trip_id: str


class Prepared(Event):
    """All is ready for the day."""

    trip_id: str


class DayCame(Event):
    """The day is here."""

    trip_id: str


class BagsSent(Event):
    """All bags are there."""

    trip_id: str


class BagsLost(Event):
    """A bag is lost."""

    trip_id: str


class Left(Event):
    """The customer travels."""

    trip_id: str


class Missed(Event):
    """The customer came too late."""

    trip_id: str


class BagTaken(Event):
    """A bag is to be sent."""

    bag_id: str


class BagSent(Event):
    """The bag is there."""

    bag_id: str


class BagReturned(Event):
    """The bag is with its owner again."""

    bag_id: str


class Billed(Event):
    """A bill is to be written."""

    bill_id: str


class Written(Event):
    """The bill is written."""

    bill_id: str


def bill_for(event: Left) -> Billed:
    """Return the bill of a trip."""
    return Billed(bill_id=event.trip_id)


class Luggage:
    """The flows, and by step the baggage of each attempt."""

    def __init__(self, patience: str) -> None:
        """Let an offer lapse after this time."""
        self.seen: dict[str, list[Mapping[str, str]]] = {}
        services = (self._desk(), self._bookings(), self._gate())
        travel = Flow("travel", key="trip_id", starts=Asked, completes=Left, services=services, deadline="1d")
        travel.wait("approval", on=Offered, until=Approved, timeout=patience, then=Lapsed)
        travel.timer("day", on=Prepared, after="1s", emits=DayCame)
        books = Service("books")

        @books.step(on=Billed, emits=Written, effect=False)
        async def write(event: Billed, ctx: StepContext) -> Written:
            self.note(ctx)
            return Written(bill_id=ctx.key)

        bills = Flow("books", key="bill_id", starts=Billed, completes=Written, services=[books])
        travel.carries(Left, to=bills, makes=bill_for)
        importable("luggage_project", travel=travel, bag=self.bag, books=bills)

    def note(self, ctx: StepContext, **more: str) -> None:
        """Note the baggage of an attempt, and add to it."""
        self.seen.setdefault(ctx.step, []).append(dict(ctx.baggage))
        for name, value in more.items():
            ctx.set_baggage(name, value)

    def _desk(self) -> Service:
        desk = Service("desk")
        later = Retry(initial="50ms", max_attempts=2, inline_up_to=0)

        @desk.step(name="open", on=Asked, emits=Opened, retry=later)
        async def open_file(event: Asked, ctx: StepContext) -> Opened:
            self.note(ctx, desk="7", **{f"attempt{ctx.attempt}": "1"})
            if ctx.attempt == 1:
                raise TimeoutError
            return Opened(trip_id=ctx.key)

        @open_file.compensate(emits=Closed)
        async def close_file(opened: Opened | None, ctx: StepContext) -> Closed:
            self.seen.setdefault("undo", []).append(dict(ctx.baggage))
            return Closed(trip_id=ctx.key)

        @desk.step(on=all_of(FlightBooked, HotelBooked), emits=Offered, effect=False)
        async def offer(flight: FlightBooked, hotel: HotelBooked, ctx: StepContext) -> Offered:
            self.note(ctx)
            return Offered(trip_id=ctx.key)

        @desk.step(on=Approved, emits=Prepared, effect=False)
        async def prepare(event: Approved, ctx: StepContext) -> Prepared:
            self.note(ctx)
            return Prepared(trip_id=ctx.key)

        @desk.step(on=Lapsed, emits=Prepared, effect=False)
        async def guess(event: Lapsed, ctx: StepContext) -> Prepared:
            self.note(ctx)
            return Prepared(trip_id=ctx.key)

        return desk

    def _bookings(self) -> Service:
        bookings = Service("bookings")

        @bookings.step(on=Opened, emits=FlightBooked, effect=False)
        async def flight(event: Opened, ctx: StepContext) -> FlightBooked:
            self.note(ctx, flight="LH1", last="flight")
            return FlightBooked(trip_id=ctx.key)

        @bookings.step(on=Opened, emits=HotelBooked, effect=False)
        async def hotel(event: Opened, ctx: StepContext) -> HotelBooked:
            self.note(ctx, hotel="Ritz", last="hotel")
            return HotelBooked(trip_id=ctx.key)

        return bookings

    def _gate(self) -> Service:
        gate, belt = Service("gate"), Service("belt")

        @belt.step(on=BagTaken, emits=BagSent)
        async def send(event: BagTaken, ctx: StepContext) -> BagSent:
            self.note(ctx, belt="3")
            return BagSent(bag_id=ctx.key)

        @send.compensate(emits=BagReturned)
        async def back(sent: BagSent | None, ctx: StepContext) -> BagReturned:
            self.seen.setdefault("bag back", []).append(dict(ctx.baggage))
            return BagReturned(bag_id=ctx.key)

        self.bag = Flow("bag", key="bag_id", starts=BagTaken, completes=BagSent, services=[belt], deadline="1d")

        @gate.children(on=DayCame, flow=self.bag, emits=BagsSent, fails=BagsLost, deadline="2h")
        def bags(event: DayCame, ctx: StepContext) -> Iterable[BagTaken]:
            self.note(ctx, gate="12")
            yield BagTaken(bag_id=f"{ctx.key}-0")

        @gate.step(on=BagsSent, emits=Left, fails=Missed, effect=False)
        async def leave(event: BagsSent, ctx: StepContext) -> Left | Missed:
            self.note(ctx)
            return Missed(trip_id=ctx.key) if ctx.key.startswith("late") else Left(trip_id=ctx.key)

        return gate
