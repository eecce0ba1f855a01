"""Every type by every way into an embedded log: a published value is handled, shown and found as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from choreo.settings import load
from tests.scenarios.every_value import FLOW, WAYS, held
from tests.support.running import running


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "sqlite"])
async def test_what_is_published_is_what_is_handled_shown_and_found(
    memory: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By each way the same value, down to the last digit; each plain field finds its run."""
    settings = load(flows=(FLOW,), database=tmp_path / "x.db", partitions=1, topics=tmp_path / "none")
    async with running(settings, memory=memory) as app:
        found = await held(app, WAYS)
    with capsys.disabled():
        sys.stdout.write(f"\n{found}\n")
