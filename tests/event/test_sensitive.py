"""Fields that are declared sensitive: the mask that follows from a class, and classes that are refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import Field

from choreo import DeclarationError, Event, Flow, Part, Sensitive, Service, StepContext
from choreo.event.sensitive import HIDDEN, mask_of, masked


class Address(Part):
    """An address, of which the country is open."""

    country: str
    street: Annotated[str, Sensitive()]


class Ordered(Event):
    """An order with sensitive fields of each kind."""

    order_id: str
    card: Annotated[str, Sensitive(), Field(max_length=20)]
    born: Annotated[int, Sensitive] | None = None
    note: Annotated[str | None, Sensitive()] = None
    amount: Annotated[Decimal, Field(max_digits=9, decimal_places=2)] = Decimal(1)
    home: Address | None = None
    others: list[Address] = Field(default_factory=list)
    by_name: dict[str, Address] = Field(default_factory=dict)
    phones: list[Annotated[str, Sensitive()]] = Field(default_factory=list)
    codes: Annotated[list[int], Sensitive(), Field(default_factory=list)]


VALUES: dict[str, Any] = {
    "order_id": "o-1",
    "card": "4711",
    "born": 1970,
    "note": None,
    "amount": "1.00",
    "home": {"country": "CH", "street": "x 1"},
    "others": [{"country": "AT", "street": "x 2"}],
    "by_name": {"work": {"country": "DE", "street": "x 3"}},
    "phones": ["1", "2"],
    "codes": [1, 2],
}


def test_each_marked_value_is_hidden() -> None:
    """Inside of parts, lists and maps as well; all other values stay as they are."""
    assert masked(VALUES, mask_of(Ordered)) == VALUES | {
        "card": HIDDEN,
        "born": HIDDEN,
        "note": HIDDEN,
        "home": {"country": "CH", "street": HIDDEN},
        "others": [{"country": "AT", "street": HIDDEN}],
        "by_name": {"work": {"country": "DE", "street": HIDDEN}},
        "phones": [HIDDEN, HIDDEN],
        "codes": HIDDEN,
    }


def test_values_of_another_shape_are_left() -> None:
    """An older event may lack a field, or have null in its place."""
    assert masked({"order_id": "o-1", "home": None, "others": None}, mask_of(Ordered)) == {
        "order_id": "o-1",
        "home": None,
        "others": None,
    }


def test_a_class_without_marks_has_an_empty_mask() -> None:
    """Nothing is copied for it."""

    class Plain(Event):
        """An event without marks."""

        order_id: str
        items: list[dict[str, int]] = Field(default_factory=list)

    assert not mask_of(Plain)


def test_the_mark_is_no_part_of_the_contract() -> None:
    """The frozen schema and the values are those of the class without it."""

    class Open(Event):
        """An event."""

        order_id: str
        card: str

    class Hidden(Event):
        """An event."""

        order_id: str
        card: Annotated[str, Sensitive()]

    assert Open.model_json_schema()["properties"] == Hidden.model_json_schema()["properties"]
    assert Hidden(order_id="o", card="4711").card == "4711"


def test_a_sensitive_reason_is_refused() -> None:
    """It becomes the cause of the run, which lists show."""
    with pytest.raises(DeclarationError, match="cause of a run"):

        class Failed(Event):
            """An event with a hidden reason."""

            order_id: str
            reason: Annotated[str, Sensitive()] = ""


def test_a_sensitive_key_is_refused() -> None:
    """It names the run everywhere."""

    class Begun(Event):
        """A start with a hidden key."""

        order_id: Annotated[str, Sensitive()]

    class Ended(Event):
        """An end."""

        order_id: str

    service = Service("one")

    @service.step(on=Begun, emits=Ended, effect=False)
    async def end(event: Begun, ctx: StepContext) -> Ended:
        return Ended(order_id=ctx.key)

    with pytest.raises(DeclarationError, match="shown to all its readers"):
        _ = Flow("hidden", key="order_id", starts=Begun, completes=Ended, deadline="1d", services=[service]).definition
