"""Lists and counts of a file with many runs: pieces of an index, read beside the event loop, nothing sorted whole."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from choreo.adapters.sqlite import SqliteBackend
from choreo.adapters.sqlite.read_model import FEW
from choreo.ports.read_model import Filter, InstanceView
from choreo.testing.clock import VirtualClock

RUNS = 3 * FEW
STATUSES = ("running", "stuck", "completed")


def view(number: int, status: str = "") -> InstanceView:
    """Return a run; of its attributes one is common, one is rare."""
    attributes = {"country": "DE" if number % 2 else "FR", "customer": f"c-{number % 100}"}
    status = status or STATUSES[number % 3]
    key, run = f"o-{number}", f"r-{number}"
    return InstanceView("order", key, run, status, "", 1_000 + number // 2, 0, 0, number, attributes)


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[SqliteBackend]:
    """Yield a file with enough runs for every way to list them."""
    opened = await SqliteBackend.open(tmp_path / "choreo.db", clock=VirtualClock())
    views = [view(number) for number in range(RUNS)]
    await opened.writer.write(lambda: opened.read_model.write(views))
    yield opened
    await opened.close()


FILTERS = {
    "all": Filter(),
    "flow": Filter("order"),
    "status": Filter("order", status="stuck"),
    "key": Filter("order", key="o-7"),
    "common": Filter("order", attributes={"country": "DE"}),
    "rare": Filter("order", attributes={"customer": "c-7"}),
    "both": Filter("order", attributes={"country": "DE", "customer": "c-7"}),
    "never together": Filter("order", attributes={"country": "FR", "customer": "c-7"}),
    "status and common": Filter("order", status="stuck", attributes={"country": "DE"}),
    "times": Filter("order", started_from_ms=1_100, started_before_ms=1_200),
}


@pytest.mark.parametrize("name", FILTERS)
async def test_every_filter_lists_what_fits_page_by_page(backend: SqliteBackend, name: str) -> None:
    """Newest first, each once, whichever way is taken through the indexes."""
    wanted = FILTERS[name]
    found: list[InstanceView] = []
    cursor = ""
    while True:
        page = await backend.read_model.instances(wanted, 400, cursor)
        found += page.items
        cursor = page.cursor
        if not cursor:
            break
    fitting = [
        each
        for each in map(view, reversed(range(RUNS)))
        if wanted.status in ("", each.status)
        and wanted.key in ("", each.key)
        and wanted.started_from_ms <= each.started_ms < (wanted.started_before_ms or 1 << 62)
        and wanted.attributes.items() <= each.attributes.items()
    ]
    assert found == fitting


@pytest.mark.parametrize("name", ["flow", "status", "key", "times", "common", "status and common"])
async def test_no_list_sorts_the_whole_flow(backend: SqliteBackend, name: str) -> None:
    """SQLite's plan walks an index in the order of the list."""
    conditions, values = backend.read_model.conditions(FILTERS[name])
    sql = f"""EXPLAIN QUERY PLAN SELECT * FROM instances WHERE (started_ms, number) < (1e18, 0)
        {"".join(f" AND {condition}" for condition in conditions)} ORDER BY started_ms DESC, number DESC LIMIT 51"""
    plan = [row[3] for row in backend.database.query(sql, values)]
    assert not [step for step in plan if "TEMP B-TREE" in step or step.startswith("SCAN")]


async def test_counts_follow_every_change_and_count_nothing(backend: SqliteBackend) -> None:
    """They are kept as rows of their own: their cost does not grow with the runs."""
    third = RUNS // 3
    assert await backend.read_model.counts("order") == dict.fromkeys(STATUSES, third)
    moved = [view(0, "completed"), view(1, "stuck"), view(RUNS)]
    await backend.writer.write(lambda: backend.read_model.write(moved))
    counts = await backend.read_model.counts("order")
    assert counts == {"running": third, "stuck": third, "completed": third + 1}
    plan = backend.database.query(
        "EXPLAIN QUERY PLAN SELECT status, instances FROM instance_counts WHERE flow = 'order'"
    )
    assert [row[3] for row in plan] == ["SEARCH instance_counts USING PRIMARY KEY (flow=?)"]
    await backend.log.create("order", 1)
    await backend.read_model.drop("order")
    assert await backend.read_model.counts("order") == {}
    assert (await backend.read_model.instances(Filter("order"), 10)).items == []
