"""Declarations under which a written value could not be read, or be read as another one: refused when declared."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    AfterValidator,
    Base64Bytes,
    Base64Str,
    ConfigDict,
    Field,
    InstanceOf,
    Json,
    SkipValidation,
    StringConstraints,
)

from choreo import Event, Part
from choreo.adapters.avro.codec import AVRO, JSON, AvroCodec
from choreo.adapters.avro.frozen import freeze
from choreo.core.errors import DeclarationError, SchemaError


class Colour(enum.Enum):
    """Two symbols."""

    RED = "red"
    BLUE = "blue"


class Item(Part):
    """A part with a symbol."""

    colour: Colour


def declared(annotation: Any, *default: Any, setting: ConfigDict | None = None) -> type[Any]:
    """Declare an event with one field besides its key."""
    names = {"__annotations__": {"k": str, "x": annotation}, "__module__": __name__}
    names |= {"x": default[0]} if default else {}
    base: Any = Event
    made: type[Any] = type(base)("Wrong", (base,), {**names, "model_config": setting} if setting else names)
    return made


def _fails(_: object) -> Any:
    raise ZeroDivisionError


STRIPPED = Annotated[str, StringConstraints(strip_whitespace=True)]
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "InstanceOf": (lambda: declared(InstanceOf[Item]), "a field has InstanceOf: no reader could read its value"),
    "in a list": (lambda: declared(list[InstanceOf[Item] | None]), "a field has InstanceOf"),
    "SkipValidation": (lambda: declared(SkipValidation[datetime]), "a field has SkipValidation"),
    "Json": (lambda: declared(Json[int]), "a field has Json"),
    "Base64Str": (lambda: declared(Base64Str), "a field has Base64"),
    "Base64Bytes": (lambda: declared(dict[str, Base64Bytes]), "a field has Base64"),
    "NaN": (lambda: declared(Annotated[float, Field(allow_inf_nan=True)]), "Wrong.x: JSON has no number that is none"),
    "NaN of a Decimal": (lambda: declared(Annotated[Decimal, Field(allow_inf_nan=True)] | None), "JSON has no number"),
    "a Literal too large": (lambda: declared(Literal[1, 2**63]), "holds a number of more than 64 bits. Use texts"),
    "half a surrogate pair": (lambda: declared(str, "\ud800"), "Wrong.x: the default '\\ud800' is no value"),
    "half of one in a map": (lambda: declared(dict[str, int], {"\udfff": 1}), "is no value of the field: Unicode"),
    "blanks": (lambda: declared(STRIPPED, " a "), "the default ' a ' is no value of the field: a reader gets 'a'"),
    "blanks in a list": (lambda: declared(list[STRIPPED], ["a", "b "]), "a reader gets ['a', 'b']"),
    "capitals": (lambda: declared(Annotated[str, StringConstraints(to_lower=True)] | None, "A"), "a reader gets 'a'"),
    "a validator that fails": (
        lambda: declared(Annotated[str, AfterValidator(_fails)], "a"),
        "the default 'a' is no value of the field: ZeroDivisionError",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_could_not_be_read_as_it_was_written_is_refused_at_the_declaration(name: str) -> None:
    """With a remedy, not at the first event."""
    declare, sentence = WRONG[name]
    with pytest.raises(DeclarationError) as refused:
        declare()
    assert sentence in refused.value.sentence
    assert refused.value.remedy


SETTINGS = [
    ConfigDict(str_strip_whitespace=True),
    ConfigDict(str_to_lower=True),
    ConfigDict(str_to_upper=True),
    ConfigDict(str_min_length=1),
    ConfigDict(str_max_length=9),
    ConfigDict(ser_json_temporal="seconds"),
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_rule_for_all_fields_that_the_contract_does_not_show_is_refused(setting: ConfigDict) -> None:
    """The frozen schema has the rules of fields: one of the class could be narrowed and no check would see it."""
    with pytest.raises(DeclarationError, match=r"which the contract does not show\. Leave it out"):
        declared(str, setting=setting)


@pytest.mark.parametrize("annotation", [Colour, Colour | None, list[Colour], dict[str, Colour], Item])
def test_a_strict_class_reads_what_it_has_written(annotation: Any) -> None:
    """Avro has a symbol as text, which strict mode takes for no member of its Enum."""
    strict = declared(annotation, setting=ConfigDict(strict=True))
    values = {"red": Colour.RED, "list": [Colour.RED], "dict": {"a": Colour.RED}, "Item": Item(colour=Colour.BLUE)}
    name = getattr(annotation, "__name__", "red")
    event = strict(k="a", x=values.get(name, Colour.RED))
    data = AvroCodec().encode(event)
    assert AvroCodec().decode(strict, AVRO, data) == event
    assert AvroCodec().fields(strict, AVRO, data)["k"] == "a"


def test_a_copy_that_no_rule_of_its_texts_has_seen_is_refused_when_it_is_written() -> None:
    """A reader would get another value."""
    event = declared(STRIPPED)(k="a", x="b").model_copy(update={"x": " b "})
    with pytest.raises(SchemaError, match="makes 'b' of ' b ' when it is read"):
        AvroCodec().encode(event)


def test_a_description_of_any_text_is_frozen(tmp_path: Path) -> None:
    """Half a surrogate pair in it is no reason to write no contract."""
    freeze([declared(Annotated[str, Field(description="\udc80")])], tmp_path)
    codec = AvroCodec(tmp_path)
    assert codec.decode(declared(str), JSON, b'{"k": "a", "x": "b"}').x == "b"
