"""Do money and stock add up? Reads the outside systems' books by plain SQL and holds them against how the orders ended.

Knows nothing of the services, of choreo or of its log: what it finds, any auditor would.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

_CHARGES = "SELECT order_id, key, amount_cents FROM charges WHERE status IN ('charged', 'refunded')"
_REFUNDS = "SELECT charge_key, amount_cents FROM refunds"
_RESERVATIONS = "SELECT order_id, key FROM reservations WHERE status IN ('reserved', 'released')"
_RELEASES = "SELECT reserve_key FROM releases"
_SHIPMENTS = "SELECT order_id, key FROM shipments WHERE status IN ('booked', 'cancelled')"
_CANCELLATIONS = "SELECT shipment_key FROM cancellations"
_SENT = "SELECT order_id, way FROM sent"
_STOCK = """
SELECT sku, initial, on_hand, (
    SELECT coalesce(sum(quantity), 0) FROM lines JOIN reservations ON number = reservation
    WHERE lines.sku = stock.sku AND status = 'reserved'
) FROM stock
"""


def audit(directory: Path, outcomes: Mapping[str, str]) -> list[str]:
    """Every violation, as a sentence; empty when all adds up.

    `outcomes` gives each order's status: of a completed one exactly one charge, reservation and shipment stand; of a
    compensated one none; whatever the status, nothing is undone twice. Books that are not there are a violation.
    """
    found = []
    for name, check in (("bank", bank), ("warehouse", warehouse), ("carrier", carrier), ("post", post)):
        found += read(directory, name, partial(check, outcomes=outcomes), outcomes)
    return found


def read(
    directory: Path, name: str, check: Callable[[sqlite3.Connection], Iterator[str]], outcomes: Mapping[str, str]
) -> list[str]:
    """Return what `check` finds in these books; books that are missing are a violation, unless nothing was placed."""
    path = directory / f"{name}.sqlite"
    if not path.is_file():
        return [f"the books of the {name} are missing: no {path}"] if outcomes else []
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        return list(check(db))


def bank(db: sqlite3.Connection, outcomes: Mapping[str, str], unit: str = "order") -> Iterator[str]:
    """Check charges and refunds."""
    charges, refunds = db.execute(_CHARGES).fetchall(), db.execute(_REFUNDS).fetchall()
    yield from _kept(unit, "charge", [row[:2] for row in charges], [row[0] for row in refunds], outcomes)
    cents = {key: amount for _, key, amount in charges}
    for key, amount in refunds:
        if cents.get(key, amount) != amount:
            yield f"charge {key}: {cents[key]} cents were charged, {amount} refunded"


def warehouse(
    db: sqlite3.Connection, outcomes: Mapping[str, str], unit: str = "order", what: str = "reservation"
) -> Iterator[str]:
    """Check reservations, releases and stock."""
    reservations, releases = db.execute(_RESERVATIONS).fetchall(), db.execute(_RELEASES).fetchall()
    yield from _kept(unit, what, reservations, [row[0] for row in releases], outcomes)
    for sku, initial, on_hand, reserved in db.execute(_STOCK):
        if on_hand + reserved != initial or on_hand < 0:
            yield f"article {sku}: {on_hand} on hand and {reserved} reserved of {initial} at first"


def carrier(
    db: sqlite3.Connection, outcomes: Mapping[str, str], unit: str = "order", what: str = "shipment"
) -> Iterator[str]:
    """Check shipments and cancellations."""
    shipments, cancellations = db.execute(_SHIPMENTS).fetchall(), db.execute(_CANCELLATIONS).fetchall()
    yield from _kept(unit, what, shipments, [row[0] for row in cancellations], outcomes)


def post(db: sqlite3.Connection, outcomes: Mapping[str, str], unit: str = "order") -> Iterator[str]:
    """Check the messages to customers."""
    sent = Counter(db.execute(_SENT).fetchall())
    for (order_id, way), count in sent.items():
        if count > 1:
            yield f"{unit} {order_id}: {count} times the same {way}"
        if way == "letter" and outcomes.get(order_id) == "completed":
            yield f"{unit} {order_id}: completed, but a letter says that it was cancelled"
    for order_id, status in outcomes.items():
        if status == "completed" and not sent[order_id, "mail"]:
            yield f"{unit} {order_id}: completed without a confirmation"


def _kept(
    unit: str, what: str, made: list[tuple[str, str]], undone: list[str], outcomes: Mapping[str, str]
) -> Iterator[str]:
    """Check effects that stand: one for each completed run, none for a compensated one, none undone twice."""
    times = Counter(undone)
    orders = {key: order_id for order_id, key in made}
    for key, count in times.items():
        if key not in orders:
            yield f"{what} {key}: undone, but never made"
        elif count > 1:
            yield f"{unit} {orders[key]}: {what} {key} was undone {count} times"
    kept = Counter(order_id for order_id, key in made if not times[key])
    for order_id in sorted({*outcomes, *kept}):
        status = outcomes.get(order_id, "unknown")
        wanted = {"completed": 1, "compensated": 0, "unknown": 0}.get(status, kept[order_id])
        if kept[order_id] != wanted:
            yield f"{unit} {order_id}: {status}, but {kept[order_id]} {what}s stand, not {wanted}"
