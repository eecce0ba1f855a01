"""Promise 2, outside: money, stock and shipments, read from the books of the outside systems by plain SQL.

For each order: the effects, how often each was undone, and the effects that stand. A completed order has one of
each; any other order has none; nothing was undone twice.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.audit.reading import opened


@dataclass(frozen=True)
class Kind:
    """One kind of effect: its book, the queries for done and undone effects, and the call that does it."""

    book: str
    what: str
    done: str
    undone: str
    call: str


# Done: (order, key) of effects that came about. Undone: the keys of those that were taken back, one row each time.
KINDS = (
    Kind(
        "warehouse",
        "reservation",
        "SELECT order_id, key FROM reservations WHERE status NOT IN ('rejected', 'barred')",
        "SELECT reserve_key FROM releases",
        "reserve",
    ),
    Kind(
        "bank",
        "charge",
        "SELECT order_id, key FROM charges WHERE status NOT IN ('declined', 'barred')",
        "SELECT charge_key FROM refunds",
        "charge",
    ),
    Kind(
        "carrier",
        "shipment",
        "SELECT order_id, key FROM shipments WHERE status NOT IN ('rejected', 'barred')",
        "SELECT shipment_key FROM cancellations",
        "book",
    ),
)

_STOCK = """
SELECT sku, initial - on_hand, (
    SELECT coalesce(sum(quantity), 0) FROM lines JOIN reservations ON number = reservation
    WHERE lines.sku = stock.sku AND status = 'reserved'
) FROM stock
"""
_MONEY = """
SELECT coalesce(sum(amount_cents), 0) - (SELECT coalesce(sum(amount_cents), 0) FROM refunds)
FROM charges WHERE status IN ('charged', 'refunded')
"""
_KEPT = "SELECT coalesce(sum(amount_cents), 0) FROM charges WHERE status = 'charged'"


def violations(folder: Path, completed: Mapping[str, int], runs: Mapping[str, int]) -> Iterator[str]:
    """Check the books; `completed`: number of completed runs by order; `runs`: number of all runs."""
    for kind in KINDS:
        with opened(folder / f"{kind.book}.sqlite") as db:
            done, undone = db.execute(kind.done).fetchall(), [key for (key,) in db.execute(kind.undone)]
        yield from _effects(kind.what, done, undone, completed, runs)
    yield from _sums(folder)
    yield from _messages(folder, completed)


def calls(folder: Path) -> Iterator[tuple[str, str, int]]:
    """Yield (order, operation, calls) of every effect: how often a handler reached its gateway."""
    for kind in KINDS:
        with opened(folder / f"{kind.book}.sqlite") as db:
            sql = f"SELECT order_id, count FROM ({kind.done}) JOIN calls USING (key) WHERE operation = ?"
            for order, count in db.execute(sql, (kind.call,)):
                yield order, kind.call, count


def _effects(
    what: str, done: list[tuple[str, str]], undone: list[str], completed: Mapping[str, int], runs: Mapping[str, int]
) -> Iterator[str]:
    times = Counter(undone)
    standing = Counter(order for order, key in done if not times[key])
    made = Counter(order for order, _ in done)
    for key in times.keys() - {key for _, key in done}:
        yield f"a {what} was undone that never was: {key}"
    for order, key in done:
        if times[key] > 1:
            yield f"order {order}: its {what} was undone {times[key]} times"
    for order in sorted({*runs, *made}):
        if standing[order] != completed.get(order, 0):
            yield f"order {order}: {standing[order]} {what}s stand, {completed.get(order, 0)} runs completed"
        if made[order] > runs.get(order, 0):
            yield f"order {order}: {made[order]} {what}s were made in {runs.get(order, 0)} runs"


def _sums(folder: Path) -> Iterator[str]:
    with opened(folder / "warehouse.sqlite") as db:
        for sku, gone, reserved in db.execute(_STOCK):
            if gone != reserved:
                yield f"article {sku}: {gone} are gone from the shelf, {reserved} are reserved"
    with opened(folder / "bank.sqlite") as db:
        balance, kept = (_number(db, sql) for sql in (_MONEY, _KEPT))
        if balance != kept:
            yield f"the bank took {balance} cents in all; its charges that stand come to {kept}"


def _messages(folder: Path, completed: Mapping[str, int]) -> Iterator[str]:
    with opened(folder / "post.sqlite") as db:
        sent = Counter(db.execute("SELECT order_id, way FROM sent"))
    for order, count in completed.items():
        if sent[order, "mail"] != count:
            yield f"order {order}: {sent[order, 'mail']} confirmations, {count} runs completed"
    for (order, way), count in sent.items():
        if way == "letter" and count > 1:
            yield f"order {order}: {count} letters of cancellation"


def _number(db: sqlite3.Connection, sql: str) -> int:
    return int(db.execute(sql).fetchone()[0])
