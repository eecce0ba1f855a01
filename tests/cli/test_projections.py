"""`choreo projections`."""

from __future__ import annotations

from typing import Any


def test_a_rebuild_gives_what_was_there_before(desk: Any) -> None:
    """The log alone holds the truth: states and views are folded from it, byte for byte."""
    desk.opened("t-1", seated=True)
    desk.opened("t-2")
    desk("pause", "t-2")
    desk.fold()
    before = desk.within(lambda app: app.home.read_model.digest("desk"))
    answer = desk("projections", "rebuild", "desk", "-o", "json")
    assert answer.json == {"flow": "desk", "instances": {"paused": 1, "running": 1}}
    assert desk.within(lambda app: app.home.read_model.digest("desk")) == before


def test_nothing_is_rebuilt_to_nothing(desk: Any) -> None:
    """An empty log has no instances."""
    assert desk("projections", "rebuild").out == "flow desk rebuilt: no instances\n"
