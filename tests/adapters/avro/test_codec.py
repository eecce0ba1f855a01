"""Bytes and back: an event decodes as it was written, under every version; the error names the field."""

import base64
import enum
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import AfterValidator, Field, ValidationError

from choreo.adapters.avro.codec import AVRO, JSON, AvroCodec
from choreo.adapters.avro.frozen import freeze
from choreo.adapters.avro.schema import schema_of
from choreo.core.errors import DecodeError, SchemaError
from choreo.core.events import TRACKER_JSON
from choreo.event.event import Event, Part

NOW = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)


class Colour(enum.Enum):
    """Two symbols."""

    RED = "red"
    BLUE = "blue"


class Item(Part):
    """An article."""

    sku: str
    price: Decimal
    colours: list[Colour] = Field(default_factory=list)


class Placed(Event):
    """One field of every kind that needs a conversion."""

    order_id: str
    amount: Annotated[Decimal, Field(max_digits=12, decimal_places=2)]
    at: datetime
    day: date
    id: UUID
    colour: Colour
    items: list[Item]
    by_name: dict[str, Item]
    seen: list[datetime]
    gift: Item | None = None
    count: int = 0


def placed(**changed: Any) -> Placed:
    """Return an order with a value in every field."""
    item = Item(sku="sku-1", price=Decimal("9.9900"), colours=[Colour.BLUE])
    values: dict[str, Any] = {
        "order_id": "o-1",
        "amount": Decimal("49.90"),
        "at": NOW,
        "day": date(2024, 2, 29),
        "id": UUID(int=7),
        "colour": Colour.RED,
        "items": [item],
        "by_name": {"first": item},
        "seen": [NOW],
        "gift": item,
    }
    return Placed(**{**values, **changed})


def made(name: str, base: type = Event, **fields: Any) -> Any:
    """Return a class of this name with these fields; a pair gives type and default: another version of one contract."""
    annotations = {field: kind[0] if isinstance(kind, tuple) else kind for field, kind in fields.items()}
    defaults = {field: kind[1] for field, kind in fields.items() if isinstance(kind, tuple)}
    return type(base)(name, (base,), {"__annotations__": annotations, "__module__": __name__, **defaults})


@pytest.fixture
def codec() -> AvroCodec:
    """Return a codec that knows no frozen version."""
    return AvroCodec()


def test_what_is_written_is_what_is_read(codec: AvroCodec) -> None:
    """Every type comes back equal, and the same object always gives the same bytes."""
    data = codec.encode(placed())
    assert codec.decode(Placed, AVRO, data) == placed()
    assert codec.encode(codec.decode(Placed, AVRO, data)) == data


def test_a_value_begins_with_the_mark_and_the_fingerprint_of_the_specification(codec: AvroCodec) -> None:
    """Avro 1.12, single-object encoding: C3 01, CRC-64-AVRO little-endian, body."""
    one = made("One", text=str)
    data = codec.encode(one(text="hi"))
    assert data[:2] == b"\xc3\x01"
    assert (
        data[2:10] == schema_of(one).fingerprint == rabin(b'{"name":"One","type":"record","fields":[' + FIELD + b"]}")
    )
    assert data[10:] == b"\x04hi"


FIELD = b'{"name":"text","type":"string"}'


def rabin(canonical: bytes) -> bytes:
    """Compute CRC-64-AVRO as the specification gives it, written here a second time on purpose."""
    empty = 0xC15D213AA4D7A795
    table = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = (value >> 1) ^ (empty & -(value & 1))
        table.append(value)
    print_ = empty
    for byte in canonical:
        print_ = (print_ >> 8) ^ table[(print_ ^ byte) & 0xFF]
    return print_.to_bytes(8, "little")


@given(text=some.text(), number=some.integers(-(2**63), 2**63 - 1), cents=some.integers(-(10**11), 10**11))
def test_any_value_comes_back(text: str, number: int, cents: int) -> None:
    """Over the whole range of the types."""
    event = placed(order_id=text, count=number, amount=Decimal(cents).scaleb(-2))
    assert AvroCodec().decode(Placed, AVRO, AvroCodec().encode(event)) == event


def test_a_moment_of_any_zone_is_the_same_moment(codec: AvroCodec) -> None:
    """A decoded moment is in UTC."""
    there = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert codec.decode(Placed, AVRO, codec.encode(placed(at=there))).at == NOW


def test_json_is_read_as_people_write_it(codec: AvroCodec) -> None:
    """A foreign producer may send JSON, with or without saying so."""
    data = placed().model_dump_json().encode()
    for content_type in (JSON, "application/json; charset=utf-8", "application/cloudevents+json", ""):
        assert codec.decode(Placed, content_type, data) == placed()
    assert codec.decode(Placed, "", codec.encode(placed())) == placed()


def test_fields_are_ready_for_people(codec: AvroCodec, tmp_path: Path) -> None:
    """With the class or, from a frozen version, without."""
    freeze([Placed], tmp_path)
    data = codec.encode(placed())
    shown = codec.fields(Placed, AVRO, data)
    assert (shown["amount"], shown["day"], shown["colour"]) == ("49.90", "2024-02-29", "red")
    assert AvroCodec(tmp_path).fields(None, AVRO, data) == shown
    assert codec.fields(None, JSON, b'{"a": 1}') == {"a": 1}


def test_services_of_different_versions_read_each_other(tmp_path: Path) -> None:
    """An added field takes the class's own default, of any type; a field the reader lacks is passed over."""
    old_item = made("Item", Part, sku=str, gone=(int, 0))
    new_item = made("Item", Part, sku=str, price=(Decimal, Decimal("1.5")))
    old = made("Paid", order_id=str, items=list[old_item], gone=(str, ""))  # type: ignore[valid-type]
    new = made(
        "Paid",
        order_id=str,
        items=list[new_item],
        at=(datetime, NOW),
        note=(str | None, None),
        last=(new_item | None, None),
    )
    freeze([old], tmp_path)
    freeze([new], tmp_path)
    codec = AvroCodec(tmp_path)

    read = codec.decode(new, AVRO, codec.encode(old(order_id="o", items=[old_item(sku="s", gone=3)], gone="x")))
    assert read == new(order_id="o", items=[new_item(sku="s")])
    assert (read.at, read.items[0].price) == (NOW, Decimal("1.5"))

    read = codec.decode(old, AVRO, codec.encode(new(order_id="o", items=[new_item(sku="s")], last=new_item(sku="t"))))
    assert read == old(order_id="o", items=[old_item(sku="s")])


def test_an_unknown_writer_is_named_with_the_remedy(codec: AvroCodec) -> None:
    """The error of a service that is behind names the missing version."""
    newer = made("Placed", order_id=str, added=int)
    with pytest.raises(
        DecodeError, match=r"Placed: was written with a schema that is not known here.*choreo schemas freeze"
    ):
        codec.decode(Placed, AVRO, codec.encode(newer(order_id="o", added=1)))


def test_another_events_bytes_are_refused(tmp_path: Path) -> None:
    """The schema's name must be the class's."""
    other = made("Other", order_id=str)
    freeze([other], tmp_path)
    codec = AvroCodec(tmp_path)
    with pytest.raises(DecodeError, match="Placed: was written as Other"):
        codec.decode(Placed, AVRO, codec.encode(other(order_id="o")))


SMALL = made("Small", order_id=str, count=int, at=datetime)


def small() -> bytes:
    """Return the bytes of a small event."""
    return AvroCodec().encode(SMALL(order_id="o-1", count=5, at=NOW))


BAD_BYTES: list[tuple[str, str, Callable[[], bytes]]] = [
    ("Small: is not Avro single-object encoding: 0 bytes, beginning with nothing", AVRO, lambda: b""),
    ("Small: is not Avro single-object encoding: 4 bytes, beginning with 6a75", AVRO, lambda: b"junk"),
    ("Small: was written with a schema that is not known here", AVRO, lambda: b"\xc3\x01" + bytes(8)),
    ("Small.order_id: cannot be read", AVRO, lambda: small()[:12]),
    ("Small.count: cannot be read", AVRO, lambda: small()[:14]),
    ("Small.at: cannot be read", AVRO, lambda: small()[:-1]),
    ("Small.at: cannot be read", AVRO, lambda: small()[:15] + b"\xff" * 9 + b"\x01"),
    ("Small.order_id: cannot be read", AVRO, lambda: small()[:10] + b"\x04\xff\xff\x00\x00"),
    ("Small: has 1 byte more than its schema describes", AVRO, lambda: small() + b"\x00"),
    ("Small: invalid JSON", JSON, lambda: b"{"),
    ("Small: input should be an object", JSON, lambda: b"[1]"),
    ("Small: invalid JSON", "", lambda: b""),
    ("Small.order_id: field required (and 1 more)", JSON, lambda: b'{"count": 1}'),
    (
        "Small.count: input should be a valid integer",
        JSON,
        lambda: b'{"order_id":"o","count":"5","at":"2024-02-29T00:00:00Z"}',
    ),
    (
        "Small.other: extra inputs are not permitted",
        JSON,
        lambda: b'{"order_id":"o","count":5,"at":"2024-02-29T00:00:00Z","other":1}',
    ),
    (
        "content-type: content type 'text/xml' cannot be read. Use application/avro or application/json",
        "text/xml",
        small,
    ),
]


@pytest.mark.parametrize(("sentence", "content_type", "data"), BAD_BYTES, ids=[case[0][:50] for case in BAD_BYTES])
def test_what_cannot_be_read_says_what_where_and_the_remedy(
    codec: AvroCodec, sentence: str, content_type: str, data: Callable[[], bytes]
) -> None:
    """Down to the field."""
    with pytest.raises(DecodeError) as refused:
        codec.decode(SMALL, content_type, data())
    assert refused.value.sentence.startswith(sentence)
    assert refused.value.remedy


@given(body=some.binary(max_size=60))
def test_no_bytes_do_harm(body: bytes) -> None:
    """Any bytes decode to an event or raise a DecodeError, nothing else, and at once."""
    codec = AvroCodec()
    try:
        codec.decode(Placed, AVRO, b"\xc3\x01" + schema_of(Placed).fingerprint + body)
    except DecodeError as error:
        assert error.remedy  # noqa: PT017 - both ends are right


NOT_WRITABLE = [
    ("Placed.amount: cannot be written: 1.234 has more than 2 digits behind the point", {"amount": Decimal("1.234")}),
    (
        "Placed.amount: cannot be written: 12345678901234.00 has more than 12 digits",
        {"amount": Decimal("12345678901234.00")},
    ),
    ("Placed.at: cannot be written: 2024-02-29T12:30:15.123456 has no time zone", {"at": NOW.replace(tzinfo=None)}),
    ("Placed.count: cannot be written", {"count": 2**63}),
    ("Placed.count: cannot be written", {"count": "five"}),
    ("Placed.items: cannot be written", {"items": None}),
    ("Placed.order_id: cannot be written", {"order_id": 5}),
]


@pytest.mark.parametrize(("sentence", "changed"), NOT_WRITABLE, ids=[case[0][:45] for case in NOT_WRITABLE])
def test_what_does_not_fit_its_own_contract_is_not_written(
    codec: AvroCodec, sentence: str, changed: dict[str, Any]
) -> None:
    """Also when the object was made past its validation."""
    event = placed().model_copy(update=changed)
    with pytest.raises(SchemaError) as refused:
        codec.encode(event)
    assert refused.value.sentence.startswith(sentence)


def test_bytes_of_every_kind_are_shown_as_base64(codec: AvroCodec) -> None:
    """A signature or a picture is no text."""
    signed = made("Signed", order_id=str, signature=bytes)
    event = signed(order_id="o", signature=bytes(range(256)))
    shown = codec.fields(signed, AVRO, codec.encode(event))
    assert base64.urlsafe_b64decode(shown["signature"]) == event.signature
    assert codec.decode(signed, JSON, json.dumps(shown).encode()) == event


def test_zeros_behind_the_point_come_and_go(codec: AvroCodec) -> None:
    """A product has more of them than the field; no digit is lost."""
    event = placed(amount=Decimal("10.0000") * Decimal("1.2"))
    assert codec.decode(Placed, AVRO, codec.encode(event)).amount == 12


def test_a_decimal_in_json_keeps_all_its_digits(codec: AvroCodec) -> None:
    """As a number, too, which most readers take for a float."""
    priced = made(
        "Priced", x=Decimal, by_name=dict[str, Decimal], many=list[Item], rate=(Decimal | None, None), f=float
    )
    data = (
        b'{"x": 12345678901234.5678, "by_name": {"a": 0.0001, "b": 99999999999999.9999}, "f": 0.12345678901234567890,'
        b' "many": [{"sku": "s", "price": -12345678901234.5678}], "rate": 1e-3}'
    )
    read = codec.decode(priced, JSON, data)
    assert read.x == Decimal("12345678901234.5678")
    assert read.by_name == {"a": Decimal("0.0001"), "b": Decimal("99999999999999.9999")}
    assert read.many[0].price == Decimal("-12345678901234.5678")
    assert (read.rate, read.f) == (Decimal("0.001"), 0.12345678901234568)
    assert codec.decode(priced, AVRO, codec.encode(read)) == read


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-00:01"])
def test_a_moment_that_no_reader_could_show_is_not_written(codec: AvroCodec, at: str) -> None:
    """In UTC it lies outside of the years 1 to 9999."""
    with pytest.raises(SchemaError, match="outside of the years 1 to 9999"):
        codec.encode(placed(at=datetime.fromisoformat(at)))


def test_what_an_object_holds_beyond_its_fields_is_not_dropped(codec: AvroCodec) -> None:
    """Copied with a misspelt name, or with a part of a subclass."""

    class Special(Item):
        discount: int = 0

    with pytest.raises(SchemaError, match="has no field 'amuont'"):
        codec.encode(placed().model_copy(update={"amuont": 1}))
    with pytest.raises(SchemaError, match="it is a Special, not a Item"):
        codec.encode(placed().model_copy(update={"gift": Special(sku="s", price=Decimal(1))}))
    with pytest.raises(ValidationError, match="discount"):
        placed(gift=Special(sku="s", price=Decimal(1), discount=3))


def test_a_misspelt_field_is_named_with_the_one_that_is_meant(codec: AvroCodec) -> None:
    """Before the complaint that the right one is missing."""
    with pytest.raises(DecodeError, match=r"Small\.cuont: extra inputs are not permitted .*Did you mean count\?"):
        codec.decode(SMALL, JSON, b'{"order_id":"o","cuont":5,"at":"2024-02-29T00:00:00Z"}')


class OddError(Exception):
    """An error without a text: making it fails."""

    def __str__(self) -> str:
        """Fail."""
        raise RuntimeError


ODD = [ZeroDivisionError("x"), RecursionError(), MemoryError("no more"), OddError(), SystemExit(3), OSError("\udcff")]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
def test_whatever_a_class_raises_is_one_unreadable_event(codec: AvroCodec, error: BaseException) -> None:
    """Validators and hooks are the user's code."""

    def fail(_: Any) -> Any:
        raise error

    odd = made("Odd", order_id=Annotated[str, AfterValidator(fail)])
    data = b'{"order_id":"o"}'
    with pytest.raises(DecodeError, match="the class's own code failed with") as refused:
        codec.decode(odd, JSON, data)
    assert type(error).__name__ in refused.value.sentence
    refused.value.sentence.encode()
    with pytest.raises(DecodeError, match="the class's own code failed with"):
        codec.fields(odd, JSON, data)


def test_only_events_are_written(codec: AvroCodec) -> None:
    """A handler that returns something else reads the remedy."""
    with pytest.raises(SchemaError, match=r"dict: is not an event\. Return an object of a class declared with Event"):
        codec.encode({"order_id": "o"})


def test_a_domain_event_of_the_tracker_is_read_whatever_its_class_narrows(codec: AvroCodec) -> None:
    """It has the key as text and a reason in words; a step on it must run all the same."""
    data = b'{"k": "42", "reason": "Picked did not come within 1s"}'
    for kind, reason in ((int, str), (int, Literal["late"]), (Literal[42], Annotated[str, Field(max_length=5)])):
        late = made("Late", k=kind, reason=reason)
        read = codec.decode(late, TRACKER_JSON, data)
        assert (read.k, read.reason) == (42, "Picked did not come within 1s")
        assert codec.fields(late, TRACKER_JSON, data) == {"k": 42, "reason": "Picked did not come within 1s"}
    with pytest.raises(DecodeError, match=r"Late\.more: field required"):
        codec.decode(made("Late", k=int, reason=str, more=int), TRACKER_JSON, data)
