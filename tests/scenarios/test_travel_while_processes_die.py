"""Trips with joins, approvals and child flows keep their promises while each process is killed: they are audited."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.audit.reading import read
from tests.support.fleet import Fleet
from tests.support.travel_play import FLOWS, trips_keep_their_promises, use


async def test_trips_and_their_tickets_keep_their_promises_while_processes_are_killed(
    in_a_file: Callable[[Sequence[str]], Fleet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one database file: logs by the flows' declarations, and the books of the outside systems."""
    use(monkeypatch, tmp_path / "books")
    fleet = in_a_file(FLOWS)
    await trips_keep_their_promises(fleet, tmp_path / "books", partial(read, tmp_path / "c.db"))
