"""Parts of sentences: counted nouns, near names, faults without pydantic's prefixes."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from choreo.core.wording import counted, did_you_mean, fault_text


class Odd(BaseModel):
    """A class whose validators have words of their own."""

    size: int
    even: int

    @field_validator("size")
    @classmethod
    def _size(cls, value: int) -> int:
        if value > 3:
            message = "three at most"
            raise ValueError(message)
        return value

    @field_validator("even")
    @classmethod
    def _even(cls, value: int) -> int:
        if value % 2:
            message = "an even one"
            raise AssertionError(message)
        return value


def test_one_is_counted_in_the_singular() -> None:
    """Also where the plural is no s."""
    assert [counted(count, "file") for count in (0, 1, 2, 1_000)] == ["0 files", "1 file", "2 files", "1,000 files"]
    assert counted(2, "entry", "entries") == "2 entries"


def test_a_near_name_is_asked_about_and_a_far_one_is_not() -> None:
    """The question stands before the list of names."""
    assert did_you_mean("OrderPalced", ["OrderPlaced", "StockReserved"]) == "Did you mean OrderPlaced? "
    assert did_you_mean("Nope", ["OrderPlaced"]) == ""


def test_a_validators_own_sentence_stands_alone() -> None:
    """`Value error` is pydantic's word, not its author's."""
    with pytest.raises(ValidationError) as refused:
        Odd(size=4, even=3)
    assert [fault_text(found) for found in refused.value.errors()] == ["three at most", "an even one"]
