"""The orders that `choreo demo` places: of every kind, with how each must end, and what the warehouse does outside.

Each order's own data says which call goes wrong (see gateways/behaviour.py); the running system knows no kinds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from choreo import Event
from schemas.orders import Item, OrderPlaced, ShipmentPicked
from services import audit as books_audit
from services.gateways.warehouse import Warehouse
from services.mixing import mixed
from services.travel.demo import TravelDemo

COMPLETED, COMPENSATED = "completed", "compensated"


class Kind(NamedTuple):
    """A kind of order: how many of a hundred (`share`), how it must end, what its data says."""

    name: str
    share: int
    ends: str
    card: str = "visa"
    customer: str = "ada"
    sku: str = "tea"
    started_twice: bool = False
    picked: str = "yes"
    """The warehouse's behaviour: `yes`, `never`, or `garbage` (an answer nobody can read)."""


KINDS = (
    Kind("all well", 60, COMPLETED),
    Kind("card declined", 8, COMPENSATED, card="declined"),
    Kind("out of stock", 5, COMPENSATED, sku="none"),
    Kind("gateway fails twice, then works", 7, COMPLETED, card="visa+flaky:2"),
    Kind("payment succeeds late", 1, COMPENSATED, card="visa+mute:40"),
    Kind("answer of the payment lost", 4, COMPENSATED, card="visa+lost"),
    Kind("never picked", 4, COMPENSATED, picked="never"),
    Kind("no delivery there", 4, COMPENSATED, customer="nowhere"),
    Kind("refund fails twice, then works", 3, COMPENSATED, card="visa+sticky-refund:2", customer="nowhere"),
    Kind("started twice", 2, COMPLETED, started_twice=True),
    Kind("poisoned event", 2, COMPENSATED, picked="garbage"),
)


class Placed(NamedTuple):
    """One order of the demo."""

    kind: Kind
    event: OrderPlaced


class Demo:
    """The parts that `choreo demo` asks of a project: orders, the outside world, and an audit."""

    flow = "order"
    flows = ("services.order_flow:order",)
    unit = "order"
    books = "Money and stock"
    shows = "refund fails twice, then works"
    time_scale = 7_200.0
    """A day's wait for the warehouse takes twelve seconds."""
    listens = frozenset({"ShipmentCreated"})
    """Events that the outside world answers."""

    def prepare(self, folder: Path) -> None:
        """Fresh books in this folder, stock for every order."""
        os.environ["CHOREO_BOOKS_DIR"] = str(folder)
        Warehouse().stock_up("tea", 1_000_000)

    def orders(self, count: int) -> list[Placed]:
        """So many orders, the kinds well mixed; every kind is there from a hundred orders on."""
        return [Placed(self.kind_of(number), self._order(number)) for number in range(count)]

    def kind_of(self, number: int) -> Kind:
        """The kind of the order with this number: each hundred has every kind, mixed."""
        return mixed(KINDS, number, stride=37)

    def answer(self, key: str, type_: str = "ShipmentCreated") -> Event | bytes | None:  # noqa: ARG002 - it listens to one type
        """Return the warehouse's events after a shipment was created: its pick, garbage, or none."""
        kind = self.kind_of(int(key.removeprefix("o-")))
        if kind.picked == "never":
            return None
        return b"\x00 not an event" if kind.picked == "garbage" else ShipmentPicked(order_id=key)

    def audit(self, folder: Path, outcomes: Mapping[str, str]) -> list[str]:
        """Whether money and stock add up, by the outside systems' own books."""
        return books_audit.audit(folder, outcomes)

    def _order(self, number: int) -> OrderPlaced:
        kind = self.kind_of(number)
        return OrderPlaced(
            order_id=f"o-{number:04}",
            customer_id=kind.customer,
            amount=Decimal(10 + number % 90),
            items=[Item(sku=kind.sku, quantity=1 + number % 3)],
            card=kind.card,
        )


demo = (Demo(), TravelDemo())
"""The demos of both reference flows."""
