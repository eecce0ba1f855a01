"""Hooks of `choreo simulate` for the order flow: orders that its gateways can take, and an audit of money and stock."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from random import Random

from choreo.testing import EndedRun, Hooks
from schemas.orders import Item, OrderPlaced

hooks = Hooks()

_CARDS = ("visa", "visa", "visa", "visa+flaky:2", "declined", "visa+lost", "visa+late:40", "visa+sticky-refund:2")


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


@hooks.before
def books(folder: Path) -> None:
    """Give every gateway empty books."""
    os.environ["CHOREO_BOOKS_DIR"] = str(folder)


@hooks.after
def audit(runs: list[EndedRun]) -> list[str]:
    """Compare the bank's books with the ends of the orders: nobody pays for an order that was compensated."""
    path = Path(os.environ["CHOREO_BOOKS_DIR"]) / "bank.sqlite"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as db:
        charged = db.execute("SELECT order_id, count(*) FROM charges WHERE status = 'charged' GROUP BY order_id")
        charges = dict(charged.fetchall())
        twice = db.execute("SELECT charge_key FROM refunds GROUP BY charge_key HAVING count(*) > 1").fetchall()
    payers = Counter(run.key for run in runs if run.status != "compensated")
    found = [f"{key} is charged {charges[key]} times" for key in charges if charges[key] > payers[key]]
    return found + [f"the charge {key} was refunded twice" for (key,) in twice]
