"""Objects that nobody validated: a copy with an update, one made without validation, a list that was changed.

A value is written only where it has its declared type; Avro's writer alone would take 1.5 for an int and cut it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import Field, field_validator

from choreo import Event, Part
from choreo.adapters.avro.codec import AVRO, AvroCodec
from choreo.core.errors import SchemaError


class Size(enum.Enum):
    """Two symbols."""

    SMALL = "small"
    LARGE = "large"


class Line(Part):
    """A value inside the event."""

    sku: str
    count: Annotated[int, Field(ge=1)] = 1


class Packed(Event):
    """Every kind of field."""

    order_id: str = "o-1"
    count: int = 1
    weight: float = 1.5
    gift: bool = False
    label: bytes = b""
    day: date = date(2026, 1, 1)
    at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    number: UUID = UUID(int=1)
    price: Decimal = Decimal("1.5")
    size: Size = Size.SMALL
    speed: Literal["slow", "fast"] = "slow"
    short: Annotated[str, Field(max_length=3, pattern="^[a-z]*$")] = ""
    few: Annotated[int, Field(le=9)] = 1
    even: int = 2
    line: Line = Line(sku="a")
    lines: list[Line] = Field(default_factory=list)
    counts: dict[str, int] = Field(default_factory=dict)
    note: str | None = None

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            message = "an even number is needed"
            raise ValueError(message)
        return value


BAD_LINE = Line(sku="a").model_copy(update={"count": 0})

WRONG: dict[str, tuple[Any, ...]] = {
    "order_id": (None, 7, b"o"),
    "count": (1.5, True, "5", Decimal(3), None, 2**63),
    "weight": ("5", True, float("nan"), float("inf")),
    "gift": (1, "yes", None, []),
    "label": ("text", bytearray(b"x")),
    "day": (5, "2026-01-01", datetime(2026, 1, 1, 5, tzinfo=UTC)),
    "at": (5, "2026-01-01T00:00:00Z", datetime(2026, 1, 1)),  # noqa: DTZ001 - without a zone
    "number": ("x", 1),
    "price": (b"x", 1.5, "1", Decimal("0.00001"), Decimal("NaN")),
    "size": ("small", "tiny", 1),
    "speed": ("quick", None),
    "short": ("long", "A"),
    "few": (10,),
    "even": (3,),
    "line": (BAD_LINE, {"sku": "a"}, None, Line.model_construct(sku=7, count=1)),
    "lines": ((Line(sku="a"),), [BAD_LINE], "ab", [None]),
    "counts": ({1: 2}, {"a": 1.5}, [1]),
    "note": (5, b"x"),
}
CASES = [(field, value) for field, values in WRONG.items() for value in values]
MAKE: dict[str, Callable[[str, Any], Packed]] = {
    "copied": lambda field, value: Packed().model_copy(update={field: value}),
    "constructed": lambda field, value: Packed.model_construct(**{**Packed().__dict__, field: value}),
    "assigned": lambda field, value: _assigned(Packed(), field, value),
}


def _assigned(event: Packed, field: str, value: Any) -> Packed:
    event.__dict__[field] = value
    return event


@pytest.mark.parametrize("make", MAKE.values(), ids=list(MAKE))
@pytest.mark.parametrize(("field", "value"), CASES, ids=repr)
def test_what_is_not_as_declared_is_not_written(make: Callable[[str, Any], Packed], field: str, value: Any) -> None:
    """The sentence names the field, however the object was made."""
    with pytest.raises(SchemaError) as refused:
        AvroCodec().encode(make(field, value))
    assert refused.value.where.startswith(f"Packed.{field}")
    assert refused.value.remedy


def test_a_list_that_was_changed_is_looked_at_too() -> None:
    """An event is frozen, the lists in it are not."""
    event = Packed(lines=[Line(sku="a")])
    event.lines.append(BAD_LINE)
    with pytest.raises(SchemaError, match=r"Packed\.lines\.1\.count: is not as declared: .*Make the object anew"):
        AvroCodec().encode(event)


@pytest.mark.parametrize("make", MAKE.values(), ids=list(MAKE))
def test_a_copy_that_is_as_declared_is_written(make: Callable[[str, Any], Packed]) -> None:
    """Nothing against copies."""
    codec = AvroCodec()
    written = codec.encode(make("count", 7))
    assert codec.decode(Packed, AVRO, written) == Packed(count=7)


@pytest.mark.parametrize("odd", [SystemExit(1), RuntimeError("odd")], ids=repr)
def test_a_validator_that_fails_while_it_is_written_is_a_refusal(odd: BaseException) -> None:
    """The codec catches any exception of the validator."""

    class Touchy(Event):
        order_id: str

        @field_validator("order_id")
        @classmethod
        def _fail(cls, value: str) -> str:
            if value == "no":
                raise odd
            return value

    with pytest.raises(SchemaError, match="the class's own code failed"):
        AvroCodec().encode(Touchy(order_id="a").model_copy(update={"order_id": "no"}))
