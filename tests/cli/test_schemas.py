"""`choreo schemas`."""

from __future__ import annotations

import json
from typing import Any

from choreo.cli.failures import PROBLEM

EVENTS = ["SeatFreed", "SeatTaken", "TicketClosed", "TicketFiled", "TicketForgotten", "TicketOpened"]


def test_freezing_writes_a_file_an_event_and_then_nothing(desk: Any) -> None:
    """A version is written only where a class has changed."""
    written = desk("schemas", "freeze", "-o", "json").json["written"]
    assert sorted(path.rpartition("/")[2] for path in written) == [f"{event}.1.avsc" for event in EVENTS]
    assert desk("schemas", "freeze").out == "Every event is frozen as it is.\n"
    assert desk("schemas", "check").out == "6 events fit their frozen versions.\n"


def test_the_list_says_how_each_event_stands(desk: Any) -> None:
    """Its versions, the newest file, and whether the class still agrees with that file."""
    assert {row["state"] for row in desk("schemas", "list", "-o", "json").json["events"]} == {"not frozen"}
    desk("schemas", "freeze")
    rows = desk("schemas", "list", "-o", "json").json["events"]
    assert [row["event"] for row in rows] == EVENTS
    assert {row["state"] for row in rows} == {"frozen"}
    assert "TicketOpened" in desk("schemas", "list").out


def test_a_change_that_breaks_readers_is_named_by_its_field(desk: Any) -> None:
    """Neither check nor freeze lets it pass."""
    desk("schemas", "freeze")
    path = desk.folder / "schemas" / "SeatTaken.1.avsc"
    frozen = json.loads(path.read_text())
    frozen["fields"].append({"name": "row", "type": "string"})
    path.write_text(json.dumps(frozen))
    checked = desk("schemas", "check", "-o", "json")
    assert checked.code == PROBLEM
    assert [problem["where"] for problem in checked.json["problems"]] == ["SeatTaken.row"]
    assert "SeatTaken.row" in desk("schemas", "check").out
    refused = desk("schemas", "freeze")
    assert refused.code == PROBLEM
    assert "where: SeatTaken.row" in refused.err


def test_a_damaged_file_is_named(desk: Any) -> None:
    """The remedy is version control."""
    desk("schemas", "freeze")
    (desk.folder / "schemas" / "SeatTaken.1.avsc").write_text("{")
    answer = desk("schemas", "check")
    assert answer.code == PROBLEM
    assert "SeatTaken.1.avsc" in answer.err
    assert "version control" in answer.err
