"""The carrier: shipments, and cancellations of shipments.

A shipment is idempotent by its key, a cancellation by its own.
"""

from __future__ import annotations

from services.gateways import behaviour
from services.gateways.books import Books
from services.gateways.errors import KeyBarredError, RefusedError

_TABLES = """
CREATE TABLE IF NOT EXISTS shipments (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, order_id TEXT NOT NULL, customer TEXT NOT NULL,
    status TEXT NOT NULL  -- booked, rejected, cancelled; barred: refused when it comes
);
CREATE TABLE IF NOT EXISTS cancellations (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, shipment_key TEXT NOT NULL
);
"""


class Carrier:
    """Marks are read from the customer: those of `behaviour`, `nowhere` (no address), and `sticky-cancel:N`."""

    def __init__(self, name: str = "carrier", refusal: str = "nobody delivers to this address") -> None:
        """Nothing is opened yet; the books have this name."""
        self._books = Books(name, _TABLES)
        self._refusal = refusal

    def book(self, *, key: str, order_id: str, customer: str) -> str:
        """Book a shipment once for this key; its number. Raises the errors of `Bank.charge`."""
        marked, call = behaviour.marks(customer), self._books.count_call("book", key)
        behaviour.before(marked, call)
        with self._books.transaction() as db:
            db.execute(
                "INSERT INTO shipments (key, order_id, customer, status) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (key, order_id, customer, "rejected" if "nowhere" in marked else "booked"),
            )
            number, status = db.execute("SELECT number, status FROM shipments WHERE key = ?", (key,)).fetchone()
        if status in ("barred", "cancelled"):
            raise KeyBarredError(f"the shipment of {order_id} was called off")
        if status == "rejected":
            raise RefusedError(self._refusal)
        behaviour.after(marked, call)
        return f"shipment-{number}"

    def cancel(self, *, shipment_key: str, key: str) -> str | None:
        """Cancel the shipment under `shipment_key`; None if there is none, and then there never will be."""
        call = self._books.count_call("cancel", key)
        with self._books.transaction() as db:
            number, customer, status = db.execute(
                "INSERT INTO shipments (key, order_id, customer, status) VALUES (?, '', '', 'barred')"
                " ON CONFLICT DO UPDATE SET key = key RETURNING number, customer, status",
                (shipment_key,),
            ).fetchone()
        if status in ("barred", "rejected"):
            return None
        behaviour.fail_first(behaviour.marks(customer).get("sticky-cancel", 0), call)
        with self._books.transaction() as db:
            db.execute(
                "INSERT INTO cancellations (key, shipment_key) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (key, shipment_key),
            )
            db.execute("UPDATE shipments SET status = 'cancelled' WHERE key = ?", (shipment_key,))
        return f"shipment-{number}"
