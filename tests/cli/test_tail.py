"""`choreo tail`."""

from __future__ import annotations

from typing import Any

import pytest

from choreo.core.events import Envelope


@pytest.fixture
def told(desk: Any) -> Any:
    """Return two tickets, one of them seated."""
    desk.opened("t-1", seated=True)
    desk.opened("t-2")
    return desk


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ((), ["TicketOpened", "SeatTaken", "TicketOpened"]),
        (("--key", "t-1"), ["TicketOpened", "SeatTaken"]),
        (("--type", "SeatTaken"), ["SeatTaken"]),
        (("--type", "SeatTaken", "--key", "t-2"), []),
    ],
)
def test_filters_restrict_what_is_printed(told: Any, filters: tuple[str, ...], expected: list[str]) -> None:
    """By key, by type, or both."""
    printed = told("tail", "--from", "start", "--no-follow", *filters, "-o", "json").lines
    assert [event["type"] for event in printed] == expected


def test_it_begins_at_the_end_unless_told_otherwise(told: Any) -> None:
    """Events from before the call are not shown."""
    assert told("tail", "--no-follow").out == ""


def test_a_value_that_cannot_be_read_is_printed_with_the_reason(desk: Any) -> None:
    """One bad record does not end the stream."""
    bad = Envelope("bad", "TicketOpened", "t-1", "desk", content_type="application/json", data=b"{")
    desk.within(lambda app: app.backend.log.append("desk", [bad]))
    assert "cannot be read" in desk("tail", "--from", "start", "--no-follow").out
    (event,) = desk("tail", "--from", "start", "--no-follow", "-o", "json").lines
    assert event["unreadable"]
