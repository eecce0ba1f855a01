"""Crash safety on the embedded log: kill -9 at random moments while 1,000 orders run, then an independent audit.

The processes are real, and so are the kills. A seed (CHOREO_CRASH_SEED) chooses the process and the work before each
kill; a run in which too few kills hit work in flight proves nothing and fails.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from choreo.ports.state import StateRow
from choreo.settings import load
from choreo.wiring import App, open_app
from services.demo import Demo
from tests.audit.auditor import Report, audit
from tests.audit.reading import opened
from tests.audit.shape import Told
from tests.crash.environment import Environment, poison, poisoned
from tests.crash.observer import Observer
from tests.support.durations import durations_of
from tests.support.fleet import FLOWS, ROLES, ROOT, SERVICES, TRACKER, Fleet, Worker
from tests.support.patience import PATIENCE_S

ORDERS = 1_000
KILLS = 50
HITS_MIN = KILLS // 5
"""About two thirds of the kills hit work in flight; with so few the run proved little."""
RECORDS_BETWEEN_KILLS = 150
"""An order leaves about nine records, so fifty kills 1 to 150 records apart fall into the first half of the work."""
UNDO_WAITS_MS = 4_000
"""Nobody is killed while an undo has waited that long: past its deadline (35 s as divided here) its run is stuck, as is
promised for orders of stopped services."""

LOOK_S = 0.01


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return settings of every process, this one too."""
    values = {
        "CHOREO_FLOWS": FLOWS,
        "CHOREO_DATABASE": str(tmp_path / "choreo.db"),
        "CHOREO_BOOKS_DIR": str(tmp_path / "books"),
        "CHOREO_TIME_SCALE": str(Demo.time_scale),
        "CHOREO_LEASE_S": "1",
    }
    monkeypatch.chdir(ROOT)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


async def until(condition: Callable[[], bool], fleet: Fleet, what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for a fact in the file; a process that ends by itself, or nothing happening, is a failure."""
    never = asyncio.Event()
    give_up_s = time.monotonic() + patience_s
    while not condition():
        if died := fleet.died():
            pytest.fail("\n".join(died))
        assert time.monotonic() < give_up_s, f"waited {patience_s:.0f} s in vain: {what}"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(never.wait(), LOOK_S)


@pytest.mark.timeout(600)  # 40 to 60 s on a quiet machine of two cores
async def test_no_kill_breaks_a_promise(tmp_path: Path, environment: dict[str, str]) -> None:
    """Promises 1 to 8 hold although every process is killed again and again while 1,000 orders run."""
    seed = int(os.environ.get("CHOREO_CRASH_SEED", "1"))
    fleet = Fleet(tmp_path, environment)
    demo = Demo()
    demo.prepare(tmp_path / "books")
    async with open_app(load()) as app:
        with opened(app.settings.database) as db:
            observer = Observer(db)
            try:
                outside = Environment(app, demo)
                hits = await _play(app, fleet, observer, outside, random.Random(seed))
            finally:
                fleet.kill_all()
        report = _audit(app, outside, observer, tmp_path / "books")
        print(f"seed {seed}: {hits}; {report.counts}")  # noqa: T201 - a failed run is repeated by its seed
        assert not report.violations, "\n".join(report.violations)
        assert hits["hit work in flight"] >= HITS_MIN
        assert hits["interrupted a handler"] > 0
        before = await _contents(app)
        _rebuild(environment)
        assert await _contents(app) == before, (
            "promise 6: states and read model rebuilt from the log are other than before"
        )


async def _play(
    app: App, fleet: Fleet, observer: Observer, outside: Environment, chance: random.Random
) -> Counter[str]:
    """Place the orders in as many lots as there are kills, one kill after each; then let everything end."""
    orders = Demo().orders(ORDERS)
    hits: Counter[str] = Counter()
    warehouse = asyncio.create_task(outside.pick())
    for role in ROLES:
        fleet.start(role)
    for number in range(KILLS):
        for order in orders[number * ORDERS // KILLS : (number + 1) * ORDERS // KILLS]:
            await outside.place(order)
        if number == KILLS // 2:
            poison(app.settings.database)
        await _work(fleet, observer, chance.randint(1, RECORDS_BETWEEN_KILLS))
        victim = chance.choice([worker for worker in fleet.workers if observer.at_work(worker)])
        hits += _kill(fleet, observer, victim)
    await until(lambda: observer.open_runs() == 0, fleet, "every run has ended")
    assert fleet.stop(SERVICES) == []
    await until(lambda: observer.lag((TRACKER,)) == 0, fleet, "the trackers have read all")
    outside.stop.set()
    await warehouse
    assert fleet.stop((TRACKER,)) == []
    return hits


async def _work(fleet: Fleet, observer: Observer, records: int) -> None:
    """Let the log grow by so many records, or until nothing is left to do."""
    goal = observer.records() + records
    await until(lambda: observer.records() >= goal or not observer.open_runs(), fleet, f"the log has {goal} records")
    await until(lambda: any(map(observer.at_work, fleet.workers)), fleet, "a process has taken its partitions")
    await until(lambda: observer.undo_waits_ms(_now_ms()) < UNDO_WAITS_MS, fleet, "what was to be undone is undone")


def _kill(fleet: Fleet, observer: Observer, victim: Worker) -> Counter[str]:
    """Kill it, read its last work, and start it again at once."""
    killed_ms = _now_ms()
    fleet.kill(victim)
    caught = observer.caught(victim, killed_ms)
    fleet.start(victim.role)
    return Counter(
        {
            f"killed {victim.role}": 1,
            "hit work in flight": caught.in_flight,
            "interrupted a handler": bool(caught.attempts),
            "attempts interrupted": len(caught.attempts),
            "records unread": caught.unread,
        }
    )


def _now_ms() -> int:
    return int(time.time() * 1_000)


def _audit(app: App, outside: Environment, observer: Observer, books: Path) -> Report:
    plain = {order.event.order_id for order in Demo().orders(ORDERS) if order.kind.name == "all well"}
    told = Told(
        acknowledged=outside.acknowledged,
        poisoned=poisoned(app.settings.database),
        durations=durations_of(app.definitions["order"]),
        plain=frozenset(plain),
        interrupted=observer.interrupted,
    )
    return audit(app.settings.database, books, told)


async def _contents(app: App) -> tuple[Mapping[str, Any], list[StateRow]]:
    """Return everything that is folded from the log, byte for byte."""
    states = [
        row
        for partition in range(await app.backend.log.partitions("order"))
        async for row in app.backend.states.scan("order", partition)
    ]
    return await app.backend.read_model.digest("order"), states


def _rebuild(environment: dict[str, str]) -> None:
    """Run the command that a person would use."""
    command = [sys.executable, "-m", "choreo", "projections", "rebuild", "order"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
