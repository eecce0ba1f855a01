"""Power cuts on the embedded log with synchronous=FULL: with any end of the WAL lost, no promise is broken.

Everything runs in this process while copies of the disk, as a cut would leave it, are taken at random moments; then
each copy is opened, run to its end and audited with the books as they were at the cut. A seed (CHOREO_CRASH_SEED)
chooses them. With a gate left open the same auditor finds the broken promise: it can.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from choreo.adapters.sqlite import reboot_detection, wal_sync
from choreo.adapters.sqlite.backend import SqliteBackend
from choreo.adapters.sqlite.writer import Until, Writer
from choreo.ports.read_model import Filter
from choreo.settings import load
from choreo.wiring import App, everything, open_app, run
from services.demo import Demo, Placed
from tests.audit.auditor import Report, audit
from tests.audit.shape import Told
from tests.crash.environment import Environment
from tests.crash.observer import Observer
from tests.crash.power import Cut, Power
from tests.support.durations import durations_of
from tests.support.fleet import FLOWS, ROOT, SERVICES, TRACKER
from tests.support.patience import PATIENCE_S

ORDERS = 40
CUTS = 8
"""At random, and as many after each kind of news."""
LOSSES_MIN = CUTS // 2
"""Cuts that took something; with fewer the run proved little."""
SLOW = ("payment succeeds late", "never picked", "poisoned event")
"""Kinds of orders that wait for a timer of 12 s: the copies would take minutes."""
ENDS = ("completed", "compensated")
ANOTHER_BOOT = 4_711
LOOK_S = 0.005


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the settings of every backend that is opened here; each copy has its own database and books."""
    monkeypatch.chdir(ROOT)
    # Hardly divided: an attempt that the machine is too busy for must not time out in a test about something else.
    for name, value in {"CHOREO_FLOWS": FLOWS, "CHOREO_TIME_SCALE": "2", "CHOREO_LEASE_S": "2"}.items():
        monkeypatch.setenv(name, value)
    _use(monkeypatch, tmp_path / "choreo.db", tmp_path / "books")


@pytest.mark.timeout(300)  # 40 s on a quiet machine of two cores
async def test_no_power_cut_breaks_a_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All records that the outside world has seen are on the disk, whichever end of the WAL is lost."""
    cuts = await _play(tmp_path, monkeypatch)
    assert sum(cut.lost > 0 for cut in cuts) >= LOSSES_MIN
    assert any(cut.acknowledged for cut in cuts)
    assert any(cut.shown for cut in cuts)
    for cut in cuts:
        report = await _audited(cut, monkeypatch)
        assert not report.violations, f"{cut.folder.name}, {cut.lost} frames lost: " + "\n".join(report.violations)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("open_gate", "breach"),
    [("append", "was acknowledged and is not in the log"), ("begin", "were made in 0 runs"), ("shown", "was shown")],
)
async def test_with_a_gate_left_open_a_power_cut_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_gate: str, breach: str
) -> None:
    """The audit finds an answer of the REST view, a handler's call or a reader that did not wait for the flush."""
    with monkeypatch.context() as sabotage:
        _leave_open(open_gate, sabotage)
        cuts = await _play(tmp_path, sabotage)
    found = []
    for cut in cuts:
        found += (await _audited(cut, monkeypatch)).violations
        if any(breach in sentence for sentence in found):
            return
    pytest.fail(f"{len(cuts)} cuts and nothing was found but: {found}")


def _leave_open(gate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if gate == "shown":

        async def at_once(_backend: SqliteBackend) -> None:
            """Act as if all were flushed."""

        monkeypatch.setattr(SqliteBackend, "_shown", at_once)
        return
    queue, opened = Writer.queue, {"append": Until.FLUSHED, "begin": Until.SETTLED}[gate]

    def hasty(writer: Writer, job: Callable[[], object], until: Until = Until.FLUSHED) -> asyncio.Future[object]:
        return queue(writer, job, Until.COMMITTED if until is opened else until)

    monkeypatch.setattr(Writer, "queue", hasty)


async def _play(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Cut]:
    """Play all orders to their end, without a fault; return the copies taken meanwhile."""
    seed = int(os.environ.get("CHOREO_CRASH_SEED", "1"))
    demo = Demo()
    demo.prepare(folder / "books")
    power = Power(folder, folder / "choreo.db", folder / "books", random.Random(seed))
    monkeypatch.setattr(wal_sync, "_flush", power.flush)
    async with _running() as (app, outside):
        assert isinstance(app.backend, SqliteBackend)
        first, *orders = _orders(demo)
        await outside.place(first)
        await _quiet(app.settings.database)  # every book has its tables
        power.watch(app.backend, outside, CUTS)
        reader = asyncio.create_task(_read(app, power))
        for order in orders:
            await outside.place(order)
        await _quiet(app.settings.database)
        reader.cancel()
    return power.cuts


def _orders(demo: Demo) -> list[Placed]:
    quick = [order for order in demo.orders(2 * ORDERS) if order.kind.name not in SLOW]
    return quick[:ORDERS]


async def _read(app: App, power: Power) -> None:
    """Read the ended runs after each commit, as a spectator does."""
    while True:
        await power.news.wait()
        power.news.clear()
        page = await app.queries.instances(Filter("order"), 1_000)
        power.shown.update((view.run, view.status) for view in page.items if view.status in ENDS)


async def _audited(cut: Cut, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Open the copy, let it run to its end, and audit it."""
    _use(monkeypatch, cut.database, cut.books)
    monkeypatch.setattr(reboot_detection, "boot_of_machine", lambda: ANOTHER_BOOT)
    with closing(sqlite3.connect(cut.database)) as db:
        observer = Observer(db)
        for service in SERVICES:
            observer.note(service)
        standing = dict(db.execute("SELECT run, status FROM instances"))
    taken_back = [run for run, status in cut.shown.items() if standing.get(run) != status]
    async with _running() as (app, outside):
        await _quiet(app.settings.database)
        outside.stop.set()
        plain = {order.event.order_id for order in _orders(Demo()) if order.kind.name == "all well"}
        told = Told(
            acknowledged=cut.acknowledged,
            durations=durations_of(app.definitions["order"]),
            plain=frozenset(plain),
            interrupted=observer.interrupted,
            uncounted=1,
        )
    report = audit(cut.database, cut.books, told)
    report.violations += [f"run {run} was shown as {cut.shown[run]}, and was {standing.get(run)}" for run in taken_back]
    return report


@asynccontextmanager
async def _running() -> AsyncIterator[tuple[App, Environment]]:
    """Yield everything in this process, and the warehouse that picks."""
    async with open_app(load()) as app:
        stop = asyncio.Event()
        outside = Environment(app, Demo())
        tasks = [asyncio.create_task(run(app, everything(app, rest=False), stop)), asyncio.create_task(outside.pick())]
        try:
            yield app, outside
        finally:
            outside.stop.set()
            stop.set()
            await asyncio.gather(*tasks)


async def _quiet(database: Path) -> None:
    """Wait until every run has ended and every consumer has read everything."""
    never = asyncio.Event()
    give_up_s = time.monotonic() + PATIENCE_S
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=30)) as db:
        observer = Observer(db)
        while observer.open_runs() or observer.lag((*SERVICES, TRACKER)):
            assert time.monotonic() < give_up_s, f"waited {PATIENCE_S:.0f} s in vain: {observer.open_runs()} runs open"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(never.wait(), LOOK_S)


def _use(monkeypatch: pytest.MonkeyPatch, database: Path, books: Path) -> None:
    monkeypatch.setenv("CHOREO_DATABASE", str(database))
    monkeypatch.setenv("CHOREO_BOOKS_DIR", str(books))
