"""Every type an event may carry, in every place, with every default: a value is stored exactly, or refused.

Each combination is declared, frozen, checked, written and read: as Avro, as the JSON that is shown, as a program's own
values through the door, and by a version of the class that lacks the field.
"""

from __future__ import annotations

import enum
import itertools
import json
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import fastavro
import pytest
from pydantic import Field

from choreo.adapters.avro.codec import AVRO, JSON, AvroCodec
from choreo.adapters.avro.frozen import check, freeze
from choreo.adapters.avro.schema import schema_of
from choreo.app.exact_json import read, written
from choreo.core.errors import DeclarationError
from choreo.event.event import Event, Part


class Colour(enum.Enum):
    """Two symbols."""

    RED = "red"
    BLUE = "blue"


class Money(Part):
    """A part with a decimal, an optional and a list."""

    amount: Decimal
    note: str | None = None
    tags: list[str] = []  # noqa: RUF012 - pydantic copies it


FAR = timezone(timedelta(hours=-11, minutes=-30))
LEAF: dict[str, tuple[Any, list[Any]]] = {
    "str": (str, ["", "a\0b", "ü𝄞\n\x1b0", "null", "1.50"]),
    "int": (int, [0, -1, 2**63 - 1, -(2**63) + 1]),
    "float": (float, [0.0, -0.1, 1e308, 5e-324, 1 / 3]),
    "bool": (bool, [False, True]),
    "bytes": (bytes, [b"", b"\0", b"\x89PNG\xff", bytes(range(256))]),
    "Decimal": (Decimal, [*map(Decimal, ("0", "0.0001", "-1", "1.5", "10.000000", "-12345678901234.5678", "1E+2"))]),
    "Decimal of 30": (
        Annotated[Decimal, Field(max_digits=30, decimal_places=10)],
        [Decimal("12345678901234567890.0123456789"), Decimal("-0.0000000001"), Decimal(10**19)],
    ),
    "Decimal of 2": (
        Annotated[Decimal, Field(max_digits=2, decimal_places=0)],
        [Decimal(99), Decimal(-99), Decimal(-1)],
    ),
    "datetime": (
        datetime,
        [
            datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC),
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
            datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=FAR),
        ],
    ),
    "date": (date, [date(1, 1, 1), date(2024, 2, 29), date(9999, 12, 31)]),
    "UUID": (UUID, [UUID(int=0), UUID(int=2**128 - 1)]),
    "Enum": (Colour, [Colour.RED, Colour.BLUE]),
    "Literal of texts": (Literal["a", "b c"], ["a", "b c"]),
    "Literal of numbers": (Literal[1, 22], [1, 22]),
    "bounded": (Annotated[int, Field(gt=0, le=9)], [1, 9]),
    "Part": (Money, [Money(amount=Decimal("1.5")), Money(amount=Decimal(0), note="x", tags=["a", ""])]),
}
PLACES = ("itself", "optional", "list", "list of optional", "map", "list of maps", "optional list", "in a part")
MISSING = object()


def placed(place: str, kind: Any, values: list[Any]) -> tuple[Any, list[Any]]:
    """Return the annotation of that type in that place, and values of it."""
    inner = type(Part)(
        "Inner", (Part,), {"__annotations__": {"x": kind, "y": kind | None}, "__module__": __name__, "y": None}
    )
    forms: dict[str, tuple[Any, list[Any]]] = {
        "itself": (kind, values),
        "optional": (kind | None, [None, *values]),
        "list": (list[kind], [[], values]),
        "list of optional": (list[kind | None], [[None, *values]]),
        "map": (dict[str, kind], [{}, {f"key {n}": value for n, value in enumerate(values)}]),
        "list of maps": (list[dict[str, kind]], [[{}, {"": values[-1]}]]),
        "optional list": (list[kind] | None, [None, values]),
        "in a part": (inner, [inner(x=value, y=other) for value, other in zip(values, [None, *values], strict=False)]),
    }
    return forms[place]


def combinations() -> Iterator[tuple[str, Any, list[Any], Any]]:
    """Yield each type in each place, without a default and with each value as one: (name, type, values, default)."""
    for (name, (kind, values)), place in itertools.product(LEAF.items(), PLACES):
        annotation, there = placed(place, kind, values)
        for default in (MISSING, *there):
            yield (
                f"{name}, {place}, default {'none' if default is MISSING else repr(default)[:40]}",
                annotation,
                there,
                default,
            )


def declared(annotation: Any, default: Any) -> type[Event]:
    """Return the event with one field of this type besides its key."""
    names = {"__annotations__": {"k": str, "x": annotation}, "__module__": __name__}
    return type(Event)("Told", (Event,), names if default is MISSING else {**names, "x": default})


def held(told: type[Event], values: list[Any], default: Any, folder: Path) -> int:
    """Take each value through every format and back; answers how many were."""
    freeze([told], folder)
    assert check([told], folder) == []
    codec = AvroCodec(folder)
    events = [told(k="a", x=value) for value in values] + ([] if default is MISSING else [told(k="a")])
    for event in events:
        data = codec.encode(event)
        assert codec.decode(told, AVRO, data) == event
        shown = json.dumps(codec.fields(told, AVRO, data)).encode()
        assert codec.decode(told, JSON, shown) == event
        given = written({"k": "a", "x": event.x})  # type: ignore[attr-defined]
        assert codec.decode(told, JSON, given) == event
        assert codec.decode(told, JSON, written(read(given))) == event
        assert codec.fields(told, JSON, given) == codec.fields(told, AVRO, data)
    if default is not MISSING:
        assert codec.decode(told, AVRO, _foreign_default(told)) == told(k="a")
    return len(events)


def _foreign_default(told: type[Event]) -> bytes:
    """Return the bytes of another Avro program that fills in the default as the frozen schema has it."""
    schema = schema_of(told)
    field = schema.declaration["fields"][1]
    plain = fastavro.parse_schema({**schema.declaration, "fields": schema.declaration["fields"][:1]})
    raw = json.loads(json.dumps(field["default"]))
    return (
        b"\xc3\x01"
        + schema.fingerprint
        + _avro(plain, {"k": "a"})
        + _default_bytes(field["type"], raw, schema.declaration)
    )


def _avro(schema: Any, value: Any) -> bytes:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, schema, value)
    return buffer.getvalue()


def _default_bytes(kind: Any, raw: Any, declaration: Any) -> bytes:
    """Return a default's JSON as bytes, as the specification has it: no logical types, a union's first branch."""
    if isinstance(kind, list):
        return b"\x00" + _default_bytes(kind[0], raw, declaration)
    if isinstance(kind, dict) and kind["type"] == "array":
        head = _avro(fastavro.parse_schema("long"), len(raw)) if raw else b""
        return head + b"".join(_default_bytes(kind["items"], each, declaration) for each in raw) + b"\x00"
    if isinstance(kind, dict) and kind["type"] == "map":
        head = _avro(fastavro.parse_schema("long"), len(raw)) if raw else b""
        pairs = (
            _avro(fastavro.parse_schema("string"), key) + _default_bytes(kind["values"], each, declaration)
            for key, each in raw.items()
        )
        return head + b"".join(pairs) + b"\x00"
    if isinstance(kind, dict) and kind["type"] == "record":
        return b"".join(_default_bytes(field["type"], raw[field["name"]], declaration) for field in kind["fields"])
    if isinstance(kind, dict) and kind["type"] == "enum":
        return _avro(fastavro.parse_schema(kind), raw)
    name = kind["type"] if isinstance(kind, dict) else kind
    return _avro(fastavro.parse_schema(name), raw.encode("latin-1") if name == "bytes" else raw)


def test_what_is_accepted_is_stored_exactly_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A refusal comes at the declaration, and only where Avro has no form for a default."""
    tried = refused = values_held = 0
    sentences: set[str] = set()
    for number, (name, annotation, values, default) in enumerate(combinations()):
        tried += 1
        try:
            told = declared(annotation, default)
        except DeclarationError as error:
            refused += 1
            sentences.add(error.what.rpartition(": ")[2])
            continue
        try:
            values_held += held(told, values, default, tmp_path / str(number))
        except Exception as error:
            raise AssertionError(name) from error
    with capsys.disabled():
        sys.stdout.write(
            f"\n{tried} combinations of type, place and default tried, {refused} refused; {values_held} values held\n"
        )
    assert sentences == {"Avro cannot write this optional value inside of a default"}
    assert tried > 400
    assert refused < tried / 5


WRONG_DEFAULTS: list[tuple[Any, Any]] = [
    (int, "5"),
    (int, True),
    (int, 2**63),
    (Annotated[int, Field(gt=0)], 0),
    (str, 5),
    (str, None),
    (float, "1"),
    (bool, 1),
    (bytes, "text"),
    (Decimal, "1.5"),
    (Decimal, 1.5),
    (Decimal, Decimal("0.00001")),
    (Decimal, Decimal(10**14)),
    (Decimal, Decimal("NaN")),
    (datetime, "2026-01-01T00:00:00Z"),
    (datetime, datetime(2026, 1, 1)),  # noqa: DTZ001 - it has no zone
    (datetime, datetime(9999, 12, 31, 23, 59, tzinfo=FAR)),
    (date, "2026-01-01"),
    (UUID, "00000000-0000-0000-0000-000000000000"),
    (Colour, "red"),
    (Literal["a"], "b"),
    (list[int], ["1"]),
    (list[int], (1,)),
    (dict[str, int], {1: 1}),
    (Money, {"amount": 1}),
    (Annotated[str, Field(max_length=2)], "abc"),
    (float, float("nan")),
]


@pytest.mark.parametrize(("annotation", "default"), WRONG_DEFAULTS, ids=repr)
def test_a_default_that_is_no_value_of_its_field_is_refused_at_the_declaration(annotation: Any, default: Any) -> None:
    """Also one that only bounds, digits or the calendar forbid."""
    with pytest.raises(DeclarationError, match=r"Told\.x: the default .* is no value of the field") as refused:
        declared(annotation, default)
    assert refused.value.remedy
