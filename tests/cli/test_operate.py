"""`choreo pause`, `resume`, `cancel`, `terminate` and `undo`."""

from __future__ import annotations

from typing import Any

from choreo.core import facts
from choreo.core.events import Envelope


def status(desk: Any, key: str) -> str:
    """Return the run's status once a tracker has read everything."""
    desk.fold()
    return str(desk("show", key, "-o", "json").json["status"])


def test_a_paused_instance_is_resumed(desk: Any) -> None:
    """Both are facts in the log."""
    desk.opened("t-1")
    assert desk("pause", "t-1", "--reason", "stocktaking").code == 0
    assert status(desk, "t-1") == "paused"
    assert desk("resume", "t-1").code == 0
    assert status(desk, "t-1") == "running"


def test_a_cancelled_instance_is_turned(desk: Any) -> None:
    """Its effects are compensated."""
    desk.opened("t-1", seated=True)
    written = desk("cancel", "t-1", "-o", "json").json
    assert written["type"] == facts.CANCEL_REQUESTED
    assert status(desk, "t-1") == "compensating"


def test_a_terminated_instance_keeps_the_reason(desk: Any) -> None:
    """The reason is the run's cause."""
    desk.opened("t-1")
    desk("terminate", "t-1", "--reason", "opened by mistake")
    assert status(desk, "t-1") == "terminated"
    assert desk("show", "t-1", "-o", "json").json["cause"] == "opened by mistake"


def test_a_failed_undo_is_resolved_by_hand(desk: Any) -> None:
    """A stuck run goes on to compensated when an operator states how the effect was undone."""
    desk.opened("t-1", seated=True)
    desk("cancel", "t-1")
    assert status(desk, "t-1") == "compensating"
    (effect,) = desk("show", "t-1", "-o", "json").json["ledger"]
    run = desk("show", "t-1", "-o", "json").json["run"]
    failed = Envelope(
        "failed",
        facts.COMPENSATION_FAILED,
        "t-1",
        "desk",
        run=run,
        step="seats.take",
        entry=effect["entry"],
        round=effect["round"],
        reason="the room is locked",
    )
    desk.within(lambda app: app.backend.log.append("desk", [failed]))
    assert status(desk, "t-1") == "stuck"
    assert "an operator to retry or resolve the undo of seats.take" in desk("show", "t-1").out
    assert desk("undo", "resolve", "t-1", "seats.take", "--reason", "freed by the janitor").code == 0
    assert status(desk, "t-1") == "compensated"
