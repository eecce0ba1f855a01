"""The call that `choreo dev` proposes can be copied and works."""

from __future__ import annotations

import datetime as dt
import enum
import shlex
import uuid
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

from choreo import Event, Part
from choreo.cli.examples import publish_call
from choreo.cli.fields import of_pairs


class Colour(enum.Enum):
    """A word of a list."""

    RED = "red"


class Size(Part):
    """A value inside an event."""

    width: int
    unit: str


class Everything(Event):
    """A field of each kind."""

    text: str
    count: int
    amount: Annotated[Decimal, Field(max_digits=6, decimal_places=2)]
    share: float
    sure: bool
    day: dt.date
    moment: dt.datetime
    number: uuid.UUID
    colour: Colour
    size: Size
    sizes: list[Size]
    names: list[str]
    chosen: Annotated[str, Field(examples=["as the author says"])]
    perhaps: str | None = None


def test_a_value_for_every_required_field_that_its_class_takes() -> None:
    """Of every type that an event may have."""
    words = shlex.split(publish_call("flow", Everything))
    fields = of_pairs(Everything, words[5::2])
    event = Everything.model_validate(fields)
    assert event.chosen == "as the author says"
    assert event.size == Size(width=1, unit="unit-1")
    assert "perhaps" not in fields


async def published_class(app: Any) -> Any:
    """Return the event class that starts the small project's flow."""
    return app.flows["desk"].event_classes["TicketOpened"]


def test_the_call_publishes(desk: Any) -> None:
    """Word for word."""
    opened = desk.within(published_class)
    words = shlex.split(publish_call("desk", opened))
    assert desk(*words[1:], "-o", "json").json["key"] == "ticket-1"
