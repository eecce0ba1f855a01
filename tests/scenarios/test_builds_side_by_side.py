"""Two builds of the services run beside each other: each run stays with the build that started it, to its end."""

from __future__ import annotations

import json
from asyncio import to_thread
from pathlib import Path
from typing import Any

import pytest

from choreo.cli.program import run
from choreo.settings import Settings, load
from tests.support.changing import FLOW, Project, picked, waits_for_its_pick
from tests.support.parcels import FLOWS, OrderPlaced, Parcels
from tests.support.running import ended, running


def settings_in(folder: Path, build: str, flows: tuple[str, ...] = (FLOW,)) -> Settings:
    """Return the settings of a deployment on the database in this folder."""
    return load(
        flows=flows,
        database=folder / "c.db",
        schemas=folder / "schemas",
        topics=folder / "none",
        partitions=2,
        build=build,
    )


async def test_each_run_stays_with_the_build_that_started_it(tmp_path: Path) -> None:
    """Also where its next event comes from a foreign program, which knows neither run nor build."""
    blue = Project(1)
    async with running(settings_in(tmp_path, "blue")) as old:
        green = Project(1)
        async with running(settings_in(tmp_path, "green"), without=("tracker",)) as new:
            for app, name in ((old, "blue"), (new, "green")):
                for number in (1, 2, 3):
                    await waits_for_its_pick(app, f"{name}-{number}")
            for name in ("blue", "green"):
                assert await picked(old, f"{name}-1", foreign=True) == "completed"
                assert await picked(new, f"{name}-2") == "completed"
            receipt = await new.operator.cancel("order", "blue-3")
            assert await ended(new, receipt.position, "blue-3") == "compensated"
            assert (await old.queries.instance("order", "green-3")).detail.build == "green"
            assert [group.name for group in await new.queries.groups("order")] == [
                "tracker",
                "mail@green",
                "store@green",
            ]
    assert sorted(blue.seen) == ["blue-1 confirm", "blue-2 confirm"]
    assert sorted(green.seen) == ["green-1 confirm", "green-2 confirm"]


async def test_a_build_is_drained_when_no_run_of_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`choreo deploy status` counts open runs by build, and `choreo why` names the group that nobody is in."""
    Project(1)
    settings = settings_in(tmp_path, "blue")
    async with running(settings) as app:
        await waits_for_its_pick(app, "o-1")
    for name in ("flows", "database", "schemas", "topics", "partitions"):
        value = getattr(settings, name)
        monkeypatch.setenv(f"CHOREO_{name.upper()}", ",".join(value) if isinstance(value, tuple) else str(value))

    def status() -> Any:
        capsys.readouterr()
        assert run(("deploy", "status", "-o", "json")) == 0
        return json.loads(capsys.readouterr().out)["versions"][0]["builds"]

    assert await to_thread(status) == {"blue": 1}
    async with running(settings_in(tmp_path, "green")) as app:
        receipt = await app.publisher.publish("order", Project(1).order.event_classes["Picked"](order_id="o-1"))
        await app.queries.reached(receipt.position, 60)
        found = await app.queries.why("order", "o-1")
        assert "mail@blue" in str(found)
    async with running(settings) as app:
        assert await ended(app, receipt.position, "o-1") == "completed"
    assert await to_thread(status) == {}


async def test_children_are_undone_by_the_build_of_their_parent(tmp_path: Path) -> None:
    """Starts, ends and undos cross the bridge with it."""
    parcels = Parcels()
    async with running(settings_in(tmp_path, "blue", FLOWS), memory=True) as app:
        receipt = await app.publisher.publish("order", OrderPlaced(order_id="o-1", boxes=3, refused=[2]))
        assert await ended(app, receipt.position, "o-1") == "compensated"
        assert {(await app.queries.instance("parcel", f"o-1-{box}")).detail.build for box in range(3)} == {"blue"}
    assert not any(parcels.booked.values())
