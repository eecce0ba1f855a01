"""`choreo deploy check` of a flow without frozen versions: a change that strands or turns an open run is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from choreo.cli.failures import PROBLEM
from choreo.wiring import App

STEP = "@seats.step(on=TicketOpened, emits=SeatTaken)"
RENAMED = '@seats.step(on=TicketOpened, emits=SeatTaken, name="grab")'
UNDO = "@take.compensate(emits=SeatFreed)\n"
NO_EFFECT = "@seats.step(on=TicketOpened, emits=SeatTaken, effect=False)"
WAIT = 'desk.wait(on=SeatTaken, until=TicketClosed, timeout="1d", fails=TicketForgotten)'


async def all_of_it(app: App) -> object:
    """Return everything that a command could have written: the log, the offsets and the views."""
    log = app.backend.log
    ends = [await log.end("desk", number) for number in range(await log.partitions("desk"))]
    return ends, await log.committed("desk", "tracker"), await app.backend.read_model.digest("desk")


Change = tuple[str, str]
Found = tuple[str, str]

CHANGES: dict[str, tuple[list[Change], list[Found]]] = {
    "a renamed step": (
        [(STEP, RENAMED)],
        [
            ("C812", "step seats.take, which has an effect, is declared no more: 1 open run"),
            ("C812", "step seats.take, which is expected, is declared no more: 1 open run"),
        ],
    ),
    "no compensation": (
        [(STEP, NO_EFFECT), (UNDO, "")],
        [("C813", "step seats.take, which has an effect, has no compensation any more: 1 open run")],
    ),
    "a renamed wait": (
        [(WAIT, WAIT.replace("on=SeatTaken", "on=SeatTaken, name='close'"))],
        [("C812", "wait.TicketClosed, which is open, is declared no more: 1 open run")],
    ),
    "a shorter wait": (
        [(WAIT, WAIT.replace("1d", "1ms"))],
        [("C813", "which is open, has a shorter timeout, and a rebuild would end it: 1 open run")],
    ),
    "more time": ([(WAIT, WAIT.replace("1d", "2d")), ('deadline="30d"', 'deadline="60d"')], []),
}


@pytest.mark.parametrize(("changes", "found"), CHANGES.values(), ids=CHANGES)
def test_a_change_under_the_same_version_is_judged_by_the_open_runs(
    redeclared: Callable[..., Any], changes: list[Change], found: list[Found]
) -> None:
    """The list has a code, the part of the declaration, and the number of runs that need it; nothing is written."""
    desk = redeclared(*changes)
    before = desk.within(all_of_it)
    answer = desk("deploy", "check", "-o", "json")
    assert answer.code == (PROBLEM if found else 0), answer.err
    listed = sorted((each["code"], each["what"]) for each in answer.json["findings"])
    assert len(listed) == len(found), listed
    for (code, what), (known_code, known_what) in zip(listed, sorted(found), strict=True):
        assert code == known_code
        assert known_what in what
    assert desk.within(all_of_it) == before
    table = desk("deploy", "check").out
    assert all(what in table for _, what in found) or "can go on" in table
