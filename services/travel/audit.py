"""Do seats, rooms, cars, money and tickets add up? Compares the outside systems' books with how the trips ended.

Knows nothing of the services, of choreo or of its log. A ticket belongs to its trip: it stands if the trip completed.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from services import audit as books

Fares = Mapping[str, Sequence[tuple[str, int]]]
"""Each trip's tickets: the id, and the fare in cents."""


def audit(directory: Path, outcomes: Mapping[str, str], fares: Fares, needed: Mapping[str, int]) -> list[str]:
    """Return every violation, as a sentence; empty when all adds up.

    `outcomes` has each trip's status, `needed` its number of seats and rooms. Of a completed trip exactly one booking
    of each kind stands, and a paid ticket for each traveller; of a compensated one nothing; nothing is undone twice.
    """
    tickets = {ticket: outcomes[trip] for trip in outcomes for ticket, _ in fares[trip]}
    found: list[str] = []
    for name, seats in (("flights", needed), ("hotels", needed), ("cars", dict.fromkeys(needed, 1))):
        found += books.read(directory, name, partial(_bookings, outcomes=outcomes, needed=seats), outcomes)
    cents = dict(pair for trip in outcomes for pair in fares[trip])
    found += books.read(directory, "till", partial(_fares, tickets=tickets, cents=cents), outcomes)
    found += books.read(
        directory, "tickets", partial(books.carrier, outcomes=tickets, unit="ticket", what="coupon"), outcomes
    )
    found += books.read(directory, "desk", partial(books.post, outcomes=outcomes, unit="trip"), outcomes)
    return found


def _bookings(db: sqlite3.Connection, outcomes: Mapping[str, str], needed: Mapping[str, int]) -> Iterator[str]:
    yield from books.warehouse(db, outcomes, "trip", "booking")
    sql = "SELECT order_id, quantity FROM lines JOIN reservations ON number = reservation WHERE status = 'reserved'"
    for trip, quantity in db.execute(sql):
        if quantity != needed.get(trip, quantity):
            yield f"trip {trip}: {quantity} places are booked, it needs {needed[trip]}"


def _fares(db: sqlite3.Connection, tickets: Mapping[str, str], cents: Mapping[str, int]) -> Iterator[str]:
    yield from books.bank(db, tickets, "ticket")
    taken: Counter[str] = Counter()
    for ticket, amount in db.execute("SELECT order_id, amount_cents FROM charges WHERE status = 'charged'"):
        taken[ticket] += amount
    for ticket, amount in taken.items():
        if amount != cents.get(ticket, amount):
            yield f"ticket {ticket}: its traveller paid {amount} cents, the fare is {cents[ticket]}"
