"""The classes that may be declared as events, and the errors for a wrong declaration."""

import enum
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Optional
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, ValidationError

from choreo.adapters.avro.schema import schema_of
from choreo.core.errors import DeclarationError
from choreo.event.event import Event, Part


class Colour(enum.Enum):
    """Two symbols."""

    RED = "red"
    BLUE = "blue"


class Size(enum.Enum):
    """Symbols Avro does not have."""

    LARGE = "extra large"


class Item(Part):
    """An article of an order."""

    sku: str
    price: Decimal


class Everything(Event):
    """Every type an event can carry."""

    text: str
    number: int
    ratio: float
    flag: bool
    raw: bytes
    amount: Annotated[Decimal, Field(max_digits=12, decimal_places=2)]
    rate: Decimal
    at: datetime
    on: date
    id: UUID
    colour: Colour
    kind: Literal["new", "old"]
    items: list[Item]
    by_name: dict[str, Item]
    note: str | None
    gift: Optional[Item] = None  # noqa: UP045 - the older spelling must work too
    many: Annotated[int, Field(gt=0)] = 1


class Loose(BaseModel):
    """A pydantic model that is no part."""

    value: int


def types_of(event_class: type[Event]) -> dict[str, Any]:
    """Return the Avro type of each field."""
    return {field["name"]: field["type"] for field in schema_of(event_class).declaration["fields"]}


def test_every_type_has_its_avro_form() -> None:
    """The schema derived holds names of the Avro specification and none of the library that derives it."""
    item = {
        "type": "record",
        "name": "Item",
        "doc": "An article of an order.",
        "fields": [
            {"name": "sku", "type": "string"},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 4}},
        ],
    }
    assert types_of(Everything) == {
        "text": "string",
        "number": "long",
        "ratio": "double",
        "flag": "boolean",
        "raw": "bytes",
        "amount": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2},
        "rate": {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 4},
        "at": {"type": "long", "logicalType": "timestamp-micros"},
        "on": {"type": "int", "logicalType": "date"},
        "id": {"type": "string", "logicalType": "uuid"},
        "colour": {"type": "enum", "name": "Colour", "symbols": ["red", "blue"]},
        "kind": "string",
        "items": {"type": "array", "items": item},
        "by_name": {"type": "map", "values": "Item"},
        "note": ["string", "null"],
        "gift": ["null", "Item"],
        "many": "long",
    }


def test_an_event_is_named_by_its_class_unless_it_says_otherwise() -> None:
    """The type in the log is a contract: it can stay while the class is renamed."""

    class Shipped(Event):
        event_type: ClassVar[str] = "shop.OrderShipped"
        order_id: str

    assert Everything.event_type == "Everything"
    assert Shipped.event_type == "shop.OrderShipped"
    assert Shipped.event_fields() == ("order_id",)


def test_a_fact_does_not_change() -> None:
    """An event is frozen, refuses undeclared fields, and equals another one with the same values."""
    item = Item(sku="a", price=Decimal(1))
    assert item == Item(sku="a", price=Decimal("1.0"))
    with pytest.raises(ValidationError, match="frozen"):
        item.sku = "b"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="colour"):
        Item(sku="a", price=Decimal(1), colour="red")  # type: ignore[call-arg]


def test_a_default_of_decimal_stands_in_the_schema_as_its_bytes() -> None:
    """Avro's JSON writes bytes as characters, a decimal as a signed number: 1.50 at scale 2 is 150, the bytes 00 96."""

    class Priced(Event):
        amount: Annotated[Decimal, Field(max_digits=4, decimal_places=2)] = Decimal("1.50")

    assert schema_of(Priced).declaration["fields"][0]["default"] == "\x00\x96"


def declare(annotation: Any, name: str = "field", base: type = Event) -> Callable[[], Any]:
    """Declare a class Wrong with one field, when called."""
    return lambda: type(base)("Wrong", (base,), {"__annotations__": {name: annotation}, "__module__": __name__})


WRONG = [
    (declare(complex), "Wrong.field: complex is not a type an event can carry. Use str, int"),
    (declare(object), "Wrong.field: object is not a type"),
    (declare(set[str]), "Wrong.field: set[str] is not a type"),
    (declare(tuple[int, ...]), "Wrong.field: tuple[int, ...] is not a type"),
    (declare(list), "Wrong.field: list does not name the type of its content. Write list[str]"),
    (declare(dict[int, str]), "Wrong.field: the keys of a map are texts in Avro, not int. Use dict[str, ...]"),
    (declare(int | str), "Wrong.field: int | str may be several types. Use one type"),
    (declare(int | str | None), "Wrong.field: int | str | None may be several types"),
    (declare(Literal["a", 1]), "Wrong.field: typing.Literal['a', 1] mixes types"),
    (declare(Size), "Wrong.field: the enum Size holds 'extra large', which is no Avro symbol. Give each member a text"),
    (declare(Loose), "Wrong.field: Loose is not a Part. Declare it as `class Loose(Part)`"),
    (declare(list[Everything]), "Wrong.field: Everything is not a Part"),
    (declare(list[list[complex]]), "Wrong.field: complex is not a type"),
    (declare(Annotated[Decimal, Field(max_digits=5)]), "Wrong.field: a Decimal with only one of max_digits and"),
    (
        declare(Annotated[Decimal, Field(max_digits=2, decimal_places=3)]),
        "Wrong.field: a Decimal cannot have 2 digits with 3 of them behind the point",
    ),
    (declare(str, "event_fields"), "Wrong.event_fields: this name is taken by the class's own methods. Call it event_"),
    (declare(str, "_hidden"), "Wrong._hidden: a name with a leading underscore is not carried by the event. Leave"),
    (declare(Annotated[str, Field(alias="Other")]), "Wrong.field: a field has one name in every format. Leave the"),
    (declare("Later"), "Wrong.field: Later is not known where the class is declared. Declare or import it above"),
    (declare(complex, base=Part), "Wrong.field: complex is not a type an event can carry"),
]


@pytest.mark.filterwarnings("ignore:Field name:UserWarning")
@pytest.mark.parametrize(("declaration", "sentence"), WRONG, ids=[sentence[:40] for _, sentence in WRONG])
def test_a_class_that_cannot_be_a_contract_is_refused_where_it_is_declared(
    declaration: Callable[[], Any], sentence: str
) -> None:
    """The sentence names class, field and remedy."""
    with pytest.raises(DeclarationError) as refused:
        declaration()
    assert refused.value.sentence.startswith(sentence)
    assert refused.value.remedy


@pytest.mark.parametrize("name", ["choreo.Mine", "has space", "", "1st", "a..b"])
def test_an_event_type_is_a_name_and_not_one_of_choreos_own(name: str) -> None:
    """The value of ce_type must differ from the types of choreo's own facts."""
    with pytest.raises(DeclarationError, match="cannot be an event's type"):
        type(Event)("Wrong", (Event,), {"event_type": name, "__annotations__": {"event_type": ClassVar[str]}})


def test_a_part_that_holds_itself_is_refused() -> None:
    """It has no end; a tree is a list of parts that refer to each other by id."""
    with pytest.raises(
        DeclarationError, match=r"Branch\.Branch: this part holds itself\. Refer to the inner one by an id"
    ):

        class Branch(Part):
            name: str
            inner: "list[Branch]"


def test_two_parts_of_one_name_are_refused() -> None:
    """In one schema a name stands for one type."""
    with pytest.raises(
        DeclarationError, match=r"Other\.Item: two types of this event have this name\. Rename one of them"
    ):

        class Other(Event):
            first: Item
            second: type(Part)("Item", (Part,), {"__annotations__": {"x": int}, "__module__": __name__})  # type: ignore[valid-type]


SETTINGS: list[tuple[str, Any]] = [
    ("extra", "allow"),
    ("extra", "ignore"),
    ("frozen", False),
    ("allow_inf_nan", True),
    ("use_enum_values", True),
    ("val_json_bytes", "utf8"),
]


@pytest.mark.parametrize(("name", "setting"), SETTINGS)
def test_a_setting_under_which_an_event_would_lose_something_is_refused(name: str, setting: Any) -> None:
    """Fields that nobody declared would be taken and dropped, or a value be read as another."""
    with pytest.raises(DeclarationError, match=f"model_config sets {name}="):
        type(Event)("Wrong", (Event,), {"__annotations__": {"k": str}, "model_config": {name: setting}})


@pytest.mark.parametrize("kind", [str, int, UUID, date, Colour, Literal["a", "b"], Annotated[str, Field(max_length=5)]])
def test_a_key_may_be_of_any_type_that_has_one_text(kind: Any) -> None:
    """The message key is that text."""
    declare(kind)().require_key("field")


@pytest.mark.parametrize("kind", [bytes, list[str], str | None, Item, dict[str, str]])
def test_a_key_that_has_no_one_text_is_refused(kind: Any) -> None:
    """At the declaration of the flow."""
    with pytest.raises(DeclarationError, match=r"Wrong\.field: .* cannot be a business key"):
        declare(kind)().require_key("field")
