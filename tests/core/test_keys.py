"""A business key has one text for any type of its field: the message key, and the key in a person's query."""

from __future__ import annotations

import enum
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from choreo.core.keys import key_text


class Kind(enum.Enum):
    """A key that is one of a few."""

    ONE = "one"


TEXTS: list[tuple[Any, str]] = [
    ("o-1", "o-1"),
    (42, "42"),
    (True, "true"),
    (1.5, "1.5"),
    (Kind.ONE, "one"),
    (Decimal("10.5000"), "10.5"),
    (Decimal(10), "10"),
    (Decimal("1E+2"), "100"),
    (Decimal("12345678901234567890123456789.01234567890"), "12345678901234567890123456789.0123456789"),
    (Decimal("-0.00"), "0"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (date(2026, 1, 2), "2026-01-02"),
    (datetime(2026, 1, 2, 1, tzinfo=timezone(timedelta(hours=1))), "2026-01-02T00:00:00Z"),
    (datetime(2026, 1, 2, 0, 0, 0, 5, tzinfo=UTC), "2026-01-02T00:00:00.000005Z"),
]


@pytest.mark.parametrize(("value", "text"), TEXTS, ids=repr)
def test_a_key_has_one_text(value: Any, text: str) -> None:
    """Two values that are equal have the same."""
    assert key_text(value) == text


@pytest.mark.parametrize("value", [None, b"x", ["a"], {}], ids=repr)
def test_what_cannot_be_a_key_is_refused(value: Any) -> None:
    """None is no instance's name."""
    with pytest.raises(TypeError, match="is no key"):
        key_text(value)
