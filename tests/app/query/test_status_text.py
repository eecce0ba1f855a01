"""Texts about time, the same on every surface."""

from choreo.app.query.status_text import duration


def test_durations_are_written_for_people() -> None:
    """By their two greatest units."""
    assert [duration(value) for value in (None, 0, 999, 1_500, 90_000, 3_600_000, 93_784_000, -1_500)] == [
        "–", "0 ms", "999 ms", "1.5 s", "1 min 30 s", "1 h", "1 d 2 h", "-1.5 s",
    ]  # fmt: skip
