"""Play a generated flow while its processes are killed, and compare each end and each effect with its plan."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from choreo.ports.read_model import Filter
from choreo.settings import load
from choreo.wiring import App, open_app
from tests.audit import joins
from tests.audit.auditor import by_run, judge_log
from tests.audit.reading import Evidence
from tests.audit.shape import Told, shape_of
from tests.support import generated
from tests.support.durations import durations_of
from tests.support.fleet import Fleet
from tests.support.patience import PATIENCE_S
from tests.support.running import events, until

MADE, KID = "made", "kid"
_OPEN = ("running", "paused", "compensating")
RUNS = 16


def use(monkeypatch: pytest.MonkeyPatch, seed: int, books: Path) -> None:
    """Make the flow of this seed here and in the processes that are started."""
    books.mkdir()
    monkeypatch.setenv(generated.SEED, str(seed))
    monkeypatch.setenv(generated.BOOKS, str(books))
    monkeypatch.delitem(sys.modules, generated.__name__)


class Play:
    """The runs of one seed: which step refuses each, and how the world outside answers it."""

    def __init__(self, app: App, seed: int) -> None:
        """Plan every run."""
        self.app = app
        self.acknowledged: dict[str, str] = {}
        flow = app.flows[MADE]
        self.classes: Mapping[str, Any] = flow.event_classes
        self.waits = "Answered" in self.classes
        steps = [name for name in flow.steps if name.split(".")[-1].startswith(("work", "meet", "plain"))]
        refusing = ["", "", *steps, *(["kid.book"] if KID in flow.child_flows else [])]
        answers = ("early", "late", "twice", "denied", "none") if self.waits else ("early",)
        self.chance = Random(seed)
        self.plan = {
            f"g{number}": (refusing[number % len(refusing)], answers[number % len(answers)]) for number in range(RUNS)
        }
        self.answered: set[str] = set()

    async def start(self, key: str) -> None:
        """Start a run, some of them twice, and answer it early where that is its kind."""
        refuses, answer = self.plan[key]
        for _ in range(1 + (self.chance.random() < 0.3)):
            placed = self.classes["Placed"](key=key, refuses=refuses)
            receipt = await self.app.publisher.publish(MADE, placed, idempotency_key="start")
            self.acknowledged[receipt.id] = key
        if self.waits and answer == "early":
            await self._answer(key, "Answered")

    async def answer_late(self) -> None:
        """Answer each run that has come to its wait."""
        if not self.waits:
            return
        for key in (await events(self.app, MADE, "MeetDone")).keys() - self.answered:
            self.answered.add(key)
            answer = self.plan[key][1]
            if answer in ("late", "twice"):
                for _ in range(1 + (answer == "twice")):
                    await self._answer(key, "Answered")
            elif answer == "denied":
                await self._answer(key, "Denied")

    async def _answer(self, key: str, type_: str) -> None:
        made = self.classes[type_](key=key)
        await self.app.publisher.publish(MADE, made, idempotency_key="world", allow_early=True)

    async def all_ended(self) -> bool:
        """Answer new runs; return whether every run and every child has ended."""
        await self.answer_late()
        counts = [await self.app.queries.counts(flow) for flow in (MADE, KID)]
        return sum(counts[0].values()) >= RUNS and not any(found.get(status) for found in counts for status in _OPEN)

    async def expected(self) -> dict[str, str]:
        """Return the end of each run: by its plan, and where its wait timed out by the log."""
        silent = set(await events(self.app, MADE, "Silent"))
        good = {"early", "late", "twice"}
        return {
            key: "compensated" if refuses or key in silent or answer not in good else "completed"
            for key, (refuses, answer) in self.plan.items()
        }


async def ends_as_it_must(
    fleet: Fleet, seed: int, read: Callable[[str], Evidence], roles: tuple[str, ...] = (), kills: int = 8
) -> None:
    """Play a seed on the storage that the environment names; `roles` run besides those of the flow and are spared."""
    async with open_app(load()) as app:
        await app.backend.create_topics()
        for role in roles:
            fleet.start(role)
        try:
            play = await _played(app, fleet, seed, kills)
        finally:
            fleet.kill_all()
        ends = {key: (await app.queries.instance(MADE, key)).row.status for key in play.plan}
        assert ends == await play.expected()
        evidence = {flow: replace(read(flow), shown=await _shown(app, flow)) for flow in (MADE, KID)}
        assert not _findings(app, play, evidence)
        _require_effects(app, ends)


async def _played(app: App, fleet: Fleet, seed: int, kills: int) -> Play:
    play, chance = Play(app, seed), Random(seed)
    services = {service.name for flow in app.flows.values() for service in flow.services}
    names = [*sorted(services), "tracker", *(["bridge"] if KID in app.flows[MADE].child_flows else [])]
    workers = {name: fleet.start(name) for name in names}
    for number, key in enumerate(play.plan):
        await play.start(key)
        await play.answer_late()
        if number % (RUNS // kills) == 0:
            role = chance.choice(names)
            await until(app, partial(_has_grown, app, await _length(app)), MADE, PATIENCE_S)
            fleet.kill(workers[role])
            workers[role] = fleet.start(role)
    await until(app, play.all_ended, MADE, PATIENCE_S)
    return play


async def _shown(app: App, flow: str) -> dict[str, str]:
    """Return the status of each run as people see it."""
    page = await app.queries.instances(Filter(flow), 500)
    assert not page.cursor
    return {row.run: row.status for row in page.items}


async def _length(app: App) -> int:
    """Return the number of records of both flows."""
    partitions = [(flow, number) for flow in (MADE, KID) for number in range(await app.backend.log.partitions(flow))]
    return sum([await app.backend.log.end(flow, number) for flow, number in partitions])


async def _has_grown(app: App, before: int) -> bool:
    return await _length(app) > before


def _findings(app: App, play: Play, evidence: Mapping[str, Evidence]) -> list[str]:
    """Return the auditor's findings about both logs, and about the children of their parents."""
    found: list[str] = []
    runs: dict[str, Any] = {}
    shapes: dict[str, Any] = {}
    ends: dict[str, str] = {}
    for flow, known in evidence.items():
        shapes[flow] = shape_of(json.loads(msgspec.json.encode(app.definitions[flow])))
        told = Told(play.acknowledged if flow == MADE else {}, durations=durations_of(app.definitions[flow]))
        report = judge_log(known, shapes[flow], told)
        found += report.violations
        ends |= report.outcomes
        runs[flow] = by_run(known.log, shapes[flow])
    if KID not in app.flows[MADE].child_flows:
        return found
    return [*found, *joins.of_children(shapes[MADE], runs[MADE], runs[KID], ends)]


def _require_effects(app: App, ends: Mapping[str, str]) -> None:
    """Check the effects: each step's once where a run has completed, and none where it was compensated."""
    steps = Counter(step for step, each in app.flows[MADE].steps.items() if each.definition.effect and not each.child)
    for key, status in ends.items():
        effects = [path for path in Path(os.environ[generated.BOOKS]).glob(f"{key}~*") if path.read_text() == "done"]
        wanted = steps if status == "completed" else Counter()
        assert Counter(path.name.split("~")[1] for path in effects) == wanted, key
        left = [path for path in Path(os.environ[generated.BOOKS]).glob(f"{key}-*~*") if path.read_text() == "done"]
        children = generated.KIDS if status == "completed" and KID in app.flows[MADE].child_flows else 0
        assert len(left) == 2 * children, key
