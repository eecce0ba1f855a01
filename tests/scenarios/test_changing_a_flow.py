"""A flow is changed while runs are in flight: each ends by the rules it began with, old and new steps side by side."""

from __future__ import annotations

import json
from asyncio import to_thread
from pathlib import Path
from typing import Any

import pytest

from choreo import Event, Flow, Service, StepContext, all_of
from choreo.adapters.frozen_flows import path_of
from choreo.app.publish.publisher import Receipt
from choreo.cli import project
from choreo.cli.program import run
from choreo.core.errors import SchemaError
from choreo.ports.read_model import Filter
from choreo.settings import Settings, load
from choreo.wiring import App, open_app
from tests.support.changing import FLOW, Confirmed, PickMissed, Placed, Project, deploy, picked, waits_for_its_pick
from tests.support.patience import PATIENCE_S
from tests.support.running import ended, running


def settings_in(folder: Path) -> Settings:
    """Return the settings of a project whose storage and schemas are in this folder."""
    return load(
        flows=(FLOW,),
        database=folder / "c.db",
        schemas=folder / "schemas",
        topics=folder / "none",
        partitions=2,
    )


def for_commands(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands of this process have these settings."""
    for name in ("flows", "database", "schemas", "topics", "partitions"):
        value = getattr(settings, name)
        monkeypatch.setenv(f"CHOREO_{name.upper()}", ",".join(value) if isinstance(value, tuple) else str(value))


async def test_runs_in_flight_end_by_the_rules_they_began_with(tmp_path: Path) -> None:
    """After the deployment both kinds go on beside each other, also where the event names no version."""
    settings, first = settings_in(tmp_path), Project(1)
    first.freeze(settings.schemas)
    async with running(settings) as app:
        await waits_for_its_pick(app, "old-1")
        await waits_for_its_pick(app, "old-2")
    second = Project(2)
    second.freeze(settings.schemas)
    async with running(settings) as app:
        await waits_for_its_pick(app, "new-1")
        await waits_for_its_pick(app, "new-2")
        assert [await picked(app, key) for key in ("old-1", "new-1")] == ["completed"] * 2
        assert [await picked(app, key, foreign=True) for key in ("old-2", "new-2")] == ["completed"] * 2
        versions = {row.key: (await app.queries.instance("order", row.key)).detail.version for row in await rows(app)}
    assert versions == {"old-1": 1, "old-2": 1, "new-1": 2, "new-2": 2}
    assert sorted(second.seen) == sorted(
        ["old-1 confirm", "old-2 confirm"] + [f"new-{n} {step}" for n in (1, 2) for step in ("weigh", "confirm_weight")]
    )


async def rows(app: App) -> list[object]:
    """Return every run."""
    return list((await app.queries.instances(Filter(flow="order"), 100)).items)


async def test_a_run_of_the_old_version_is_undone_by_its_own_steps(tmp_path: Path) -> None:
    """A cancel after the deployment undoes the packing."""
    settings, first = settings_in(tmp_path), Project(1)
    first.freeze(settings.schemas)
    async with running(settings) as app:
        await waits_for_its_pick(app, "old-1")
    Project(2).freeze(settings.schemas)
    async with running(settings) as app:
        receipt = await app.operator.cancel("order", "old-1")
        assert await ended(app, receipt.position, "old-1", "order") == "compensated"


async def test_a_change_under_the_same_version_does_not_start(tmp_path: Path) -> None:
    """It is the failure path: the roles refuse, and the file is kept."""
    settings = settings_in(tmp_path)
    Project(1).freeze(settings.schemas)
    before = path_of("order", 1, settings.schemas).read_bytes()
    Project(2, with_old=False, number=1)
    with pytest.raises(SchemaError, match=r"wait.Picked: timeout is 1d, it was 2d since version 1 was frozen"):
        async with open_app(settings):
            raise AssertionError
    assert path_of("order", 1, settings.schemas).read_bytes() == before


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    """Call `choreo … -o json`; return its exit code and its answer."""
    capsys.readouterr()
    code = run((*arguments, "-o", "json"))
    return code, json.loads(capsys.readouterr().out)


async def test_a_deployment_that_would_strand_a_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The step of version 1 was removed too early; once the old run has ended, the same deployment passes."""
    settings, first = settings_in(tmp_path), Project(1)
    for_commands(settings, monkeypatch)
    first.freeze(settings.schemas)
    async with running(settings) as app:
        await waits_for_its_pick(app, "old-1")
    Project(2).freeze(settings.schemas)
    assert await to_thread(command, capsys, "deploy", "check") == (
        0,
        {
            "ok": True,
            "versions": [IN_FLIGHT, {**NONE_OPEN, "version": 2, "state": "current"}],
            "findings": [],
            "changed": [],
        },
    )
    Project(2, with_old=False)
    code, answer = await to_thread(command, capsys, "deploy", "check")
    assert (code, answer["ok"]) == (1, False)
    assert answer["versions"][0] == {**IN_FLIGHT, "stranded": ["step mail.confirm is declared no more"]}
    assert [(each["code"], each["version"]) for each in answer["findings"]] == [("C812", 1)]
    file = path_of("order", 1, settings.schemas)
    file.rename(tmp_path / "aside.json")
    code, answer = await to_thread(command, capsys, "deploy", "check", "order")
    assert code == 1
    assert answer["versions"][0]["stranded"] == ["flows/order.1.json is missing below the schemas, or cannot be read"]
    assert [each["code"] for each in answer["findings"]] == ["C811"]
    (tmp_path / "aside.json").rename(file)

    Project(2)
    async with running(settings) as app:
        assert await picked(app, "old-1") == "completed"
    Project(2, with_old=False)
    assert (await to_thread(command, capsys, "deploy", "check"))[0] == 0
    code, answer = await to_thread(command, capsys, "deploy", "status")
    assert (code, [(one["version"], one["state"]) for one in answer["versions"]]) == (
        0,
        [(1, "drained"), (2, "current")],
    )


NONE_OPEN: dict[str, Any] = {
    "flow": "order",
    "version": 1,
    "state": "drained",
    "open": 0,
    "builds": {},
    "keys": [],
    "stranded": [],
}
IN_FLIGHT: dict[str, Any] = {**NONE_OPEN, "state": "in flight", "open": 1, "builds": {"": 1}, "keys": ["old-1"]}


async def test_a_check_of_old_views_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a tracker nobody knows which runs are open: a check that did not run is no pass."""
    settings = settings_in(tmp_path)
    Project(1).freeze(settings.schemas)
    for_commands(settings, monkeypatch)
    monkeypatch.setattr(project, "CATCH_UP_S", 0)
    async with open_app(settings) as app:
        await app.backend.create_topics()
        await app.publisher.publish("order", Placed(order_id="o-1"))
    assert await to_thread(run, ("deploy", "check")) != 0
    assert "the read model is behind the log" in capsys.readouterr().err


class Called(Event):
    """Another company packs; it was called."""

    order_id: str


class Handed(Event):
    """The first version makes it with a step; in the second it comes from outside, behind a wait."""

    order_id: str


async def placed_under(first: Flow, settings: Settings) -> Receipt:
    """Deploy the first form of the flow, start a run and let no host run."""
    deploy(first, settings.schemas)
    async with open_app(settings) as app:
        await app.backend.create_topics()
        return await app.publisher.publish("order", Placed(order_id="old-1"))


async def test_an_event_of_a_step_may_come_from_outside_in_the_next_version(tmp_path: Path) -> None:
    """The step behind it runs for both kinds: at once, or once the wait is open."""
    store, mail = Service("store"), Service("mail")

    @store.step(on=Placed, emits=Handed, effect=False, versions="1")
    async def pack(event: Placed, ctx: StepContext) -> Handed:
        return Handed(order_id=event.order_id)

    @store.step(on=Placed, emits=Called, effect=False, versions="2-")
    async def call(event: Placed, ctx: StepContext) -> Called:
        return Called(order_id=event.order_id)

    @mail.step(on=Handed, emits=Confirmed, effect=False)
    async def confirm(event: Handed, ctx: StepContext) -> Confirmed:
        return Confirmed(order_id=event.order_id)

    settings = settings_in(tmp_path)
    ends: dict[str, Any] = {"key": "order_id", "starts": Placed, "completes": Confirmed, "deadline": "1d"}
    second = Flow("order", services=[store, mail], version=2, **ends)
    second.wait(on=Called, until=Handed, timeout="1d", fails=PickMissed)
    old = await placed_under(Flow("order", services=[store.only(pack), mail], version=1, **ends), settings)
    deploy(second, settings.schemas)
    async with running(settings) as app:
        assert await ended(app, old.position, "old-1", "order") == "completed"
        new = await app.publisher.publish("order", Placed(order_id="new-1"))
        await app.publisher.publish("order", Handed(order_id="new-1"), allow_early=True)
        assert await ended(app, new.position, "new-1", "order") == "completed"


class Labelled(Event):
    """The parcel has its label: the second version waits for both."""

    order_id: str


async def test_a_join_of_the_new_version_holds_no_run_of_the_old_one(tmp_path: Path) -> None:
    """One step of two versions: on one event in the first, on two of them and an earlier one in the second."""
    store, mail = Service("store"), Service("mail")
    seen: list[str] = []

    @store.step(on=Placed, emits=Handed, effect=False)
    async def pack(event: Placed, ctx: StepContext) -> Handed:
        return Handed(order_id=event.order_id)

    @store.step(on=Placed, emits=Labelled, effect=False, versions="2-")
    async def label(event: Placed, ctx: StepContext) -> Labelled:
        return Labelled(order_id=event.order_id)

    @mail.step(on=Handed, emits=Confirmed, effect=False, versions="1")
    async def confirm(event: Handed, ctx: StepContext) -> Confirmed:
        seen.append(f"{ctx.key} alone")
        return Confirmed(order_id=event.order_id)

    @mail.step(on=all_of(Handed, Labelled), emits=Confirmed, effect=False, versions="2-")
    async def confirm_both(handed: Handed, labelled: Labelled, placed: Placed, ctx: StepContext) -> Confirmed:
        seen.append(f"{ctx.key} both")
        return Confirmed(order_id=placed.order_id)

    settings = settings_in(tmp_path)
    ends: dict[str, Any] = {"key": "order_id", "starts": Placed, "completes": Confirmed, "deadline": "1d"}
    first = Flow("order", services=[store.only(pack), mail.only(confirm)], version=1, **ends)
    second = Flow("order", services=[store, mail], version=2, **ends)
    old = await placed_under(first, settings)
    deploy(second, settings.schemas)
    async with running(settings) as app:
        assert await ended(app, old.position, "old-1", "order") == "completed"
        new = await app.publisher.publish("order", Placed(order_id="new-1"))
        assert await ended(app, new.position, "new-1", "order") == "completed"
    assert seen == ["old-1 alone", "new-1 both"]


class Charged(Event):
    """Paid: the first version charges at once."""

    order_id: str


class Refunded(Event):
    """The money is back."""

    order_id: str


async def test_a_step_that_serves_old_runs_alone_reports_and_is_undone_like_any_other(tmp_path: Path) -> None:
    """It is the only one with a heartbeat, and the only one with a compensation."""
    store, bank = Service("store"), Service("bank")
    undone: list[str] = []

    @bank.step(on=Placed, emits=Charged, versions="1", timeout="1m", heartbeat="30s")
    async def charge(event: Placed, ctx: StepContext) -> Charged:
        await ctx.heartbeat({"line": 1})
        return Charged(order_id=event.order_id)

    @charge.compensate(emits=Refunded)
    async def refund(charged: Charged | None, ctx: StepContext) -> Refunded | None:
        undone.append(ctx.undoes)
        return Refunded(order_id=ctx.key) if charged else None

    @bank.step(on=Placed, emits=Charged, effect=False, versions="2-")
    async def promise(event: Placed, ctx: StepContext) -> Charged:
        return Charged(order_id=event.order_id)

    @store.step(on=Handed, emits=Confirmed, effect=False)
    async def confirm(event: Handed, ctx: StepContext) -> Confirmed:
        return Confirmed(order_id=event.order_id)

    settings = settings_in(tmp_path)
    ends: dict[str, Any] = {"key": "order_id", "starts": Placed, "completes": Confirmed, "deadline": "2d"}
    first = Flow("order", services=[bank.only(charge), store], version=1, **ends)
    second = Flow("order", services=[bank, store], version=2, **ends)
    for flow in (first, second):
        flow.wait(on=Charged, until=Handed, timeout="1d", fails=PickMissed)
    old = await placed_under(first, settings)
    deploy(second, settings.schemas)
    async with running(settings) as app:
        await app.queries.reached(old.position, PATIENCE_S)
        async for row in app.queries.follow("order", "old-1"):
            if row is not None and row.type == "Charged":
                break
        receipt = await app.operator.cancel("order", "old-1")
        assert await ended(app, receipt.position, "old-1", "order") == "compensated"
        assert await app.queries.dead_letters() == []
    assert len(undone) == 1
