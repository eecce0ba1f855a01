"""`choreo show`."""

from __future__ import annotations

from typing import Any

import pytest

from choreo.app.failures import JSON, failure_of
from choreo.core import facts
from choreo.core.events import Envelope


def test_an_open_instance_says_what_it_waits_for(desk: Any) -> None:
    """The first question about an instance that does not go on."""
    desk.opened("t-1", seated=True)
    shown = desk("show", "t-1")
    assert "desk t-1    running" in shown.out
    assert "waits for   TicketClosed from outside" in shown.out
    assert "next timer" in shown.out
    assert "seats.take done: SeatTaken" in shown.out


def test_the_timeline_has_a_row_an_event(desk: Any) -> None:
    """After which time, which event, how long it took, whether it belongs to the way back, and in words."""
    desk.opened("t-1", seated=True)
    table = desk("show", "t-1").out.split("\n\n")[1].splitlines()
    assert table[0].split() == ["after", "event", "took", "undo", "what", "happened"]
    assert [row.split()[1] for row in table[1:]] == ["TicketOpened", "SeatTaken"]


def test_json_is_the_instance_with_its_timeline(desk: Any) -> None:
    """Times are RFC 3339, and null where there is none."""
    desk.opened("t-1", seated=True)
    shown = desk("show", "t-1", "-o", "json").json
    assert shown["status"] == "running"
    assert shown["ended"] is None
    assert shown["deadline"].endswith("Z")
    assert [effect["step"] for effect in shown["ledger"]] == ["seats.take"]
    assert [row["type"] for row in shown["timeline"]] == ["TicketOpened", "SeatTaken"]


def test_watching_ends_with_the_run(desk: Any) -> None:
    """Rows are printed as they come; the header comes last, with the result."""
    desk.opened("t-1")
    desk("terminate", "t-1", "--reason", "by mistake")
    desk.fold()
    watched = desk("show", "t-1", "--watch", "-o", "json").lines
    assert [row["type"] for row in watched] == ["TicketOpened", facts.FLOW_TERMINATED]
    assert "desk t-1  terminated: by mistake" in desk("show", "t-1", "--watch").out


def test_a_read_model_that_is_behind_is_said_to_be(desk: Any) -> None:
    """Without a tracker a view is old, and silence would be a lie."""
    desk.opened("t-1")
    desk("cancel", "t-1")
    shown = desk("show", "t-1")
    assert shown.code == 0
    assert "the read model is behind the log" in shown.err


def test_text_from_the_log_cannot_drive_the_terminal(desk: Any) -> None:
    """A foreign reason with escape sequences is shown, not obeyed."""
    desk.opened("t-1")
    run = desk("show", "t-1", "-o", "json").json["run"]
    evil = Envelope("evil", facts.FLOW_TERMINATED, "t-1", "desk", run=run, reason="\x1b]0;owned\x07\x1b[31mred")
    desk.within(lambda app: app.backend.log.append("desk", [evil]))
    desk.fold()
    shown = desk("show", "t-1").out
    assert "\x1b" not in shown
    assert r"\x1b]0;owned" in shown


def test_a_failed_attempt_is_told_with_its_cause_and_its_place(desk: Any) -> None:
    """Below the story: the step, its error, the cause and the place; without a failure there is no such line."""
    desk.opened("t-1")
    assert "ConnectionError" not in desk("show", "t-1").out
    run = desk("show", "t-1", "-o", "json").json["run"]
    headers = {"run": run, "step": "seats.take", "attempt": 1, "reason": "no seat", "content_type": JSON}
    failed = Envelope("a", facts.STEP_ATTEMPT_FAILED, "t-1", "desk", data=failure_of(raised()), **headers)
    foreign = Envelope("b", facts.STEP_ATTEMPT_FAILED, "t-1", "desk", data=b'{"type": 7}', **headers)
    desk.within(lambda app: app.backend.log.append("desk", [failed, foreign]))
    desk.fold()
    shown = desk("show", "t-1").out
    lines = shown.split("\n\n")[-1].splitlines()
    assert lines[0].startswith("seats.take, +")
    assert lines[0].endswith(r": LookupError: no seat \x1b[31m left")
    assert lines[1] == "  from ConnectionError: the hall does not answer"
    assert lines[2].startswith(f"  at {__file__}:")
    assert "in raised: raise LookupError" in lines[2]
    assert shown.count("LookupError: no seat") == 1
    told = [row["failure"] for row in desk("show", "t-1", "-o", "json").json["timeline"]]
    assert [failure and failure["type"] for failure in told] == [None, "LookupError", None]


def raised() -> BaseException:
    """Return an error that a step may raise, with its notes and causes."""
    with pytest.raises(LookupError) as caught:
        raise LookupError("no seat \x1b[31m left") from ConnectionError("the hall does not answer")
    return caught.value
