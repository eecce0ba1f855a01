"""The trips that `choreo demo` books: of every kind, with how each must end, and the people who approve them.

Each trip's own data says which call goes wrong (see gateways/behaviour.py); the running system knows no kinds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple

from choreo import Event
from schemas.travel import ManagerApproved, ManagerRefused, Traveller, TripApproved, TripRefused, TripRequested
from services.gateways.warehouse import Warehouse
from services.mixing import mixed
from services.travel import audit as books_audit

APPROVED, ESCALATED, COMPENSATED = "approved", "escalated", "compensated"
Answer = Literal["yes", "no", "nothing"]


class Kind(NamedTuple):
    """A kind of trip: how many of twenty (`share`), how it must end, what its data says, and who answers what."""

    name: str
    share: int
    ends: str
    flight: str = "LH-1"
    hotel: str = "Ritz"
    car: str = "van"
    card: str = "visa"
    """The card of the last traveller."""
    traveller: str = "ada"
    """The name of the last traveller."""
    customer: str = "ada"
    customer_says: Answer = "yes"
    manager_says: Answer = "nothing"
    started_twice: bool = False


KINDS = (
    Kind("all well", 5, APPROVED),
    Kind("manager approves", 2, ESCALATED, customer_says="nothing", manager_says="yes"),
    Kind("started twice", 1, APPROVED, started_twice=True),
    Kind("hotel fails twice, then works", 1, APPROVED, hotel="Ritz+flaky:2"),
    Kind("flight sold out", 1, COMPENSATED, flight="none"),
    Kind("hotel full", 1, COMPENSATED, hotel="none"),
    Kind("no car left", 1, COMPENSATED, car="none"),
    Kind("answer of the hotel lost", 1, COMPENSATED, hotel="Ritz+lost"),
    Kind("customer refuses", 1, COMPENSATED, customer_says="no"),
    Kind("manager refuses", 1, COMPENSATED, customer_says="nothing", manager_says="no"),
    Kind("nobody approves", 1, COMPENSATED, customer_says="nothing"),
    Kind("last traveller's card declined", 1, COMPENSATED, card="declined"),
    Kind("last traveller's ticket refused", 1, COMPENSATED, traveller="nowhere"),
    Kind("all tickets issued, then undone", 1, COMPENSATED, customer="unreachable"),
    Kind("a refund fails twice, then works", 1, COMPENSATED, card="visa+sticky-refund:2", customer="unreachable"),
)


class Placed(NamedTuple):
    """One trip of the demo."""

    kind: Kind
    event: TripRequested


class TravelDemo:
    """The parts that `choreo demo` asks of a project: trips, the people who approve them, and an audit."""

    flow = "trip"
    flows = ("services.travel.trip_flow:trip", "services.travel.ticket_flow:ticket")
    unit = "trip"
    books = "Seats, rooms, cars, fares and tickets"
    shows = "all tickets issued, then undone"
    time_scale = 7_200.0
    """Twelve hours' wait for the customer takes six seconds."""
    listens = frozenset({"TripOffered", "ManagerAsked"})
    """Events that the outside world answers."""

    def prepare(self, folder: Path) -> None:
        """Fresh books in this folder, places for every trip."""
        os.environ["CHOREO_BOOKS_DIR"] = str(folder)
        for name, place in (("flights", "LH-1"), ("hotels", "Ritz"), ("cars", "van")):
            Warehouse(name).stock_up(place, 1_000_000)

    def orders(self, count: int) -> list[Placed]:
        """So many trips, the kinds well mixed; every kind is there from twenty trips on."""
        return [Placed(self.kind_of(number), self._trip(number)) for number in range(count)]

    def kind_of(self, number: int) -> Kind:
        """The kind of the trip with this number: each twenty has every kind, mixed."""
        return mixed(KINDS, number, stride=7)

    def answer(self, key: str, type_: str) -> Event | bytes | None:
        """Return the customer's answer to an offer, or the manager's after the customer gave none."""
        kind = self.kind_of(int(key.removeprefix("t-")))
        if type_ == "TripOffered":
            answers = {"yes": TripApproved(trip_id=key), "no": TripRefused(trip_id=key)}
            return answers.get(kind.customer_says)
        by_manager = {"yes": ManagerApproved(trip_id=key), "no": ManagerRefused(trip_id=key)}
        return by_manager.get(kind.manager_says)

    def audit(self, folder: Path, outcomes: Mapping[str, str]) -> list[str]:
        """Whether bookings, money and tickets add up, by the outside systems' own books."""
        trips = {key: self._trip(int(key.removeprefix("t-"))).travellers for key in outcomes}
        fares = {
            key: [(f"{key}-{place}", round(each.fare * 100)) for place, each in enumerate(travellers)]
            for key, travellers in trips.items()
        }
        return books_audit.audit(folder, outcomes, fares, {key: len(each) for key, each in trips.items()})

    def _trip(self, number: int) -> TripRequested:
        kind = self.kind_of(number)
        fare = Decimal(100 + number % 50)
        others = [Traveller(name="ada", card="visa", fare=fare + place) for place in range(1 + number % 3)]
        last = Traveller(name=kind.traveller, card=kind.card, fare=fare)
        return TripRequested(
            trip_id=f"t-{number:04}",
            customer_id=kind.customer,
            flight=kind.flight,
            hotel=kind.hotel,
            car=kind.car,
            travellers=[*others, last],
        )
