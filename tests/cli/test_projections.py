"""`choreo projections`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from choreo.cli.failures import CONFLICT
from tests.cli.conftest import own_desk_flow


def test_a_rebuild_gives_what_was_there_before(desk: Any) -> None:
    """The log alone holds the truth: states and views are folded from it, byte for byte."""
    desk.opened("t-1", seated=True)
    desk.opened("t-2")
    desk("pause", "t-2")
    desk.fold()
    before = desk.within(lambda app: app.backend.read_model.digest("desk"))
    answer = desk("projections", "rebuild", "desk", "-o", "json")
    assert answer.json == {"flow": "desk", "instances": {"paused": 1, "running": 1}}
    assert desk.within(lambda app: app.backend.read_model.digest("desk")) == before


def test_nothing_is_rebuilt_to_nothing(desk: Any) -> None:
    """An empty log has no instances."""
    assert desk("projections", "rebuild").out == "flow desk rebuilt: no instances\n"


@pytest.fixture
def redeclared(desk: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Yield the project with a ticket for a taken seat, after its step was declared to leave nothing to undo."""
    desk.opened("t-1", seated=True)
    desk.opened("t-2")
    with own_desk_flow(tmp_path, monkeypatch) as module:
        text = module.read_text()
        start, end = text.index("@take.compensate"), text.index("@archive.step")
        module.write_text((text[:start] + text[end:]).replace("emits=SeatTaken)", "emits=SeatTaken, effect=False)"))
        yield desk


def test_a_rebuild_that_would_change_what_is_shown_is_refused_with_the_list(redeclared: Any) -> None:
    """Nothing is dropped: the views are the same, byte for byte."""
    before = redeclared.within(lambda app: app.backend.read_model.digest("desk"))
    answer = redeclared("projections", "rebuild", "desk")
    said = " ".join(answer.err.split())
    assert answer.code == CONFLICT
    assert "would change 1 instance:" in said
    assert "t-1 (run " in said
    assert "t-2 (run " not in said
    assert "--accept-changes" in said
    assert redeclared.within(lambda app: app.backend.read_model.digest("desk")) == before


def test_changes_that_are_accepted_are_made(redeclared: Any) -> None:
    """Afterwards the views follow the present declaration, and nothing is left to accept."""
    accepted = redeclared("projections", "rebuild", "desk", "--accept-changes", "-o", "json")
    assert accepted.code == 0
    assert accepted.json == {"flow": "desk", "instances": {"running": 2}}
    assert redeclared("projections", "rebuild", "desk").code == 0
