"""The simulated outside systems: each effect once for its key, an undo before its effect bars it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.gateways.bank import Bank, Receipt
from services.gateways.carrier import Carrier
from services.gateways.errors import AnswerLostError, GatewayError, KeyBarredError, OutOfStockError, RefusedError
from services.gateways.post import Post
from services.gateways.warehouse import Warehouse

AMOUNT = Decimal("12.34")


def charge(bank: Bank, card: str = "visa", key: str = "k") -> Receipt:
    """Charge an order's card."""
    return bank.charge(key=key, order_id="o-1", card=card, amount=AMOUNT)


def rows(books: Path, name: str, query: str) -> list[tuple[Any, ...]]:
    """Return rows of the books, read as an auditor reads them."""
    with sqlite3.connect(books / f"{name}.sqlite") as db:
        return db.execute(query).fetchall()


def test_a_charge_is_made_once_for_its_key(books: Path) -> None:
    """A second attempt gets the first receipt, also from another process with books of the same folder."""
    assert charge(Bank()) == charge(Bank()) == Receipt("charge-1", AMOUNT)
    assert rows(books, "bank", "SELECT key, amount_cents, status FROM charges") == [("k", 1234, "charged")]
    assert rows(books, "bank", "SELECT * FROM calls") == [("charge", "k", 2)]


def test_a_refund_is_made_once_for_its_key_and_again_for_another(books: Path) -> None:
    """As in real life: only the key tells a repeated request from a second one."""
    bank = Bank()
    charge(bank)
    for key in ("r", "r", "other"):
        assert bank.refund(charge_key="k", key=key) == Receipt("charge-1", AMOUNT)
    assert rows(books, "bank", "SELECT key, amount_cents FROM refunds") == [("r", 1234), ("other", 1234)]


def test_a_refund_before_its_charge_bars_the_charge(books: Path) -> None:
    """The answer is that there was nothing, and from then on there never will be."""
    bank = Bank()
    assert bank.refund(charge_key="k", key="r") is None
    with pytest.raises(KeyBarredError):
        charge(bank)
    assert bank.refund(charge_key="k", key="r") is None
    assert rows(books, "bank", "SELECT status FROM charges") == [("barred",)]
    assert rows(books, "bank", "SELECT * FROM refunds") == []


def test_a_charge_that_was_refunded_is_not_made_again() -> None:
    """An attempt that was under way when it was undone is refused."""
    bank = Bank()
    charge(bank)
    bank.refund(charge_key="k", key="r")
    with pytest.raises(KeyBarredError):
        charge(bank)


def test_a_declined_card_stays_declined_and_has_nothing_to_refund() -> None:
    """A no is as final as a yes."""
    bank = Bank()
    for _ in range(2):
        with pytest.raises(RefusedError, match="declined"):
            charge(bank, "declined")
    assert bank.refund(charge_key="k", key="r") is None


def test_a_reservation_takes_all_items_or_none(books: Path) -> None:
    """The answer names the missing items, and a second attempt gets the same answer though stock has come since."""
    warehouse = Warehouse()
    warehouse.stock_up("mug", 3)
    warehouse.stock_up("pen", 1)
    assert warehouse.reserve(key="a", order_id="o-1", items=[("mug", 1), ("mug", 1)]) == "reservation-1"
    with pytest.raises(OutOfStockError, match="not enough of pen"):
        warehouse.reserve(key="b", order_id="o-2", items=[("mug", 1), ("pen", 2)])
    warehouse.stock_up("pen", 5)
    with pytest.raises(OutOfStockError) as raised:
        warehouse.reserve(key="b", order_id="o-2", items=[("mug", 1), ("pen", 2)])
    assert raised.value.sku == "pen"
    assert rows(books, "warehouse", "SELECT * FROM stock ORDER BY sku") == [("mug", 3, 1), ("pen", 6, 6)]


def test_a_release_puts_back_once_and_bars_what_was_never_reserved(books: Path) -> None:
    """Stock is as before, and the key is used up."""
    warehouse = Warehouse()
    warehouse.stock_up("mug", 3)
    warehouse.reserve(key="a", order_id="o-1", items=[("mug", 2)])
    assert warehouse.release(reserve_key="a", key="r") == warehouse.release(reserve_key="a", key="r") == "reservation-1"
    assert warehouse.release(reserve_key="b", key="s") is None
    for key in ("a", "b"):
        with pytest.raises(KeyBarredError):
            warehouse.reserve(key=key, order_id="o-1", items=[("mug", 2)])
    assert rows(books, "warehouse", "SELECT * FROM stock") == [("mug", 3, 3)]


def test_an_article_called_none_is_out_of_stock_and_any_other_is_not() -> None:
    """A demo need not stock up."""
    warehouse = Warehouse()
    assert warehouse.reserve(key="a", order_id="o-1", items=[("book", 1_000)]) == "reservation-1"
    with pytest.raises(OutOfStockError):
        warehouse.reserve(key="b", order_id="o-2", items=[("book", 1), ("none", 1)])


def test_a_shipment_is_booked_once_cancelled_once_and_barred_when_cancelled_first(books: Path) -> None:
    """The carrier keeps the same rules as the bank."""
    carrier = Carrier()
    for _ in range(2):
        assert carrier.book(key="a", order_id="o-1", customer="c-1") == "shipment-1"
    for _ in range(2):
        assert carrier.cancel(shipment_key="a", key="x") == "shipment-1"
    assert carrier.cancel(shipment_key="b", key="y") is None
    for key in ("a", "b"):
        with pytest.raises(KeyBarredError):
            carrier.book(key=key, order_id="o-1", customer="c-1")
    with pytest.raises(RefusedError, match="address"):
        carrier.book(key="c", order_id="o-2", customer="nowhere")
    assert carrier.cancel(shipment_key="c", key="z") is None
    assert rows(books, "carrier", "SELECT count(*) FROM cancellations") == [(1,)]


def test_the_post_sends_once_for_a_key_and_a_letter_to_everybody(books: Path) -> None:
    """A customer without a mailbox still gets a letter."""
    post = Post()
    assert post.mail(key="a", order_id="o-1", text="Hello") == post.mail(key="a", order_id="o-1", text="Hello")
    with pytest.raises(RefusedError, match="mailbox"):
        post.mail(key="b", order_id="o-2+unreachable", text="Hello")
    assert post.letter(key="c", order_id="o-2+unreachable", text="Sorry") == "letter-2"
    assert rows(books, "post", "SELECT way FROM sent") == [("mail",), ("letter",)]


def test_a_flaky_system_heals_after_the_calls_it_was_told_to_fail(books: Path) -> None:
    """The count stands in the books: a crash between two calls changes nothing."""
    for _ in range(2):
        with pytest.raises(GatewayError, match="that fail"):
            charge(Bank(), "visa+flaky:2")
    assert charge(Bank(), "visa+flaky:2").charge_id == "charge-1"


@pytest.mark.parametrize(
    ("do", "undo"),
    [
        (
            lambda: Bank().charge(key="k", order_id="o-1", card="sticky-refund:2", amount=AMOUNT),
            lambda: Bank().refund(charge_key="k", key="u"),
        ),
        (
            lambda: Warehouse().reserve(key="k", order_id="o-1", items=[("mug+sticky-release:2", 1)]),
            lambda: Warehouse().release(reserve_key="k", key="u"),
        ),
        (
            lambda: Carrier().book(key="k", order_id="o-1", customer="c+sticky-cancel:2"),
            lambda: Carrier().cancel(shipment_key="k", key="u"),
        ),
    ],
    ids=["bank", "warehouse", "carrier"],
)
def test_an_undo_that_sticks_works_at_the_third_call(do: Callable[[], object], undo: Callable[[], object]) -> None:
    """Twice it fails and nothing is undone; then it is."""
    do()
    for _ in range(2):
        with pytest.raises(GatewayError):
            undo()
    assert undo() is not None


def test_a_lost_answer_leaves_the_truth_in_the_books(books: Path) -> None:
    """No answer arrived, but the money is gone, and a refund finds it."""
    with pytest.raises(AnswerLostError):
        charge(Bank(), "lost")
    assert rows(books, "bank", "SELECT status FROM charges") == [("charged",)]
    assert Bank().refund(charge_key="k", key="r") == Receipt("charge-1", AMOUNT)


@pytest.mark.parametrize(
    ("card", "scale", "pauses"),
    [
        ("late:45", "1", [45.0]),  # the second call answers at once
        ("mute:45", "1", [45.0, 45.0]),
        ("slow:45", "1", [45.0, 45.0]),
        ("late:45", "10", [4.5]),
        ("late:45", "1000", [1.5]),  # still longer than the second that a divided timeout leaves
        ("late:0.5", "1000", [0.5]),
    ],
)
def test_a_system_takes_its_time(
    card: str, scale: str, pauses: list[float], monkeypatch: pytest.MonkeyPatch, books: Path
) -> None:
    """Declared seconds are divided as all durations are, and the charge is in the books in the end."""
    taken: list[float] = []
    monkeypatch.setattr("time.sleep", taken.append)
    monkeypatch.setenv("CHOREO_TIME_SCALE", scale)
    assert charge(Bank(), card) == charge(Bank(), card)
    assert taken == pauses


def test_a_slow_charge_that_is_undone_meanwhile_is_refused(monkeypatch: pytest.MonkeyPatch, books: Path) -> None:
    """The undo came while the charge was under way, and barred its key."""
    bank = Bank()
    answers: list[Receipt | None] = []
    monkeypatch.setattr("time.sleep", lambda _: answers.append(bank.refund(charge_key="k", key="r")))
    with pytest.raises(KeyBarredError):
        charge(bank, "slow:45")
    assert answers == [None]
    assert rows(books, "bank", "SELECT status FROM charges") == [("barred",)]


def test_threads_share_a_gateway(books: Path) -> None:
    """Handlers run in threads: forty calls for ten keys make ten charges."""
    bank = Bank()
    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(lambda n: charge(bank, key=f"k-{n % 10}"), range(40)))
    assert len(set(receipts)) == 10
    assert rows(books, "bank", "SELECT count(*), count(DISTINCT key) FROM charges") == [(10, 10)]


PROCESS = """
from decimal import Decimal
from services.gateways.bank import Bank
from services.gateways.warehouse import Warehouse

bank, warehouse = Bank(), Warehouse()
for n in range(40):
    warehouse.reserve(key=f"k-{n}", order_id=f"o-{n}", items=[("mug", 2)])
    bank.charge(key=f"k-{n}", order_id=f"o-{n}", card="visa", amount=Decimal("1.00"))
for n in range(40, 60):
    bank.refund(charge_key=f"k-{n}", key=f"r-{n}")
    warehouse.release(reserve_key=f"k-{n}", key=f"r-{n}")
"""


def test_processes_share_the_books(books: Path) -> None:
    """Three processes do the same at once, half of it done before: each effect and each undo is there once."""
    for n in range(30, 60):
        charge(Bank(), key=f"k-{n}")
    processes = [subprocess.Popen([sys.executable, "-c", PROCESS]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert rows(books, "bank", "SELECT status, count(*) FROM charges GROUP BY status") == [
        ("charged", 40),
        ("refunded", 20),
    ]
    assert rows(books, "bank", "SELECT count(*) FROM refunds") == [(20,)]
    assert rows(books, "warehouse", "SELECT initial - on_hand FROM stock") == [(80,)]


def test_nothing_is_opened_at_import(books: Path) -> None:
    """A tool that only reads the flow leaves no files behind."""
    subprocess.run([sys.executable, "-c", "from services.order_flow import order; order.definition"], check=True)
    assert not books.exists()
