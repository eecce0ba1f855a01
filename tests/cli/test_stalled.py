"""`choreo stalled` and `choreo timers`."""

from __future__ import annotations

from typing import Any

from choreo.cli.failures import NOT_FOUND
from choreo.surfaces.stalled_format import DuePageAnswer, StalledAnswer


def test_nothing_stands_still(desk: Any) -> None:
    """A ticket that was opened a moment ago is no finding; an unknown flow is an error."""
    desk.opened("t-1")
    assert desk("stalled").out.strip() == "Nothing stands still."
    answer = desk("stalled", "desk", "-o", "json").json
    assert set(answer["items"][0]) == set(StalledAnswer.model_fields)
    assert desk("stalled", "nothing").code == NOT_FOUND


def test_due_times_in_order(desk: Any) -> None:
    """Each run with its next timer; a page leads to the next one."""
    for number in range(3):
        desk.opened(f"t-{number}", seated=True)
    answer = desk("timers", "--limit", "2")
    assert answer.code == 0
    assert [line.split()[1] for line in answer.out.splitlines() if line.startswith("desk")] == ["t-0", "t-1"]
    cursor = answer.out.rpartition("--cursor ")[2].strip()
    rest = desk("timers", "desk", "--cursor", cursor, "-o", "json").json
    assert set(rest) == set(DuePageAnswer.model_fields)
    assert [row["key"] for row in rest["items"]] == ["t-2"]
    assert rest["items"][0]["about"]
    assert desk("timers", "desk", "--cursor", "x").code == NOT_FOUND
