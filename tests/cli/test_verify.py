"""`choreo verify`: its answers and its exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

DESK = Path(__file__).parent / "desk"

RULE = """

@desk.invariant
def a_seat_is_never_taken(run):
    return not run.stands("seats.take")
"""


def test_a_flow_that_holds(desk: Any) -> None:
    """The counts and the moves stand beside the verdict."""
    answer = desk("verify", "--with", "cancel")
    assert answer.code == 0
    assert "flow desk: every promise holds in every reachable state; " in answer.out
    assert "moves: crash, cancel; invariants: none of its own" in answer.out


def test_an_exploration_that_is_cut_off_has_its_own_code(desk: Any) -> None:
    """A job in CI does not take it for a pass."""
    answer = desk("verify", "--limit", "3", "-o", "json")
    (report,) = answer.json["flows"]
    assert (answer.code, report["verdict"]) == (6, "unknown")
    assert {"states", "transitions", "transitions_s", "timeline"} <= report.keys()


def test_a_broken_rule_comes_with_its_timeline(desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit code is that of a problem."""
    (desk.folder / "ruled_flow.py").write_text((DESK / "desk_flow.py").read_text() + RULE)
    monkeypatch.chdir(desk.folder)
    monkeypatch.setenv("CHOREO_FLOWS", "ruled_flow:desk")
    answer = desk("verify")
    assert answer.code == 1
    assert "flow desk: invariant a_seat_is_never_taken: it is False" in answer.out
    assert "seats.take open" in answer.out


def test_an_unknown_move_or_flow_is_refused(desk: Any) -> None:
    """Before anything is explored."""
    assert desk("verify", "--with", "meteor").code == 2
    assert desk("verify", "nothing").code == 4
