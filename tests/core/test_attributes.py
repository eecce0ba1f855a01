"""Search attributes: their declaration, its mistakes, and keys that sort as the values do."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import Field

from choreo import DeclarationError, Event, Flow, Service, StepContext
from choreo.core.attributes import AttributeDefinition, AttributeSource, key_of, keys_of, setters_of, shown, with_values
from choreo.core.checks.checks import check
from choreo.core.definition import export, load
from choreo.core.flow_changes import flow_changes
from choreo.testing import duplicate, event, given


class Size(enum.Enum):
    """A size."""

    SMALL = "s"
    LARGE = "l"


class Ordered(Event):
    """An order came in."""

    order_id: str
    amount: Decimal = Decimal("1.00")


class Shipped(Event):
    """It is on its way."""

    order_id: str
    shipment_id: UUID
    carrier: Literal["post", "courier"]
    size: Size | None
    fragile: bool
    weight: float
    parts: int
    cost: Annotated[Decimal, Field(max_digits=9, decimal_places=2)]
    left_at: datetime
    due_on: date | None
    labels: list[str]
    note: str


class Arrived(Event):
    """It is there."""

    order_id: str
    left_at: datetime
    weight: str


class Foreign(Event):
    """An event of another flow."""

    order_id: str
    note: str


def flow() -> Flow:
    """Return a flow without attributes."""
    depot = Service("depot")

    @depot.step(on=Ordered, emits=Shipped, effect=False)
    async def ship(event: Ordered, ctx: StepContext) -> Shipped:
        raise AssertionError

    @depot.step(on=Shipped, emits=Arrived, effect=False)
    async def arrive(event: Shipped, ctx: StepContext) -> Arrived:
        raise AssertionError

    return Flow("order", key="order_id", starts=Ordered, completes=Arrived, services=[depot])


KINDS = {
    "shipment_id": "text", "carrier": "text", "size": "text", "fragile": "text", "note": "text",
    "weight": "number", "parts": "number", "cost": "number", "left_at": "time", "due_on": "time",
}  # fmt: skip


def test_every_plain_type_has_a_kind() -> None:
    """Text, number or time; the exported flow has each, and the loaded one is the same."""
    order = flow()
    for name in KINDS:
        order.attribute(name, Shipped)
    definition = order.definition
    assert {attribute.name: attribute.kind for attribute in definition.attributes} == KINDS
    assert load(export(definition)) == definition
    assert '"shipment_id"' in export(definition).decode()


def test_several_events_set_one_attribute() -> None:
    """Each by a field of its own; a field of the start event may begin it."""
    order = flow()
    order.attribute("amount", Ordered)
    order.attribute("amount", Shipped, field="cost")
    order.attribute("gone", Shipped, field="due_on")
    order.attribute("gone", Arrived, field="left_at")
    amount, gone = order.definition.attributes
    assert amount.sources == (AttributeSource("Ordered", "amount"), AttributeSource("Shipped", "cost"))
    assert (gone.kind, [source.type for source in gone.sources]) == ("time", ["Shipped", "Arrived"])


MISTAKES: dict[str, tuple[Callable[[Flow], object], str]] = {
    "a list": (lambda o: o.attribute("labels", Shipped), "attribute labels: Shipped.labels holds no plain value"),
    "no such field": (lambda o: o.attribute("shipmnt_id", Shipped), "no field shipmnt_id. Did you mean shipment_id"),
    "no event": (lambda o: o.attribute("note", "Shipped"), "is not an event class"),  # type: ignore[arg-type]
    "two kinds": (
        lambda o: [o.attribute("weight", Shipped), o.attribute("weight", Arrived)],
        "Arrived.weight is a text, and Shipped.weight is a number",
    ),
    "twice": (
        lambda o: [o.attribute("note", Shipped), o.attribute("note", Shipped, field="carrier")],
        "Shipped sets it already",
    ),
    "a filter's name": (lambda o: o.attribute("status", Shipped, field="note"), "status is a filter"),
    "no name": (lambda o: o.attribute("shipment id", Shipped, field="note"), "is no name"),
    "a start field": (
        lambda o: o.attribute("amount", Shipped, field="cost"),
        "Ordered has a field of this name, by which lists are filtered",
    ),
    "another field of the start": (
        lambda o: o.attribute("amount", Ordered, field="order_id"),
        "Ordered has a field of this name",
    ),
    "another flow's event": (lambda o: o.attribute("note", Foreign), "Foreign is no event of the flow"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_remedy(mistake: str) -> None:
    """Where it is made, or by the checks of the whole flow."""
    declare, sentence = MISTAKES[mistake]

    def declared() -> object:
        order = flow()
        declare(order)
        return order.definition

    with pytest.raises(DeclarationError) as error:
        declared()
    assert sentence in str(error.value)
    assert error.value.remedy


def test_the_check_finds_mistakes_in_a_flow_from_json() -> None:
    """A flow that was written by hand: wrong names, events and fields."""
    definition = flow().definition
    wrong = (
        AttributeDefinition("status", "text", (AttributeSource("Shipped", "note"),)),
        AttributeDefinition("x", "text", (AttributeSource("Shipped", "nte"), AttributeSource("Shipped", "note"))),
        AttributeDefinition("x", "text", ()),
    )
    found = [finding.what for finding in check(replace(definition, attributes=wrong))]
    for sentence in (
        "status is a filter",
        "Shipped has no field nte",
        "sets it twice",
        "two attributes",
        "no event sets",
    ):
        assert any(sentence in what for what in found), sentence


def test_another_declaration_is_a_change_that_runs_bear() -> None:
    """A flow of the same version may get attributes; its runs are folded as before."""
    before, order = flow().definition, flow()
    order.attribute("note", Shipped)
    (change,) = flow_changes(before, order.definition)
    assert (change.breaks, "attributes" in change.what) == ("", True)


finite = {"allow_nan": False, "allow_infinity": False}
numbers = st.one_of(st.decimals(**finite), st.integers(), st.floats(**finite))
moments = st.one_of(
    st.dates(),
    st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.timezones()),  # noqa: DTZ001 - the zone is drawn
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 1, 2), timezones=st.just(timezone(timedelta(hours=1)))),  # noqa: DTZ001
)


def exact(number: Decimal | float) -> Decimal:
    """Return a number as it is shown: a float by its shortest digits."""
    return Decimal(repr(number)) if isinstance(number, float) else Decimal(number)


@drawn(numbers, numbers)
def test_keys_of_numbers_sort_as_the_numbers(one: Decimal, other: Decimal) -> None:
    """Exactly, of any size and precision, and equal for 1.0 and 1.00."""
    a, b = key_of("number", shown(one)), key_of("number", shown(other))
    x, y = exact(one), exact(other)
    assert (a < b, a == b) == (x < y, x == y)


def instant(moment: date) -> datetime:
    """Return a moment in UTC, of a date its beginning."""
    return moment.astimezone(UTC) if isinstance(moment, datetime) else datetime(*moment.timetuple()[:3], tzinfo=UTC)


@drawn(moments, moments)
def test_keys_of_times_sort_as_the_instants(one: date, other: date) -> None:
    """In any zone; a date is its beginning in UTC."""
    a, b = key_of("time", shown(one)), key_of("time", shown(other))
    assert (a < b, a == b) == (instant(one) < instant(other), instant(one) == instant(other))


@pytest.mark.parametrize("text", ["", "x", "1,5", "NaN", "Infinity", "0x10", "1_000", "٣", "1e9999999", " 1"])
def test_a_text_that_is_no_number_has_no_key(text: str) -> None:
    """It is refused, and not guessed."""
    with pytest.raises(ValueError, match="is not a "):
        key_of("number", text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-01-31T12:00:00",
        "2026-02-30",
        "12:00",
        "0001-01-01T00:00:00+14:00",
        "2026-01-01T00:00:00.0000001Z",
    ],
)
def test_a_text_that_is_no_instant_has_no_key(text: str) -> None:
    """A time without a zone is no instant, nor is one out of range or finer than microseconds."""
    with pytest.raises(ValueError, match="is not a "):
        key_of("time", text)


def test_the_newest_value_counts_and_none_clears() -> None:
    """Other attributes stay; a value of another kind than declared now has no key."""
    declared = (
        AttributeDefinition("due", "time", (AttributeSource("A", "due"),)),
        AttributeDefinition("size", "text", (AttributeSource("A", "size"), AttributeSource("B", "big"))),
    )
    setters = setters_of(declared)
    first = with_values({"customer": "ann"}, setters["A"], {"due": date(2026, 1, 31), "size": Size.LARGE})
    assert first == {"customer": "ann", "due": "2026-01-31", "size": "l"}
    second = with_values(first, setters["B"], {"big": True})
    assert second == {**first, "size": "true"}
    third = with_values(second, setters["A"], {"due": None})
    assert third == {"customer": "ann"}
    assert with_values(second, setters["B"], {"big": [1]}) == second  # its class has changed since
    assert keys_of(declared, {"due": "soon", "size": "l"}) == {"due": None, "size": "l"}


def test_a_story_shows_the_attributes_of_its_run() -> None:
    """The newest event counts, a duplicate changes nothing, and an event without given fields leaves them."""
    order = flow()
    order.attribute("amount", Ordered)
    order.attribute("amount", Shipped, field="cost")
    order.attribute("note", Shipped)
    shipped = event("Shipped", values={"cost": Decimal("7.50"), "note": None})
    story = given(order, Ordered(order_id="o-1", amount=Decimal(5))).then(attributes={"amount": 5, "note": None})
    story.when(shipped).then(attributes={"amount": Decimal("7.50"), "note": None})
    story.when(duplicate("Ordered"), "Arrived").then(attributes={"amount": Decimal("7.50")}, status="completed")
    with pytest.raises(AssertionError, match="attributes"):
        story.then(attributes={"amount": 5})
