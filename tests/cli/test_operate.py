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


def test_a_dry_run_foresees_and_writes_nothing(desk: Any) -> None:
    """Each action prints its consequences; the run stays as it is."""
    desk.opened("t-1", seated=True)
    foreseen = desk("cancel", "t-1", "--dry-run", "-o", "json").json
    assert [undo["step"] for undo in foreseen["undos"]] == ["seats.take"]
    assert (foreseen["becomes"], foreseen["end"]) == ("compensating", "compensated")
    assert "Undoes seats.take." in desk("cancel", "t-1", "--dry-run").out
    for act in (("pause",), ("terminate",)):
        answer = desk(*act, "t-1", "--dry-run")
        assert (answer.code, answer.out.splitlines()[-1]) == (0, "nothing was written")
    assert status(desk, "t-1") == "running"
    for act in (("resume", "t-1"), ("undo", "retry", "t-1", "seats.take"), ("undo", "resolve", "t-1", "seats.take")):
        assert desk(*act, "--dry-run").code == desk(*act, "--reason", "x").code != 0


def test_a_batch_acts_on_every_instance_of_the_filter(desk: Any) -> None:
    """A dry run tells how many; the batch has the author of the command."""
    for key in ("t-1", "t-2"):
        desk.opened(key)
    desk("terminate", "t-2", "--reason", "over")
    desk.fold()
    dry = desk("batch", "run", "pause", "--dry-run")
    assert "pause of every run in flow desk: 1 item" in dry.out
    assert "the run has ended: terminated" in dry.out
    assert desk("batch", "run", "pause", "--status", "running", "--reason", "stocktaking").code == 0
    assert status(desk, "t-1") == "paused"
    assert desk("batch", "run", "explode").code != 0
