"""Events of a seat in a theatre, for tests that declare their own steps around them."""

from __future__ import annotations

from choreo import Event


class Asked(Event):
    """A seat is asked for."""

    order_id: str
    seats: int = 1


class Held(Event):
    """The seat is held."""

    order_id: str


class Freed(Event):
    """The seat is free again."""

    order_id: str


class Paid(Event):
    """The customer has paid."""

    order_id: str


class Unpaid(Event):
    """The customer has not paid in time."""

    order_id: str
    reason: str = ""


class Printed(Event):
    """The ticket is printed."""

    order_id: str
