"""Flows made from seeds end as they must on one database file, while their processes are killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.audit.reading import read
from tests.support.fleet import Fleet
from tests.support.generated import FLOWS
from tests.support.generated_play import ends_as_it_must, use


@pytest.mark.parametrize("seed", [3, 4])
async def test_a_generated_flow_ends_as_it_must_while_processes_are_killed(
    seed: int, in_a_file: Callable[[Sequence[str]], Fleet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joins, waits, timers and children, in any order of events and deaths."""
    use(monkeypatch, seed, tmp_path / "books")
    await ends_as_it_must(in_a_file(FLOWS), seed, partial(read, tmp_path / "c.db"))
