"""`choreo list`."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def three(desk: Any) -> Any:
    """Return the project with three tickets, the second paused."""
    for key in ("t-1", "t-2", "t-3"):
        desk("publish", "desk", "TicketOpened", "--key", key, "--field", f"priority={key[-1]}")
    desk.fold()
    desk("pause", "t-2")
    desk.fold()
    return desk


def keys(answer: Any) -> list[str]:
    """Return the keys of a page."""
    return [item["key"] for item in answer.json["items"]]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ((), {"t-1", "t-2", "t-3"}),
        (("desk",), {"t-1", "t-2", "t-3"}),
        (("--status", "paused"), {"t-2"}),
        (("--attr", "priority=3"), {"t-3"}),
        (("--attr", "priority=3", "--status", "paused"), set()),
        (("--attr", "priority>=2.0"), {"t-2", "t-3"}),
        (("--attr", "priority>1", "--attr", "priority<3"), {"t-2"}),
        (("--attr", "ticket_id=t-1"), {"t-1"}),
        (("--key", "t-1"), {"t-1"}),
        (("--since", "2020-01-01"), {"t-1", "t-2", "t-3"}),
        (("--before", "2020-01-01T00:00Z"), set()),
    ],
)
def test_filters_restrict_the_list(three: Any, filters: tuple[str, ...], expected: set[str]) -> None:
    """All that are given must fit."""
    assert set(keys(three("list", *filters, "-o", "json"))) == expected


def test_a_page_ends_with_the_cursor_of_the_next(three: Any) -> None:
    """Pages are asked for one by one, and lose none."""
    first = three("list", "--limit", "2", "-o", "json")
    rest = three("list", "--limit", "2", "--cursor", first.json["cursor"], "-o", "json")
    assert sorted(keys(first) + keys(rest)) == ["t-1", "t-2", "t-3"]
    assert rest.json["cursor"] == ""
    assert "more: --cursor" in three("list", "--limit", "2").out


def test_a_table_is_plain_where_it_is_piped(three: Any) -> None:
    """No frames, no colours, nothing cut: one line an instance for other tools."""
    header, *rows = three("list").out.splitlines()
    assert header.split() == ["flow", "key", "status", "started", "cause", "attributes"]
    assert len(rows) == 3
    assert rows[0].endswith("priority=3")
    assert "\x1b" not in "".join(rows)


def test_a_search_attribute_is_set_by_a_later_event(three: Any) -> None:
    """It is shown with the instance and found in the list, in a table and as JSON."""
    three.within(lambda app: app.publisher.publish("desk", {"ticket_id": "t-1"}, type_="SeatTaken", force=True))
    three.fold()
    assert three("publish", "desk", "TicketClosed", "--key", "t-1", "--field", "closed_by=ann berg").code == 0
    three.fold()
    assert keys(three("list", "--attr", "closed_by^=ann", "-o", "json")) == ["t-1"]
    assert keys(three("list", "--attr", "closed_by^=berg", "-o", "json")) == []
    shown = three("show", "t-1")
    assert "found by    closed_by=ann berg" in shown.out
    assert three("show", "t-1", "-o", "json").json["attributes"]["closed_by"] == "ann berg"
    assert "closed_by=ann berg" in three("list", "desk").out


@pytest.mark.parametrize(
    ("filter_", "what", "remedy"),
    [
        ("priority>high", "'high' is not a number, such as 12.50", "Write it such as in the example"),
        ("closed_by>ann", "closed_by is a text, and > is no comparison of it", "Compare it with =, ^="),
        (
            "priorty=1",
            "flow desk has no attribute priorty",
            "Did you mean priority? Known: priority (number), closed_by (text), ticket_id, lines.",
        ),
        (
            "ticket_id>t",
            "ticket_id is a plain field of TicketOpened, which is filtered with = only",
            'Declare it: desk.attribute("ticket_id", TicketOpened).',
        ),
    ],
)
def test_a_filter_that_no_run_can_meet_is_refused(three: Any, filter_: str, what: str, remedy: str) -> None:
    """With the reason and the names, instead of an empty list."""
    answer = three("list", "--attr", filter_)
    assert answer.code != 0
    assert f"error: {what}" in answer.err
    assert remedy in answer.err


@pytest.mark.parametrize("filter_", [f"{'x' * 5_000}=1", f"priority={'9' * 5_000}x", "x" * 5_000])
def test_the_error_about_a_long_filter_is_short(three: Any, filter_: str) -> None:
    """It quotes the beginning."""
    answer = three("list", "--attr", filter_)
    assert answer.code != 0
    assert len(answer.err) < 1_000
    assert filter_[:50] in answer.err or "9" * 50 in answer.err
