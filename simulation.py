"""Hooks of `choreo simulate` for orders and trips: events that the gateways can take, and audits of their books."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from random import Random

from choreo.testing import EndedRun, Hooks
from schemas.orders import Item, OrderPlaced
from schemas.travel import Traveller, TripRequested

hooks = Hooks()

_CARDS = ("visa", "visa", "visa", "visa+flaky:2", "declined", "visa+lost", "visa+late:40", "visa+sticky-refund:2")
_PLACES = ("free", "free", "free", "free", "free+flaky:2", "free+lost", "none")
_STANDING = (
    ("bank", "charges", "charged", "order"),
    ("warehouse", "reservations", "reserved", "order"),
    ("carrier", "shipments", "booked", "order"),
    ("flights", "reservations", "reserved", "trip"),
    ("hotels", "reservations", "reserved", "trip"),
    ("cars", "reservations", "reserved", "trip"),
    ("till", "charges", "charged", "ticket"),
    ("tickets", "shipments", "booked", "ticket"),
)
"""Books: file, table, status of an effect that stands, flow."""
_UNDONE = (
    ("refunds", "charge_key", ("bank", "till")),
    ("releases", "reserve_key", ("warehouse", "flights", "hotels", "cars")),
    ("cancellations", "shipment_key", ("carrier", "tickets")),
)
"""Books of what was undone: table, column of the key, files."""


@hooks.makes(OrderPlaced)
def placed(chance: Random, key: str) -> OrderPlaced:
    """Make an order of a seed's own kind: its card and customer tell the gateways how to behave."""
    return OrderPlaced(
        order_id=key,
        customer_id=chance.choice(("carla", "carla", "carla", "nowhere", "carl+slow:2", "carl+sticky-cancel:1")),
        amount=Decimal(chance.randint(100, 99_999)) / 100,
        items=[Item(sku="teapot", quantity=chance.randint(1, 3))],
        card=chance.choice(_CARDS),
    )


@hooks.makes(TripRequested)
def requested(chance: Random, key: str) -> TripRequested:
    """Make a trip of a seed's own kind, for one to three travellers."""
    return TripRequested(
        trip_id=key,
        customer_id=chance.choice(("carla", "carla", "carla", "unreachable")),
        flight=chance.choice(_PLACES),
        hotel=chance.choice(_PLACES),
        car=chance.choice(_PLACES),
        travellers=[
            Traveller(
                name=chance.choice(("ada", "ada", "ada", "ada", "nowhere")),
                card=chance.choice(_CARDS),
                fare=Decimal(chance.randint(100, 9_999)) / 100,
            )
            for _ in range(chance.randint(1, 3))
        ],
    )


@hooks.before
def books(folder: Path) -> None:
    """Give every gateway empty books."""
    os.environ["CHOREO_BOOKS_DIR"] = str(folder)


@hooks.after
def audit(runs: list[EndedRun]) -> list[str]:
    """Compare the books with the ends of the runs: nothing stands for one that was compensated, or is undone twice."""
    payers = Counter((run.flow, run.key) for run in runs if run.status != "compensated")
    found = []
    for name, table, status, flow in _STANDING:
        sql = f"SELECT order_id, count(*) FROM {table} WHERE status = '{status}' GROUP BY order_id"  # noqa: S608 - ours
        found += [
            f"{name}: of {flow} {key} there stand {count}, for {payers[flow, key]} runs"
            for key, count in _rows(name, sql)
            if count > payers[flow, key]
        ]
    for table, column, names in _UNDONE:
        sql = f"SELECT {column}, count(*) FROM {table} GROUP BY {column} HAVING count(*) > 1"  # noqa: S608 - ours
        found += [f"{name}: {key} was undone twice" for name in names for key, _ in _rows(name, sql)]
    return found


def _rows(name: str, sql: str) -> Iterator[tuple[str, int]]:
    """Yield the rows of a book; none where no gateway has opened it."""
    path = Path(os.environ["CHOREO_BOOKS_DIR"]) / f"{name}.sqlite"
    if path.exists():
        with closing(sqlite3.connect(path)) as db:
            yield from db.execute(sql)
