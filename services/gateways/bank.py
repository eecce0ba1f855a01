"""The payment gateway: charges cards and refunds charges. A table of charges, a table of refunds.

A charge is idempotent by its key, a refund by its own: another refund key pays again, as in real life.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from services.gateways import behaviour
from services.gateways.books import Books
from services.gateways.errors import KeyBarredError, RefusedError

_TABLES = """
CREATE TABLE IF NOT EXISTS charges (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, order_id TEXT NOT NULL, card TEXT NOT NULL,
    amount_cents INTEGER NOT NULL, status TEXT NOT NULL  -- charged, declined, refunded; barred: refused when it comes
);
CREATE TABLE IF NOT EXISTS refunds (
    number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, charge_key TEXT NOT NULL, amount_cents INTEGER NOT NULL
);
"""


class Receipt(NamedTuple):
    """The bank's answer."""

    charge_id: str
    amount: Decimal


class Bank:
    """Marks are read from the card: those of `behaviour`, `declined`, `sticky-refund:N` (the first N refunds fail)."""

    def __init__(self, name: str = "bank") -> None:
        """Nothing is opened yet; the books have this name."""
        self._books = Books(name, _TABLES)

    def charge(self, *, key: str, order_id: str, card: str, amount: Decimal) -> Receipt:
        """Charge the card once for this key; raises RefusedError, GatewayError, KeyBarredError, AnswerLostError."""
        marked, call = behaviour.marks(card), self._books.count_call("charge", key)
        behaviour.before(marked, call)
        status = "declined" if "declined" in marked else "charged"
        with self._books.transaction() as db:
            db.execute(
                "INSERT INTO charges (key, order_id, card, amount_cents, status) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (key, order_id, card, round(amount * 100), status),
            )
            number, cents, status = db.execute(
                "SELECT number, amount_cents, status FROM charges WHERE key = ?", (key,)
            ).fetchone()
        if status in ("barred", "refunded"):
            raise KeyBarredError(f"the charge of {order_id} was called off")
        if status == "declined":
            raise RefusedError("the card was declined")
        behaviour.after(marked, call)
        return _receipt(number, cents)

    def refund(self, *, charge_key: str, key: str) -> Receipt | None:
        """Give the charge under `charge_key` back; None if there is none, and then there never will be."""
        call = self._books.count_call("refund", key)
        with self._books.transaction() as db:
            found = db.execute(
                "INSERT INTO charges (key, order_id, card, amount_cents, status) VALUES (?, '', '', 0, 'barred')"
                " ON CONFLICT DO UPDATE SET key = key RETURNING number, card, amount_cents, status",
                (charge_key,),
            ).fetchone()
        number, card, cents, status = found
        if status in ("barred", "declined"):
            return None
        behaviour.fail_first(behaviour.marks(card).get("sticky-refund", 0), call)
        with self._books.transaction() as db:
            db.execute(
                "INSERT INTO refunds (key, charge_key, amount_cents) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (key, charge_key, cents),
            )
            db.execute("UPDATE charges SET status = 'refunded' WHERE key = ?", (charge_key,))
        return _receipt(number, cents)


def _receipt(number: int, cents: int) -> Receipt:
    return Receipt(f"charge-{number}", Decimal(cents) / 100)
