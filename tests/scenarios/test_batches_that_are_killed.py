"""A batch whose process is killed goes on in another: 10,000 dead letters, each redriven once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from choreo.core import facts, ids
from choreo.core.events import Envelope, Record
from choreo.core.partition import partition_of
from choreo.ports.dead_letters import DeadLetter
from choreo.settings import load
from choreo.wiring import App, open_app
from tests.support.patience import PATIENCE_S

DESK = Path(__file__).parents[1] / "cli" / "desk"
LETTERS = 10_000
RATE = 2_500
LOOK_S = 0.05


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the folder of a small project's storage; the project is the current folder."""
    monkeypatch.chdir(DESK)
    monkeypatch.setenv("CHOREO_DATABASE", str(tmp_path / "choreo.db"))
    monkeypatch.setenv("CHOREO_SCHEMAS", str(tmp_path / "schemas"))
    return tmp_path


async def _set_aside(app: App) -> None:
    """Put many tickets into the log, each with a dead letter of its first step."""
    partitions = await app.backend.log.partitions("desk")
    starts = [Envelope(ids.start("desk", f"t-{n}"), "TicketOpened", f"t-{n}", "desk") for n in range(LETTERS)]
    positions = await app.backend.log.append("desk", starts)
    assert all(p.partition == partition_of(e.key, partitions) for p, e in zip(positions, starts, strict=True))
    await app.backend.dead_letters.add(
        [
            DeadLetter(
                ids.derive("letter", event.id), "desk", p.partition, p.offset, "seats", "seats.take", "broken", 5,
                Record("desk", p.partition, p.offset, 5, event),
            )
            for p, event in zip(positions, starts, strict=True)
        ]
    )  # fmt: skip


def _within(work: Callable[[App], Any]) -> Any:
    async def opened() -> Any:
        async with open_app(load()) as app:
            return await work(app)

    return asyncio.run(opened())


async def _done(app: App, least: int) -> str:
    """Wait until the only batch has redriven so many; return its id."""
    never = asyncio.Event()
    async with asyncio.timeout(PATIENCE_S):
        while True:
            known = await app.batches.list()
            if known and known[0].progress.done >= least:
                return known[0].plan.id
            with suppress(TimeoutError):
                await asyncio.wait_for(never.wait(), LOOK_S)


async def _redriven(app: App) -> tuple[Counter[str], Counter[int]]:
    """Return the distinct facts of each ticket, and how often each dead letter counts as redriven."""
    found: dict[str, str] = {}
    for partition in range(await app.backend.log.partitions("desk")):
        for record in await app.backend.log.read("desk", partition, 0, 10 * LETTERS):
            if record.event.type == facts.REDRIVEN:
                found[record.event.id] = record.event.key
    letters = await app.backend.dead_letters.list("desk", 2 * LETTERS)
    return Counter(found.values()), Counter(letter.redriven for letter in letters)


@pytest.mark.timeout(2 * PATIENCE_S)
def test_ten_thousand_letters_are_redriven_once_though_the_process_is_killed(project: Path) -> None:
    """Killed half-way without a word; `choreo batch resume` does the rest."""
    _within(_set_aside)
    command = [sys.executable, "-m", "choreo", "dlq", "redrive", "--all", "--rate", f"{RATE}/s"]
    process = subprocess.Popen(command, env=os.environ.copy(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        batch_id = _within(lambda app: _done(app, LETTERS // 3))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    progress = _within(lambda app: app.batches.get(batch_id)).progress
    assert 0 < progress.done < LETTERS, "it was killed before or after its work"
    resumed = subprocess.run(
        [sys.executable, "-m", "choreo", "batch", "resume", batch_id], check=False, capture_output=True, text=True
    )
    assert resumed.returncode == 0, resumed.stderr
    assert f"{LETTERS:,} of {LETTERS:,} done, 0 refused" in resumed.stdout
    by_ticket, counts = _within(_redriven)
    assert by_ticket == Counter({f"t-{n}": 1 for n in range(LETTERS)})
    assert counts == Counter({1: LETTERS})
