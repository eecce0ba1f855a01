"""Texts that Python would read as another value: refused in JSON, in Python and in a filter, in a part too."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from choreo import Event, Part
from choreo.adapters.avro.codec import JSON, AvroCodec
from choreo.app.exact_json import read, written
from choreo.core.errors import DecodeError


class Line(Part):
    """A value inside an event."""

    at: datetime | None = None
    amount: Decimal = Decimal(0)


class Filed(Event):
    """Every type that a text can be cut or guessed for."""

    at: datetime | None = None
    day: date | None = None
    amount: Decimal = Decimal(0)
    wide: Annotated[Decimal, Field(max_digits=450, decimal_places=0)] = Decimal(0)
    count: int = 0
    rate: float = 0
    lines: list[Line] = Field(default_factory=list)
    named: dict[str, Line] = Field(default_factory=dict)


TOO_FINE = (
    "2026-01-01T00:00:00.1234567Z",
    "2026-01-01T00:00:00,123456789+02:00",
    "1767225600.1234567",
    "1767225600123.4567",
    "1767225600",
    " -86400 ",
)
NO_NUMBERS = ("1_000", " 1", "1 ", "+1", "\u0661", "\uff11", "1__0", ".5", "5.", "0x10", "", "NaN", "1e")


@pytest.mark.parametrize("text", TOO_FINE)
@pytest.mark.parametrize("place", ["{}", '{{"lines": [{}]}}', '{{"named": {{"a": {}}}}}'])
def test_a_moment_finer_than_microseconds_is_refused(text: str, place: str) -> None:
    """It would be cut, and the decoded value would differ from the sent one."""
    with pytest.raises(DecodeError, match=r"finer than microseconds.*write such as 2026"):
        AvroCodec().decode(Filed, JSON, place.format(f'{{"at": "{text}"}}').encode())
    with pytest.raises(ValidationError, match="finer than microseconds"):
        Filed(at=text)  # type: ignore[arg-type]
    assert Filed.filter_text("at", text) == text


@pytest.mark.parametrize("number", [1767225600.1234567, Decimal("1767225600.1234567"), 1767225600, 1767225600000])
def test_a_number_is_no_moment(number: Any) -> None:
    """Whether it counts seconds or milliseconds would be a guess."""
    with pytest.raises(ValidationError, match="finer than microseconds"):
        Filed(at=number)


def test_a_moment_of_microseconds_is_kept() -> None:
    """In JSON and in Python, with any zone."""
    codec, moment = AvroCodec(), datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    for text in ("2026-01-01T00:00:00.123456Z", "2026-01-01T02:00:00.123456+02:00"):
        assert codec.decode(Filed, JSON, f'{{"at": "{text}"}}'.encode()).at == moment
        assert Filed(at=text).at == moment  # type: ignore[arg-type]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_a_text_that_json_would_not_write_is_no_number(text: str) -> None:
    """Python's underscores, signs, blanks and digits of other scripts."""
    with pytest.raises(DecodeError, match="is no number"):
        AvroCodec().decode(Filed, JSON, written({"amount": text}))
    for field in ("amount", "count", "rate"):
        with pytest.raises(ValidationError, match="is no number"):
            Filed(**{field: text})
        assert Filed.filter_text(field, text) == text


@pytest.mark.parametrize(
    ("text", "value"), [("1000", 1000), ("-1.50", Decimal("-1.50")), ("1e2", 100), ("2.5E-1", Decimal("0.25"))]
)
def test_a_text_as_json_writes_numbers_is_a_decimal(text: str, value: Any) -> None:
    """As a text and as a number."""
    codec = AvroCodec()
    for sent in (f'{{"amount": "{text}"}}', f'{{"amount": {text}}}'):
        assert codec.decode(Filed, JSON, sent.encode()).amount == value


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        ('"count": 99999999999999999999999', "an int has 64 bits"),
        ('"count": 1e400', "valid integer of at most 64 bits"),
        ('"rate": 1e400', "too large for a float"),
        ('"rate": 9007199254740993', "a float cannot hold 9007199254740993 exactly: declare an int or a Decimal"),
        ('"rate": -12345678901234567890', "cannot hold -12345678901234567890 exactly"),
        ('"rate": 1e-400', "too small for a float"),
        ('"amount": 1e9999999999999999999', "is beyond every Decimal|too large"),
        ('"amount": 1e400', "more than 18 digits"),
        (f'"count": {"9" * 5_000}', "of 5,000 digits is too large"),
    ],
)
def test_a_number_that_its_type_cannot_hold_is_refused_as_that(sent: str, what: str) -> None:
    """Not in the words of Python's C interface, and not as if it were no number."""
    with pytest.raises((DecodeError, ValueError), match=what):
        AvroCodec().decode(Filed, JSON, written(read(f"{{{sent}}}")))


def test_a_large_number_reaches_a_decimal_that_holds_it() -> None:
    """A float could not."""
    assert AvroCodec().decode(Filed, JSON, written(read('{"wide": 1e400}'))).wide == Decimal("1e400")


def test_every_fault_of_an_event_is_named() -> None:
    """The sentence has the first of them, a misspelt field before others."""
    with pytest.raises(DecodeError, match=r"extra inputs are not permitted \(and 2 more\)") as refused:
        AvroCodec().decode(Filed, JSON, b'{"count": "x", "amuont": 1, "lines": [{"amount": "y"}]}')
    assert [where for where, _ in refused.value.faults] == ["Filed.amuont", "Filed.count", "Filed.lines.0.amount"]
    assert refused.value.remedy.startswith("Did you mean amount?")


@pytest.mark.parametrize("value", [2**53 + 1, "9007199254740993", "1e-400", "-0.1e-399"])
def test_a_float_made_in_python_is_not_rounded_either(value: Any) -> None:
    """A whole number that a float holds is one."""
    with pytest.raises(ValidationError, match=r"float cannot hold|too small for a float"):
        Filed(rate=value)
    assert [Filed(rate=rate).rate for rate in (2**53, "0e-400", "-0.0", 1e-300)] == [2**53, 0, 0, 1e-300]  # type: ignore[arg-type]
