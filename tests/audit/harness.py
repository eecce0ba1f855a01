"""A tiny log and tiny books made by hand: one order's story, to be told right, or with one thing wrong in it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

_TABLES = """
CREATE TABLE log (
    topic, partition, offset, stamp_ms, id, type, key, run, step, causation, entry, certain, headers, data
);
CREATE TABLE dead_letters (number INTEGER PRIMARY KEY, partition, offset, service, cause);
CREATE TABLE instances (flow, key, run, status);
CREATE TABLE attempts (run, trigger, step, begun);
"""
_BOOKS = {
    "warehouse": """
        CREATE TABLE stock (sku, initial, on_hand);
        CREATE TABLE reservations (number INTEGER PRIMARY KEY, key, order_id, status);
        CREATE TABLE lines (reservation, sku, quantity);
        CREATE TABLE releases (reserve_key);
        CREATE TABLE calls (operation, key, count);
        INSERT INTO stock VALUES ('tea', 10, 10);""",
    "bank": """
        CREATE TABLE charges (key, order_id, amount_cents, status);
        CREATE TABLE refunds (charge_key, amount_cents);
        CREATE TABLE calls (operation, key, count);""",
    "carrier": """
        CREATE TABLE shipments (key, order_id, status);
        CREATE TABLE cancellations (shipment_key);
        CREATE TABLE calls (operation, key, count);""",
    "post": "CREATE TABLE sent (order_id, way);",
}


class Harness:
    """One order, `o`, in one partition; each fact is a second after the one before. Its ids are its types."""

    def __init__(self, folder: Path) -> None:
        """Start with an empty log and empty books."""
        self.folder = folder
        self.database = folder / "log.db"
        self._now_ms = 0
        self._offset = 0
        self.run_sql("log", _TABLES)
        for book, tables in _BOOKS.items():
            self.run_sql(book, tables)

    def run_sql(self, book: str, script: str) -> None:
        """Change a file: `log`, or one of the books."""
        path = self.database if book == "log" else self.folder / f"{book}.sqlite"
        with closing(sqlite3.connect(path)) as db:
            db.executescript(f"PRAGMA synchronous = OFF; BEGIN; {script}; COMMIT;")

    def append(self, type_: str, causation: str = "", **columns: Any) -> None:
        """Append a fact; other values go into its headers."""
        self._now_ms += 1_000
        row = {"topic": "order", "partition": 0, "offset": self._offset, "stamp_ms": self._now_ms, "id": type_}
        row |= {"type": type_, "key": "o", "run": "OrderPlaced", "step": "", "causation": causation, "entry": ""}
        row |= {"certain": 0, "data": b""}
        row |= {name: columns.pop(name) for name in list(columns) if name in row}
        row["headers"] = json.dumps(columns)
        self._offset += 1
        with closing(sqlite3.connect(self.database)) as db, db:
            db.execute("PRAGMA synchronous = OFF")
            db.execute(f"INSERT INTO log ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()])

    def append_forward(self) -> None:
        """Append the facts from the order to the shipment."""
        self.append("OrderPlaced")
        self.append("StockReserved", "OrderPlaced", step="inventory.reserve")
        self.append("PaymentCharged", "StockReserved", step="payment.charge")
        self.append("ShipmentCreated", "PaymentCharged", step="shipping.create")

    def append_completed(self) -> None:
        """Append a run that went well, in the log and in the books."""
        self.append_forward()
        self.append("ShipmentPicked")
        self.append("OrderConfirmed", "ShipmentPicked", step="notification.confirm")
        self.append("choreo.FlowCompleted", "OrderConfirmed")
        self.show("completed")
        self.book_forward()
        self.run_sql("post", "INSERT INTO sent VALUES ('o', 'mail')")

    def append_compensation_started(self) -> None:
        """Append a missing pick: shipment, payment and stock are undone one after the other."""
        self.append_forward()
        self.append("PickTimedOut", trigger="ShipmentCreated", due_ms=self._now_ms + 1_000)
        self.append("choreo.CompensationStarted", "PickTimedOut")
        self.append_compensation("shipping.create", "PaymentCharged", "ShipmentCancelled", "PickTimedOut")
        self.append_compensation("payment.charge", "StockReserved", "PaymentRefunded", "ShipmentCancelled")
        self.append_compensation("inventory.reserve", "OrderPlaced", "StockReleased", "PaymentRefunded")

    def append_compensated(self) -> None:
        """Append a run that was undone as promised, in the log and in the books."""
        self.append_compensation_started()
        self.append_end()

    def append_end(self) -> None:
        """Append the end of a run that was undone, and its books."""
        self.append("OrderCancelled", "StockReleased")
        self.append("choreo.FlowCompensated", "StockReleased")
        self.show("compensated")
        self.book_forward()
        self.book_back()

    def append_request(self, step: str, trigger: str, causation: str) -> None:
        """Ask for one undo."""
        self.append(
            "choreo.CompensationRequested", causation, id=f"ask {step}", step=step, trigger=trigger, entry=step, round=1
        )

    def append_compensation(self, step: str, trigger: str, undo: str, causation: str) -> None:
        """Ask for one undo, and answer."""
        self.append_request(step, trigger, causation)
        self.append(undo, f"ask {step}", step=step, entry=step, round=1)

    def show(self, status: str) -> None:
        """Set the run's status in the read model."""
        self.run_sql("log", f"INSERT INTO instances VALUES ('order', 'o', 'OrderPlaced', '{status}')")

    def book_forward(self) -> None:
        """Book one of each effect."""
        self.run_sql("bank", "INSERT INTO charges VALUES ('c', 'o', 500, 'charged')")
        self.run_sql("carrier", "INSERT INTO shipments VALUES ('s', 'o', 'booked')")
        self.run_sql(
            "warehouse",
            """INSERT INTO reservations VALUES (1, 'r', 'o', 'reserved'); INSERT INTO lines VALUES (1, 'tea', 2);
            UPDATE stock SET on_hand = on_hand - 2;""",
        )

    def book_back(self) -> None:
        """Book each effect as undone."""
        self.run_sql("bank", "INSERT INTO refunds VALUES ('c', 500); UPDATE charges SET status = 'refunded';")
        self.run_sql("carrier", "INSERT INTO cancellations VALUES ('s'); UPDATE shipments SET status = 'cancelled';")
        self.run_sql(
            "warehouse",
            """INSERT INTO releases VALUES ('r'); UPDATE reservations SET status = 'released';
            UPDATE stock SET on_hand = on_hand + 2;""",
        )
