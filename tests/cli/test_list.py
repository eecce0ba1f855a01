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
    assert header.split() == ["flow", "key", "status", "started", "cause"]
    assert len(rows) == 3
    assert "\x1b" not in "".join(rows)
