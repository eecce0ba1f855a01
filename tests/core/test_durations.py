"""Durations as users write them, in whole milliseconds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choreo.core.durations import DURATION_MAX_MS, human, milliseconds
from choreo.core.errors import DeclarationError

GOOD = [
    ("250ms", 250),
    ("30s", 30_000),
    ("1.5m", 90_000),
    ("1h30m", 5_400_000),
    (" 2 d ", 172_800_000),
    ("1w", 604_800_000),
    (0, 0),
    (5, 5_000),
    (0.25, 250),
    (4.35, 4_350),
    ("0.001s", 1),
]
BAD: list[Any] = ["", "30", "s", "30 seconds", "-1s", "1s-", "1h30", "1e3s", None, True, -1, float("nan"), [30]]


@pytest.mark.parametrize(("written", "expected_ms"), GOOD)
def test_a_duration_is_read(written: str | float, expected_ms: int) -> None:
    """Numbers with units, in any order of units; a plain number is seconds."""
    assert milliseconds(written) == expected_ms


@pytest.mark.parametrize("written", BAD, ids=repr)
def test_what_is_no_duration_is_refused_with_its_place_and_the_remedy(written: Any) -> None:
    """The sentence shows the value, where it stands, and how to write it."""
    with pytest.raises(DeclarationError) as refused:
        milliseconds(written, "step payment.charge")
    assert refused.value.sentence == (
        f"step payment.charge: {written!r} is not a duration. "
        'Write it as "30s", "5m", "24h", "2d" or a number of seconds.'
    )


@given(st.integers(min_value=0, max_value=DURATION_MAX_MS))
def test_a_duration_for_people_reads_back_as_itself(duration_ms: int) -> None:
    """A duration from a message can be pasted into a declaration."""
    assert milliseconds(human(duration_ms)) == duration_ms


@pytest.mark.parametrize(
    "written", ["9999999d", "999999999999d", f"{'9' * 400}d", 1e12, 10**400, float("inf")], ids=repr
)
def test_a_duration_that_no_calendar_has_the_end_of_is_refused(written: Any) -> None:
    """The moment it ends could not be shown, or not be stored: "never" is to leave it out."""
    with pytest.raises(DeclarationError, match=r"is longer than a thousand years\. Leave it out") as refused:
        milliseconds(written, "flow order")
    assert refused.value.where == "flow order"


@pytest.mark.parametrize("written", ["0.5ms", "0.0001s", "0.3333333d", 0.0001, 1e-7, 1.0000005], ids=repr)
def test_a_part_of_a_millisecond_is_refused(written: Any) -> None:
    """It would be cut: a wait of 0.1 ms would be none."""
    with pytest.raises(DeclarationError, match="no whole number of milliseconds"):
        milliseconds(written, "step payment.charge")
