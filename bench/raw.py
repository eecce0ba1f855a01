"""The raw baseline: the order saga as a bare batching loop over SQLite, with nothing of choreo.

Four consumers read one table of events, decode JSON, and write what they make of it with their cursor in one
transaction a batch. No ids, no inbox, no ledger, no tracker, no read model: what batching alone gives.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.saga import declined

BATCH = 500

_Fields = dict[str, Any]
_Made = tuple[str, _Fields]


def _charged(order: _Fields) -> _Made:
    if order["declined"]:
        return "PaymentDeclined", {"order_id": order["order_id"]}
    return "PaymentCharged", {"order_id": order["order_id"], "amount": order["amount"]}


STEPS: dict[str, Callable[[_Fields], _Made]] = {
    "OrderPlaced": lambda order: ("StockReserved", order),
    "StockReserved": _charged,
    "PaymentDeclined": lambda order: ("StockReleased", {"order_id": order["order_id"]}),
    "PaymentCharged": lambda order: ("ShipmentCreated", {"order_id": order["order_id"]}),
    "ShipmentCreated": lambda order: ("OrderConfirmed", {"order_id": order["order_id"]}),
}
_TABLES = """
CREATE TABLE events (seq INTEGER PRIMARY KEY, type TEXT NOT NULL, key TEXT NOT NULL, data BLOB NOT NULL);
CREATE INDEX events_of_type ON events (type, seq);
CREATE TABLE cursors (consumer TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
"""


class RawLog:
    """One file, one process."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        for setting in ("journal_mode = WAL", f"synchronous = {synchronous}", "cache_size = -65536"):
            self._connection.execute(f"PRAGMA {setting}")
        self._connection.executescript(_TABLES)
        self._cursors = dict.fromkeys(STEPS, 0)

    def write(self, events: Iterable[tuple[str, str, bytes]], cursor: tuple[str, int] | None = None) -> None:
        """Events, and how far their consumer has read, in one transaction."""
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO events (type, key, data) VALUES (?, ?, ?)", events)
        if cursor:
            run("INSERT OR REPLACE INTO cursors VALUES (?, ?)", cursor)
        run("COMMIT")

    def step(self, type_: str) -> bool:
        """One batch of one consumer; False if there was nothing to do."""
        sql = "SELECT seq, key, data FROM events WHERE type = ? AND seq > ? ORDER BY seq LIMIT ?"
        rows = self._connection.execute(sql, (type_, self._cursors[type_], BATCH)).fetchall()
        if not rows:
            return False
        made = []
        for _, key, data in rows:
            outcome, fields = STEPS[type_](json.loads(data))
            made.append((outcome, key, json.dumps(fields).encode()))
        self._cursors[type_] = rows[-1][0]
        self.write(made, (type_, rows[-1][0]))
        return True

    def counts(self) -> dict[str, int]:
        """How many events there are by type."""
        return dict(self._connection.execute("SELECT type, count(*) FROM events GROUP BY type"))


def orders_s(folder: Path, synchronous: str, orders: int) -> float:
    """Orders a second, placing them included."""
    log = RawLog(folder / f"raw-{synchronous}-{time.monotonic_ns()}.db", synchronous)
    begun = time.perf_counter()
    carry(log, orders)
    return orders / (time.perf_counter() - begun)


def carry(log: RawLog, orders: int) -> None:
    """Place so many orders and bring each to its end."""
    for first in range(0, orders, BATCH):
        log.write(_placed(number) for number in range(first, min(first + BATCH, orders)))
        for type_ in STEPS:
            log.step(type_)
    while [type_ for type_ in STEPS if log.step(type_)]:
        pass


def _placed(number: int) -> tuple[str, str, bytes]:
    key = f"o-{number}"
    order = {"order_id": key, "amount": 100 + number, "declined": declined(number)}
    return "OrderPlaced", key, json.dumps(order).encode()
