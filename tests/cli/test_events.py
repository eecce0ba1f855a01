"""`choreo events`: the catalogue for people, as JSON, and as a check."""

from __future__ import annotations

from typing import Any

from choreo.cli.failures import PROBLEM
from choreo.core.events import Envelope
from choreo.surfaces.catalogue_format import CatalogueList
from choreo.wiring import App


def test_the_catalogue_and_its_alarm(desk: Any) -> None:
    """Without a difference the check passes; an undeclared event makes it fail, with its producer."""
    desk.opened("t-1")
    answer = desk("events", "--check")
    assert answer.code == 0
    (row,) = [line.split() for line in answer.out.splitlines() if line.split()[1:2] == ["TicketOpened"]]
    assert row[2] == "outside"

    async def publish(app: App) -> None:
        event = Envelope("x", "TicketTorn", "t-1", "desk", source="scanner/2")
        await app.backend.log.append("desk", [event])

    desk.within(publish)
    answer = desk("events", "desk", "--check")
    assert answer.code == PROBLEM
    assert "drift in desk: TicketTorn: the flow declares no such event, and scanner/2 publishes it" in answer.out
    assert desk("events").code == 0
    assert set(desk("events", "-o", "json").json) == set(CatalogueList.model_fields)
