"""The auditor of trips: it finds bookings, fares and tickets that do not add up, and no others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from services.gateways.bank import Bank
from services.gateways.carrier import Carrier
from services.gateways.post import Post
from services.gateways.warehouse import Warehouse
from services.travel.audit import audit

OUTCOMES = {"t-1": "completed", "t-2": "compensated"}
FARES = {trip: [(f"{trip}-0", 9_000), (f"{trip}-1", 8_000)] for trip in OUTCOMES}
NEEDED = dict.fromkeys(OUTCOMES, 2)
PLACES = (("flights", "LH-1", 2), ("hotels", "Ritz", 2), ("cars", "van", 1))


def issue(ticket: str, cents: int, key: str = "") -> None:
    """Charge a fare and issue the ticket."""
    key = key or ticket
    Bank("till").charge(key=key, order_id=ticket, card="visa", amount=Decimal(cents) / 100)
    Carrier("tickets").book(key=key, order_id=ticket, customer="ada")


@pytest.fixture(autouse=True)
def trips(books: Path) -> None:
    """Make one completed trip, and one that was undone after its tickets were issued."""
    for trip in OUTCOMES:
        for name, place, number in PLACES:
            Warehouse(name).reserve(key=trip, order_id=trip, items=[(place, number)])
        for ticket, cents in FARES[trip]:
            issue(ticket, cents)
    Post("desk").mail(key="t-1", order_id="t-1", text="Booked")
    for ticket, _ in FARES["t-2"]:
        Carrier("tickets").cancel(shipment_key=ticket, key=f"{ticket}-undo")
        Bank("till").refund(charge_key=ticket, key=f"{ticket}-undo")
    for name, _, _ in PLACES:
        Warehouse(name).release(reserve_key="t-2", key="t-2-undo")
    Post("desk").letter(key="t-2", order_id="t-2", text="Sorry")


def test_books_that_add_up(books: Path) -> None:
    """One trip stands with all its tickets, nothing of the other."""
    assert audit(books, OUTCOMES, FARES, NEEDED) == []


def spoil_fare(books: Path) -> None:
    """Charge another fare."""
    with sqlite3.connect(books / "till.sqlite") as db:
        db.execute("UPDATE charges SET amount_cents = 1 WHERE key = 't-1-0'")


def spoil_seats(books: Path) -> None:
    """Book a seat too many, with stock that fits."""
    with sqlite3.connect(books / "flights.sqlite") as db:
        db.execute("UPDATE lines SET quantity = 3 WHERE reservation = 1")
        db.execute("UPDATE stock SET on_hand = on_hand - 1")


VIOLATIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a room is booked twice": (
        lambda _: Warehouse("hotels").reserve(key="again", order_id="t-1", items=[("Ritz", 2)]),
        "trip t-1: completed, but 2 bookings stand, not 1",
    ),
    "a car is not freed": (
        lambda _: Warehouse("cars").reserve(key="again", order_id="t-2", items=[("van", 1)]),
        "trip t-2: compensated, but 1 bookings stand, not 0",
    ),
    "seats are freed twice": (
        lambda _: Warehouse("flights").release(reserve_key="t-2", key="another key"),
        "trip t-2: booking t-2 was undone 2 times",
    ),
    "a seat too many": (spoil_seats, "trip t-1: 3 places are booked, it needs 2"),
    "a fare that is another": (spoil_fare, "ticket t-1-0: its traveller paid 1 cents, the fare is 9000"),
    "a traveller pays twice": (
        lambda _: Bank("till").charge(key="again", order_id="t-1-1", card="visa", amount=Decimal(80)),
        "ticket t-1-1: completed, but 2 charges stand, not 1",
    ),
    "a ticket of a compensated trip": (
        lambda _: issue("t-2-0", 9_000, "again"),
        "ticket t-2-0: compensated, but 1 coupons stand, not 0",
    ),
    "a ticket of nobody": (lambda _: issue("t-9-0", 1), "ticket t-9-0: unknown, but 1 charges stand, not 0"),
    "told twice": (
        lambda _: Post("desk").mail(key="again", order_id="t-1", text="Booked"),
        "trip t-1: 2 times the same mail",
    ),
}


@pytest.mark.parametrize(("spoil", "found"), VIOLATIONS.values(), ids=list(VIOLATIONS))
def test_a_violation_is_a_sentence(spoil: Callable[[Path], object], found: str, books: Path) -> None:
    """It names the trip or the ticket."""
    spoil(books)
    assert found in audit(books, OUTCOMES, FARES, NEEDED)


def test_books_that_are_missing_are_no_pass(tmp_path: Path) -> None:
    """An audit that could not check is no success."""
    found = audit(tmp_path / "elsewhere", OUTCOMES, FARES, NEEDED)
    assert len(found) == 6
    assert audit(tmp_path / "elsewhere", {}, FARES, NEEDED) == []
