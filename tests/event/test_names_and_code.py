"""Names that no reader of Avro takes, and code of a class's own that shows or reads other values than are stored."""

import enum
from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID, uuid4

import pytest
from pydantic import AfterValidator, Field, PlainSerializer, computed_field, field_validator, model_validator

from choreo import Event, Part
from choreo.adapters.avro.codec import AVRO, JSON, AvroCodec
from choreo.core.errors import DeclarationError, DecodeError, SchemaError


class Item(Part):
    """A part with a name that an event takes too."""

    sku: str


def declared(annotation: Any, *, field: str = "field", name: str = "Wrong", base: type = Event, type_: str = "") -> Any:
    """Declare a class with one field."""
    names = {"__annotations__": {field: annotation}, "__module__": __name__, **({"event_type": type_} if type_ else {})}
    return type(base)(name, (base,), names)


def symbols(name: str) -> Any:
    """Return an Enum of that name."""
    return enum.Enum(name, [("A", "A")])


class _Doubled(Event):
    """Shows a value that it does not store."""

    count: int

    @property
    def double(self) -> int:
        """Return twice the count: a plain property is nobody's field."""
        return 2 * self.count


def _computed() -> Any:
    return type(Event)(
        "Wrong", (_Doubled,), {"__module__": __name__, "__annotations__": {}, "double": computed_field(_Doubled.double)}
    )


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: declared(int, field="größe"), "Wrong.größe: 'größe' is no name in Avro. Use letters from a to z"),
    (lambda: declared(int, name="Größe", base=Part), "Größe.Größe: 'Größe' is no name in Avro"),
    (lambda: declared(list[symbols("Größe")]), "Wrong.Größe: 'Größe' is no name in Avro"),
    (lambda: declared(int, name="string", base=Part), "string.string: 'string' is the name of a type of Avro's own"),
    (lambda: declared(symbols("long") | None), "Wrong.long: 'long' is the name of a type of Avro's own. Call the"),
    (lambda: declared(Item, name="Item"), "Item.Item: two types of this event have this name. Rename one of them"),
    (lambda: declared(symbols("Wrong") | None), "Wrong.Wrong: two types of this event have this name"),
    (lambda: declared(Item, type_="Item"), "Wrong.Item: two types of this event have this name"),
    (lambda: declared(dict[str, Item], type_="shop.Item"), "Wrong.Item: two types of this event have this name"),
    (lambda: declared(Annotated[int, PlainSerializer(str)]), "Wrong: it has a serializer: its values would be shown"),
    (lambda: declared(list[Annotated[int, PlainSerializer(str)]]), "Wrong: it has a serializer"),
    (_computed, "Wrong: it has a computed field: its values would be shown otherwise than they are stored. Use a"),
]


@pytest.mark.parametrize(("declare", "sentence"), WRONG, ids=[sentence[:40] for _, sentence in WRONG])
def test_a_class_that_others_would_read_otherwise_is_refused(declare: Callable[[], Any], sentence: str) -> None:
    """At its declaration, not at the first event."""
    with pytest.raises(DeclarationError) as refused:
        declare()
    assert refused.value.sentence.startswith(sentence)


def _raised(value: int) -> int:
    return value + 1


def _of_field() -> Any:
    def add(_: Any, value: int) -> int:
        return value + 1

    return {"add": field_validator("field")(classmethod(add))}


def _of_class() -> Any:
    def add(_: Any, values: Any) -> Any:
        return {**values, "field": values["field"] + 1} if "field" in values else values

    return {"add": model_validator(mode="before")(classmethod(add))}


class _Inner(Part):
    """A part with a number that grows at each reading."""

    count: Annotated[int, AfterValidator(_raised)]


GROWING: list[tuple[Any, Any, dict[str, Any]]] = [
    (Annotated[int, AfterValidator(_raised)], 1, {}),
    (int, 1, _of_field()),
    (int, 1, _of_class()),
    (_Inner, _Inner(count=1), {}),
    (list[_Inner], [_Inner(count=1)], {}),
    (dict[str, Annotated[int, AfterValidator(_raised)]], {"a": 1}, {}),
]


@pytest.mark.parametrize(("annotation", "value", "more"), GROWING, ids=range(len(GROWING)))
def test_a_validator_that_changes_its_own_result_is_refused(annotation: Any, value: Any, more: dict[str, Any]) -> None:
    """Else the service would get another value than the producer wrote, and each copy another one again."""
    names = {"__annotations__": {"field": annotation}, "__module__": __name__, **more}
    made = type(Event)("Growing", (Event,), names)(field=value)
    with pytest.raises(SchemaError, match=r"the class's own code makes .* when it is read") as refused:
        AvroCodec().encode(made)
    assert refused.value.where == "Growing.field"


def test_a_validator_that_keeps_its_own_result_is_no_error() -> None:
    """It may put a text in order, once."""
    tidy = declared(Annotated[str, AfterValidator(str.strip)])
    codec, made = AvroCodec(), tidy(field=" a ")
    assert codec.decode(tidy, AVRO, codec.encode(made)).field == "a"


def test_a_validator_of_the_whole_class_may_rely_on_its_fields() -> None:
    """The defaults are tried when the class is declared, without the fields that have none."""

    class Sum(Event):
        of: int
        plus: int = 0

        @model_validator(mode="before")
        @classmethod
        def absolute(cls, values: Any) -> Any:
            """Need a field that has no default."""
            return {**values, "of": abs(values["of"])}

    assert Sum(of=-1).of == 1
    with pytest.raises(DeclarationError, match="the default 'x' is no value of the field"):
        type(Event)("Wrong", (Sum,), {"__annotations__": {"plus": int}, "plus": "x", "__module__": __name__})


class Line(Part):
    """A part with an id of its own."""

    id: UUID = Field(default_factory=uuid4)
    count: int = 1


class Filed(Event):
    """An event that makes ids anew, in parts too."""

    key: str
    id: UUID = Field(default_factory=uuid4)
    line: Line | None = None
    lines: list[Line] = Field(default_factory=list)
    named: dict[str, Line] = Field(default_factory=dict)


ID = "00000000-0000-0000-0000-000000000007"
LACKING = [
    ('"key": "a"', "Filed.id"),
    (f'"id": "{ID}", "line": {{}}', "Filed.line.id"),
    (f'"id": "{ID}", "lines": [{{"id": "{ID}"}}, {{"count": 2}}]', "Filed.lines.1.id"),
    (f'"id": "{ID}", "named": {{"x": {{"count": 2}}}}', "Filed.named.x.id"),
]


@pytest.mark.parametrize(("fields", "place"), LACKING)
def test_a_record_of_the_log_may_not_lack_what_each_reader_would_make_anew(fields: str, place: str) -> None:
    """A second attempt would get another id than the first, and the history show a third."""
    data = f'{{"key": "a", {fields}}}'.replace('"key": "a", "key": "a"', '"key": "a"').encode()
    with pytest.raises(DecodeError, match="is missing: the class makes another value for each reader") as refused:
        AvroCodec().decode(Filed, JSON, data)
    assert refused.value.where == place
    written = AvroCodec().encode(AvroCodec().decode(Filed, JSON, data, fills=True))
    assert AvroCodec().decode(Filed, AVRO, written) == AvroCodec().decode(Filed, AVRO, written)


def test_a_record_with_all_of_it_is_read() -> None:
    """A default that is always the same may be missing."""
    assert AvroCodec().decode(Filed, JSON, f'{{"key": "a", "id": "{ID}"}}'.encode()).lines == []


@pytest.mark.parametrize(
    "fields", [f'"id": "{ID}", "id": "{ID}"', f'"id": "{ID}", "named": {{"x": {{"id": "{ID}", "i\\u0064": "{ID}"}}}}']
)
def test_a_name_that_is_given_twice_is_refused(fields: str) -> None:
    """Of its two values one would be dropped in silence."""
    with pytest.raises(DecodeError, match=r"Filed: 'id' is given twice\. Send each name once"):
        AvroCodec().decode(Filed, JSON, f'{{"key": "a", {fields}}}'.encode())
