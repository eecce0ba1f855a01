"""Play the travel flow's demo trips while every process is killed, one after the other, and audit logs and books."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest

from choreo import Event
from choreo.settings import load
from choreo.wiring import App, open_app
from services.travel.demo import TravelDemo
from tests.audit import joins
from tests.audit.auditor import by_run, judge_log
from tests.audit.reading import Evidence, Fact
from tests.audit.shape import Shape, Told, shape_of
from tests.support.durations import durations_of
from tests.support.fleet import Fleet
from tests.support.patience import PATIENCE_S
from tests.support.running import events, until

FLOWS = TravelDemo.flows
ROLES = ("flights", "hotels", "cars", "desk", "till", "ticketing", "bridge", "tracker")
TRIPS = 4 * int(os.environ.get("CHOREO_TRAVEL_KILLS", "10"))
"""A process is killed after each fourth trip."""
TRIP, TICKET = "trip", "ticket"
_OPEN = ("running", "paused", "compensating")


class People:
    """The customers and their managers: each answers once, as the number of the trip says."""

    def __init__(self, app: App, demo: TravelDemo) -> None:
        self.answered: set[tuple[str, str]] = set()
        self._app = app
        self._demo = demo

    async def answer(self, least: int = 0) -> bool:
        """Answer what is new; return whether at least so many were asked in all."""
        for type_ in sorted(self._demo.listens):
            asked = (await events(self._app, TRIP, type_)).keys()
            for key in asked - {known for known, of in self.answered if of == type_}:
                self.answered.add((key, type_))
                said = self._demo.answer(key, type_)
                if isinstance(said, Event):
                    await self._app.publisher.publish(TRIP, said, idempotency_key="people", allow_early=True)
        return len(self.answered) >= least

    async def are_asked(self, least: int, runs: int) -> bool:
        """Answer what is new; return whether so many were asked in all, or all have ended, as lapsed ones do."""
        return await self.answer(least) or await self.all_ended(runs)

    async def all_ended(self, runs: int) -> bool:
        """Answer what is new; return whether all trips and all their tickets have ended."""
        await self.answer()
        trips, tickets = await self._app.queries.counts(TRIP), await self._app.queries.counts(TICKET)
        still = [counts.get(status, 0) for counts in (trips, tickets) for status in _OPEN]
        return sum(trips.values()) >= runs and not any(still)


def use(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Set the books and the time scale of this process and of those that it starts."""
    monkeypatch.setenv("CHOREO_BOOKS_DIR", str(folder))
    monkeypatch.setenv("CHOREO_TIME_SCALE", str(TravelDemo.time_scale))


async def trips_keep_their_promises(
    fleet: Fleet, books: Path, read: Callable[[str], Evidence], roles: Sequence[str] = ROLES
) -> None:
    """Play trips on the storage that the environment names; `read` gives the evidence of a flow."""
    demo = TravelDemo()
    demo.prepare(books)
    async with open_app(load()) as app:
        await app.backend.create_topics()
        try:
            acknowledged = await _play(app, fleet, demo, roles)
        finally:
            fleet.kill_all()
        found = _findings(app, acknowledged, {flow: read(flow) for flow in (TRIP, TICKET)})
        found += demo.audit(books, await _statuses(app, acknowledged))
        assert not found, "\n".join(found)
        assert await app.queries.dead_letters() == []


async def _play(app: App, fleet: Fleet, demo: TravelDemo, roles: Sequence[str]) -> dict[str, str]:
    """Place the trips and kill each process in turn; return the id and key of each start."""
    acknowledged: dict[str, str] = {}
    people = People(app, demo)
    workers = {role: fleet.start(role) for role in roles}
    for number, placed in enumerate(demo.orders(TRIPS)):
        for attempt in ("", "again")[: 1 + placed.kind.started_twice]:
            receipt = await app.publisher.publish(TRIP, placed.event, idempotency_key=attempt)
            acknowledged[receipt.id] = receipt.key
        if number % 4 == 3:
            await until(app, partial(people.are_asked, number // 3, len(acknowledged)), TRIP, PATIENCE_S)
            role = roles[number // 4 % len(roles)]
            fleet.kill(workers[role])
            workers[role] = fleet.start(role)
    await until(app, partial(people.all_ended, len(acknowledged)), TRIP, PATIENCE_S)
    return acknowledged


def _findings(app: App, acknowledged: Mapping[str, str], evidence: Mapping[str, Evidence]) -> list[str]:
    """Return the auditor's findings about both logs, and about the tickets as children of their trips."""
    found: list[str] = []
    runs: dict[str, dict[str, list[Fact]]] = {}
    ends: dict[str, str] = {}
    shapes: dict[str, Shape] = {}
    for flow, known in evidence.items():
        shapes[flow] = shape_of(json.loads(msgspec.json.encode(app.definitions[flow])))
        told = Told(acknowledged if flow == TRIP else {}, durations=durations_of(app.definitions[flow]))
        report = judge_log(known, shapes[flow], told)
        found += report.violations
        ends |= report.outcomes
        runs[flow] = by_run(known.log, shapes[flow])
    assert runs[TICKET], "no trip came to its tickets"
    return [*found, *joins.of_children(shapes[TRIP], runs[TRIP], runs[TICKET], ends)]


async def _statuses(app: App, acknowledged: Mapping[str, str]) -> dict[str, str]:
    """Return the status of each key's first run."""
    statuses: dict[str, str] = {}
    for run, key in acknowledged.items():
        if key not in statuses:
            statuses[key] = (await app.queries.instance(TRIP, key, run)).row.status
    return statuses
