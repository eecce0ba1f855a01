"""Conditions on fields: their truth, their JSON, and the mistakes that a declaration refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest
from pydantic import Field as PydanticField

from choreo import DeclarationError, Event, Part, Service, StepContext, field, otherwise
from choreo.core.conditions import AnyCondition, holds, text
from choreo.core.declare.conditions import Subject, bound
from choreo.core.fields import UnreadableFieldError

SOME_ID = UUID("7d444840-9dc0-11d1-b245-5ffdce74fad2")
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


class Colour(Enum):
    """An Enum of texts."""

    RED = "red"
    GREEN = "green"


class Address(Part):
    """A value inside of an event."""

    city: str


class Asked(Event):
    """An event with a field of every kind that can be compared, and some that cannot."""

    order_id: str
    shipping: Literal["express", "standard"] = "standard"
    colour: Colour = Colour.RED
    count: int = 0
    weight: float = 0.0
    amount: Decimal = Decimal(0)
    gift: bool = False
    at: datetime = NOON
    day: date = date(2026, 1, 1)
    note: str | None = None
    limit: int | None = None
    by: UUID = SOME_ID
    address: Address = Address(city="Berlin")
    items: list[str] = PydanticField(default_factory=list)


class Other(Event):
    """Another event."""

    order_id: str
    count: int


def judged(condition: object, **fields: Any) -> bool:
    """Return whether the condition holds for an event with these fields, also after its way through JSON."""
    made = bound(condition, Subject((Asked,)), "step a.b")
    assert made is not None
    again: AnyCondition = msgspec.json.decode(msgspec.json.encode(made), type=AnyCondition)
    assert again == made
    values = {name: getattr(event := Asked(order_id="o-1", **fields), name) for name in Asked.event_fields()}
    result = holds(again, values)
    as_json = msgspec.json.decode(event.model_dump_json())
    assert holds(again, as_json) == result  # a value of JSON is the same value
    return result


TRUE: list[tuple[object, dict[str, Any]]] = [
    (field("shipping") == "express", {"shipping": "express"}),
    (field(Asked, "shipping") != "express", {"shipping": "standard"}),
    (field("colour") == Colour.GREEN, {"colour": Colour.GREEN}),
    (field("colour") == "green", {"colour": Colour.GREEN}),
    (field("colour").in_(Colour.GREEN, "red"), {"colour": Colour.RED}),
    (field("count") >= 3, {"count": 3}),
    (field("count") < 3.5, {"count": 3}),
    (field("weight") == 0.1, {"weight": 0.1}),
    (field("amount") > Decimal("99.99"), {"amount": Decimal("100.0000")}),
    (field("amount") == 100, {"amount": Decimal("100.0000")}),
    (field("gift") == True, {"gift": True}),  # noqa: E712 - as its user may write it
    (field("gift"), {"gift": True}),
    (~field("gift"), {"gift": False}),
    (field("at") <= NOON.astimezone(timezone(timedelta(hours=5))), {"at": NOON}),
    (field("day") > date(2026, 2, 28), {"day": date(2026, 3, 1)}),
    (field("note").is_none(), {}),
    (field("note") != "a", {}),
    (~(field("limit") < 3), {}),
    (field("by") == SOME_ID, {}),
    (field("by").in_([str(SOME_ID)]), {}),
    ((field("count") > 1) & (field("shipping") == "express") & ~field("gift"), {"count": 2, "shipping": "express"}),
    ((field("count") > 1) | field("gift"), {"gift": True}),
]


@pytest.mark.parametrize(("condition", "fields"), TRUE)
def test_a_condition_holds(condition: object, fields: dict[str, Any]) -> None:
    """Of decoded values and of values of JSON alike; its opposite does not hold."""
    assert judged(condition, **fields)
    assert not judged(~condition, **fields)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("condition", "fields"),
    [
        (field("limit") < 3, {}),
        (field("limit") == 3, {}),
        (field("note").in_("a", "b"), {}),
        (field("note").is_none(), {"note": ""}),
        (field("shipping") == "express", {"shipping": "standard"}),
    ],
)
def test_a_field_that_is_none_equals_nothing_and_is_less_than_nothing(
    condition: object, fields: dict[str, Any]
) -> None:
    """Only is_none() and != hold for it."""
    assert not judged(condition, **fields)


def test_a_condition_is_shown_as_it_is_written() -> None:
    """For diagrams and findings."""
    made = bound(
        (field("count") > 1) & ((field("shipping") == "express") | ~field("note").is_none()), Subject((Asked,)), ""
    )
    assert made is not None
    assert text(made) == 'count > 1 & (shipping == "express" | ~(note is None))'
    assert text(otherwise()) == "otherwise"


@pytest.mark.parametrize("value", ["many", True, float("nan"), [1], {"a": 1}, "NaN"])
def test_a_value_of_another_kind_is_no_number(value: object) -> None:
    """A payload that its class does not decode may hold anything; it is never taken for true or false."""
    made = bound(field("count") > 1, Subject((Asked,)), "")
    assert made is not None
    with pytest.raises(UnreadableFieldError, match=r"count: .* is not a number"):
        holds(made, {"count": value})


WRONG: list[tuple[Callable[[], object], str, str]] = [
    (lambda: field("shiping") == "express", "Asked has no field shiping", "Did you mean shipping?"),
    (lambda: field("address.city") == "Rome", "address.city lies inside of Asked.address", "add one to Asked"),
    (lambda: field("address") == "Rome", "Address cannot be compared", "Add a field to the event"),
    (lambda: field("items") == "a", "list[str] cannot be compared", "Add a field to the event"),
    (lambda: field("count") == "3", "compared with '3', and the field is a number", "Compare it with a number"),
    (lambda: field("count") == True, "compared with True", "Compare it with a number"),  # noqa: E712
    (lambda: field("count") < float("inf"), "compared with inf", "Compare it with a number"),
    (lambda: field("gift") == 1, "the field is True or False", "Compare it with True or False"),
    (lambda: field("at") > datetime(2026, 1, 1), "is a datetime with a time zone", "with a time zone"),  # noqa: DTZ001
    (lambda: field("at") > date(2026, 1, 1), "is a datetime with a time zone", "with a time zone"),
    (lambda: field("shipping") < "standard", "a text has no order", "Use == or in_"),
    (lambda: field("gift") > False, "True or False has no order", "Use == or in_"),
    (lambda: field("shipping") == "expres", "Asked.shipping is never 'expres'", "Did you mean express?"),
    (lambda: field("colour").in_("red", "blue"), "Asked.colour is never 'blue'", "Its values: red, green"),
    (lambda: field("count").in_(), "is in_() no value", "Name the values"),
    (lambda: field("count").is_none(), "Asked.count is never None", "Leave is_none() out"),
    (lambda: field("count") == None, 'field("count") == None', "is_none()"),  # noqa: E711
    (lambda: field(Other, "count") == 1, "compares Other.count, and the step is on Asked", "a field of Asked"),
    (lambda: field("count"), "compared with True", "Compare it with a number"),
    (lambda: field(""), "field('') names no field", 'Write field("amount")'),
    (lambda: field(Other), "names no field", 'field(OrderPlaced, "amount")'),
    (lambda: "count > 3", "is no condition", "A condition is data"),
    (lambda: lambda event: event.count > 3, "is no condition", "A condition is data"),
    (lambda: True, "when=True is no condition", "A condition is data"),
    (lambda: (field("count") > 3) & True, "True is no condition", "parentheses around each comparison"),
    (lambda: otherwise() | (field("count") > 3), "otherwise() is part of another condition", "stand alone"),
    (lambda: field("count") > 3 and field("gift"), "Python asks for its truth", "& | ~ instead of and, or, not"),
    (lambda: not field("gift"), "Python asks for its truth", "& | ~"),
    (lambda: 1 < field("count") < 5, "Python asks for its truth", "two comparisons"),  # type: ignore[operator]
    (lambda: field("shipping") in ("express", "standard"), "Python asks for its truth", "in_(...) instead of in"),
]


@pytest.mark.parametrize(("make", "what", "remedy"), WRONG)
def test_a_condition_that_is_declared_wrong_is_refused_with_the_remedy(
    make: Callable[[], object], what: str, remedy: str
) -> None:
    """The sentence names the step, the field and the remedy."""
    service = Service("shipping")

    def ship(event: Asked, ctx: StepContext) -> None:
        """Do nothing."""

    with pytest.raises(DeclarationError) as refused:
        service.step(on=Asked, when=make())(ship)  # type: ignore[arg-type]  # wrong on purpose
    assert what in refused.value.what
    assert remedy in refused.value.remedy
    assert refused.value.where.startswith(("step shipping.ship", "when=", "Asked."))
    assert service.steps == {}
