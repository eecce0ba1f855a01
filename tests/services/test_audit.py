"""The auditor of money and stock: it finds sums that do not add up, and no others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from services.audit import audit
from services.gateways.bank import Bank
from services.gateways.carrier import Carrier
from services.gateways.post import Post
from services.gateways.warehouse import Warehouse

OUTCOMES = {"o-1": "completed", "o-2": "compensated"}


def make(order_id: str, key: str = "") -> None:
    """Make all that a completed order leaves in the books."""
    key = key or order_id
    Warehouse().reserve(key=key, order_id=order_id, items=[("mug", 2)])
    Bank().charge(key=key, order_id=order_id, card="visa", amount=Decimal("5.00"))
    Carrier().book(key=key, order_id=order_id, customer="c-1")


def undo(key: str) -> None:
    """Undo all of it."""
    Carrier().cancel(shipment_key=key, key=f"{key}-undo")
    Bank().refund(charge_key=key, key=f"{key}-undo")
    Warehouse().release(reserve_key=key, key=f"{key}-undo")


@pytest.fixture(autouse=True)
def orders(books: Path) -> None:
    """Make one completed order and one compensated."""
    make("o-1")
    Post().mail(key="o-1", order_id="o-1", text="Thanks")
    make("o-2")
    undo("o-2")
    Post().letter(key="o-2", order_id="o-2", text="Sorry")


def test_books_that_add_up(books: Path) -> None:
    """Nothing to say; a key that was barred is nothing either."""
    undo("o-9")
    assert audit(books, OUTCOMES) == []


def test_a_second_run_of_a_completed_order_that_was_undone(books: Path) -> None:
    """A duplicate start may have gone some way: only the standing effects count."""
    make("o-1", key="second run")
    undo("second run")
    assert audit(books, OUTCOMES) == []


def test_an_order_that_is_stuck_may_keep_what_could_not_be_undone(books: Path) -> None:
    """It is an operator's to settle; only a double undo would be wrong."""
    make("o-3")
    assert audit(books, {**OUTCOMES, "o-3": "stuck"}) == []


def spoil_stock(books: Path) -> None:
    """Steal a mug."""
    with sqlite3.connect(books / "warehouse.sqlite") as db:
        db.execute("UPDATE stock SET on_hand = on_hand - 1")


def spoil_refund(books: Path) -> None:
    """Keep a cent."""
    with sqlite3.connect(books / "bank.sqlite") as db:
        db.execute("UPDATE refunds SET amount_cents = amount_cents - 1")


def spoil_charge(books: Path) -> None:
    """Refund a charge that is nowhere."""
    with sqlite3.connect(books / "bank.sqlite") as db:
        db.execute("DELETE FROM charges WHERE key = 'o-2'")


VIOLATIONS: dict[str, tuple[Callable[[Path], object], dict[str, str], list[str]]] = {
    "charged twice": (
        lambda _: Bank().charge(key="again", order_id="o-1", card="visa", amount=Decimal("5.00")),
        OUTCOMES,
        ["order o-1: completed, but 2 charges stand, not 1"],
    ),
    "refunded twice": (
        lambda _: Bank().refund(charge_key="o-2", key="another key"),
        OUTCOMES,
        ["order o-2: charge o-2 was undone 2 times"],
    ),
    "refund of another amount": (spoil_refund, OUTCOMES, ["charge o-2: 500 cents were charged, 499 refunded"]),
    "refund of nothing": (spoil_charge, OUTCOMES, ["charge o-2: undone, but never made"]),
    "released twice": (
        lambda _: Warehouse().release(reserve_key="o-2", key="another key"),
        OUTCOMES,
        [
            "order o-2: reservation o-2 was undone 2 times",
            "article mug: 1000000 on hand and 2 reserved of 1000000 at first",
        ],
    ),
    "stock gone": (spoil_stock, OUTCOMES, ["article mug: 999997 on hand and 2 reserved of 1000000 at first"]),
    "completed and undone": (
        lambda _: undo("o-1"),
        OUTCOMES,
        [
            "order o-1: completed, but 0 charges stand, not 1",
            "order o-1: completed, but 0 reservations stand, not 1",
            "order o-1: completed, but 0 shipments stand, not 1",
        ],
    ),
    "compensated and kept": (
        lambda _: make("o-3"),
        {**OUTCOMES, "o-3": "compensated"},
        [
            "order o-3: compensated, but 1 charges stand, not 0",
            "order o-3: compensated, but 1 reservations stand, not 0",
            "order o-3: compensated, but 1 shipments stand, not 0",
        ],
    ),
    "an order nobody knows": (
        lambda _: Carrier().book(key="x", order_id="o-8", customer="c-1"),
        OUTCOMES,
        ["order o-8: unknown, but 1 shipments stand, not 0"],
    ),
    "told twice": (
        lambda _: Post().mail(key="again", order_id="o-1", text="Thanks"),
        OUTCOMES,
        ["order o-1: 2 times the same mail"],
    ),
    "told the wrong thing": (
        lambda _: Post().letter(key="x", order_id="o-1", text="Sorry"),
        OUTCOMES,
        ["order o-1: completed, but a letter says that it was cancelled"],
    ),
}


@pytest.mark.parametrize(("spoil", "outcomes", "found"), VIOLATIONS.values(), ids=list(VIOLATIONS))
def test_a_violation_is_a_sentence(
    spoil: Callable[[Path], object], outcomes: dict[str, str], found: list[str], books: Path
) -> None:
    """It names the order, or the article, and the entries in the books."""
    spoil(books)
    assert audit(books, outcomes) == found


def test_a_completed_order_without_a_confirmation(books: Path) -> None:
    """The customer must have been told."""
    make("o-3")
    assert audit(books, {**OUTCOMES, "o-3": "completed"}) == ["order o-3: completed without a confirmation"]


def test_books_that_are_missing_are_no_pass(tmp_path: Path) -> None:
    """An audit that could not check is no success."""
    found = audit(tmp_path / "elsewhere", OUTCOMES)
    assert [sentence.partition(":")[0] for sentence in found] == [
        f"the books of the {name} are missing" for name in ("bank", "warehouse", "carrier", "post")
    ]
    assert audit(tmp_path / "elsewhere", {}) == []
