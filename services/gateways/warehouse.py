"""The warehouse: stock on hand, and reservations that take from it.

A reservation is idempotent by its key, a release by its own: another release key puts the goods back again, unasked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from services.gateways import behaviour
from services.gateways.books import Books
from services.gateways.errors import KeyBarredError, OutOfStockError

_TABLES = """
CREATE TABLE IF NOT EXISTS stock (sku TEXT PRIMARY KEY, initial INTEGER NOT NULL, on_hand INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS reservations (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, order_id TEXT NOT NULL,
    status TEXT NOT NULL,  -- reserved, rejected, released; barred: refused when it comes
    lacking TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS lines (
    reservation INTEGER NOT NULL, sku TEXT NOT NULL, quantity INTEGER NOT NULL, PRIMARY KEY (reservation, sku)
);
CREATE TABLE IF NOT EXISTS releases (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, reserve_key TEXT NOT NULL);
"""

_PLENTY = 1_000_000
"""On hand of an article nobody has stocked up: no order fails for want of stock unless it is meant to."""


class Warehouse:
    """Marks are read from the article numbers: those of `behaviour`, `none` (out of stock), `sticky-release:N`."""

    def __init__(self, name: str = "warehouse") -> None:
        """Nothing is opened yet; the books have this name."""
        self._books = Books(name, _TABLES)

    def stock_up(self, sku: str, quantity: int) -> None:
        """Put that many on the shelf; of an article nobody has stocked up there are a million, of `none` none."""
        with self._books.transaction() as db:
            db.execute(
                "INSERT INTO stock VALUES (?1, ?2, ?2)"
                " ON CONFLICT DO UPDATE SET initial = initial + ?2, on_hand = on_hand + ?2",
                (sku, quantity),
            )

    def reserve(self, *, key: str, order_id: str, items: Sequence[tuple[str, int]]) -> str:
        """Set all items aside, or none, once for this key; its number. Raises OutOfStockError and those of `Bank`."""
        marked, call = _marks(sku for sku, _ in items), self._books.count_call("reserve", key)
        behaviour.before(marked, call)
        with self._books.transaction() as db:
            known = db.execute("SELECT number, status, lacking FROM reservations WHERE key = ?", (key,)).fetchone()
            number, status, lacking = known or _reserve(db, key, order_id, items)
        if status in ("barred", "released"):
            raise KeyBarredError(f"the reservation of {order_id} was called off")
        if status == "rejected":
            raise OutOfStockError(lacking)
        behaviour.after(marked, call)
        return f"reservation-{number}"

    def release(self, *, reserve_key: str, key: str) -> str | None:
        """Put what was set aside under `reserve_key` back; None if there is none, and then there never will be."""
        call = self._books.count_call("release", key)
        with self._books.transaction() as db:
            number, status = db.execute(
                "INSERT INTO reservations (key, order_id, status) VALUES (?, '', 'barred')"
                " ON CONFLICT DO UPDATE SET key = key RETURNING number, status",
                (reserve_key,),
            ).fetchone()
            skus = [row[0] for row in db.execute("SELECT sku FROM lines WHERE reservation = ?", (number,))]
        if status in ("barred", "rejected"):
            return None
        behaviour.fail_first(_marks(skus).get("sticky-release", 0), call)
        with self._books.transaction() as db:
            new = db.execute(
                "INSERT INTO releases (key, reserve_key) VALUES (?, ?) ON CONFLICT DO NOTHING", (key, reserve_key)
            )
            if new.rowcount:
                db.execute(
                    "UPDATE stock SET on_hand = on_hand + quantity FROM lines"
                    " WHERE lines.sku = stock.sku AND reservation = ?",
                    (number,),
                )
                db.execute("UPDATE reservations SET status = 'released' WHERE number = ?", (number,))
        return f"reservation-{number}"


def _reserve(db: sqlite3.Connection, key: str, order_id: str, items: Sequence[tuple[str, int]]) -> tuple[int, str, str]:
    wanted: dict[str, int] = {}
    for sku, quantity in items:
        wanted[sku] = wanted.get(sku, 0) + quantity
    lacking = next((sku for sku, quantity in wanted.items() if _on_hand(db, sku) < quantity), "")
    status = "rejected" if lacking else "reserved"
    (number,) = db.execute(
        "INSERT INTO reservations (key, order_id, status, lacking) VALUES (?, ?, ?, ?) RETURNING number",
        (key, order_id, status, lacking),
    ).fetchone()
    if not lacking:
        db.executemany("INSERT INTO lines VALUES (?, ?, ?)", [(number, *line) for line in wanted.items()])
        db.executemany(
            "UPDATE stock SET on_hand = on_hand - ? WHERE sku = ?", [(taken, sku) for sku, taken in wanted.items()]
        )
    return number, status, lacking


def _on_hand(db: sqlite3.Connection, sku: str) -> int:
    plenty = 0 if "none" in behaviour.marks(sku) else _PLENTY
    db.execute("INSERT INTO stock VALUES (?1, ?2, ?2) ON CONFLICT DO NOTHING", (sku, plenty))
    return int(db.execute("SELECT on_hand FROM stock WHERE sku = ?", (sku,)).fetchone()[0])


def _marks(skus: Iterable[str]) -> dict[str, float]:
    return behaviour.marks("+".join(skus))
