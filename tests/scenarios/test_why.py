"""Incidents made with real processes' parts on one database file: `why` names the cause, and its command ends it."""

from __future__ import annotations

import asyncio
import shlex
from asyncio import to_thread
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from choreo import Flow, Retry, Service, StepContext
from choreo.app.query.why.rules import Why
from choreo.cli import program
from choreo.settings import Settings
from choreo.wiring import App, open_app, run
from tests.support.changing import Confirmed, Packed, Picked, PickMissed, Placed, Unpacked
from tests.support.running import importable, until

FLOW = "why_project:order"
ROLES = ("store", "mail", "tracker")
PARTITIONS = 2
LEASE_S = 60
"""A busy machine lets no member expire; one that is stopped leaves at once."""


class Shelf:
    """The world outside: locked, it takes nothing back."""

    locked = False


def project(shelf: Shelf) -> Flow:
    """Declare the flow: pack, wait for the carrier, confirm."""
    store, mail = Service("store"), Service("mail")

    @store.step(on=Placed, emits=Packed)
    async def pack(event: Placed, ctx: StepContext) -> Packed:
        return Packed(order_id=event.order_id)

    @pack.compensate(emits=Unpacked, retry=Retry(max_attempts=1))
    async def unpack(packed: Packed | None, ctx: StepContext) -> Unpacked | None:
        if shelf.locked:
            message = "the shelf is locked"
            raise OSError(message)
        return Unpacked(order_id=ctx.key) if packed else None

    @mail.step(on=Picked, emits=Confirmed, effect=False)
    async def confirm(event: Picked, ctx: StepContext) -> Confirmed:
        return Confirmed(order_id=event.order_id)

    flow = Flow("order", key="order_id", starts=Placed, completes=Confirmed, services=[store, mail], deadline="30d")
    flow.wait(on=Packed, until=Picked, timeout="1d", fails=PickMissed)
    return flow


class Installation:
    """Roles that run each for itself, and a person who asks and types."""

    def __init__(self, app: App, settings: Settings, stack: AsyncExitStack) -> None:
        self.app = app
        self._settings = settings
        self._stack = stack
        self._stops: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = {}

    async def start(self, *roles: str) -> None:
        """Start a process's parts for each role, and wait until it owns all partitions."""
        for role in roles:
            app = await self._stack.enter_async_context(open_app(self._settings))
            stop = asyncio.Event()
            self._stops[role] = stop, asyncio.create_task(run(app, [role], stop))
            self._stack.push_async_callback(self.stop, role)
            await until(self.app, partial(self._owns, role))

    async def _owns(self, role: str) -> bool:
        members = await self.app.backend.log.members("order", role)
        return sum(len(member.partitions) for member in members) == PARTITIONS

    async def stop(self, role: str) -> None:
        """Stop a role, unless it was stopped before."""
        if role in self._stops:
            stop, task = self._stops.pop(role)
            stop.set()
            await task

    async def why(self, cause: str, key: str = "o-1") -> Why:
        """Ask until this is the cause."""

        async def found() -> Why | None:
            answer: Why = await self.app.queries.why("order", key)
            return answer if answer.cause == cause else None

        answer: Why = await until(self.app, found)
        return answer

    async def type(self, command: str) -> int:
        """Type a printed command; `choreo run ROLE` starts the role here."""
        words = shlex.split(command)
        assert words[0] == "choreo"
        if words[1] == "run":
            await self.start(words[2])
            return 0
        return await to_thread(program.run, tuple(words[1:]))

    async def waits(self) -> None:
        """Start an order and wait until it waits for the carrier."""
        await self.app.publisher.publish("order", Placed(order_id="o-1"))
        await self.why("waiting")

    async def goes_on(self) -> None:
        """Publish the pick and wait for the end."""
        await self.app.publisher.publish("order", Picked(order_id="o-1"))
        assert (await self.why("ended")).status == "completed"


@asynccontextmanager
async def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    """Yield an installation with nothing running."""
    values = {
        "CHOREO_DATABASE": str(folder / "c.db"),
        "CHOREO_FLOWS": FLOW,
        "CHOREO_TOPICS": str(folder / "none"),
        "CHOREO_SCHEMAS": str(folder / "schemas"),
        "CHOREO_PARTITIONS": str(PARTITIONS),
        "CHOREO_LEASE_S": str(LEASE_S),
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = Settings(
        database=folder / "c.db",
        flows=(FLOW,),
        topics=folder / "none",
        schemas=folder / "schemas",
        partitions=PARTITIONS,
        lease_s=LEASE_S,
    )
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(open_app(settings))
        await app.backend.create_topics()
        yield Installation(app, settings, stack)


@pytest.fixture
def shelf() -> Shelf:
    """Return the shelf of the declared project."""
    shelf = Shelf()
    importable("why_project", order=project(shelf))
    return shelf


@pytest.fixture
async def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shelf: Shelf) -> AsyncIterator[Installation]:
    """Yield an installation with nothing running."""
    async with installed(tmp_path, monkeypatch) as installation:
        yield installation


async def test_a_service_that_was_not_started(here: Installation) -> None:
    """Incident 4: the printed command starts it."""
    await here.start("tracker", "mail")
    await here.app.publisher.publish("order", Placed(order_id="o-1"))
    answer = await here.why("no-member")
    assert answer.command == "choreo run store"
    await here.type(answer.command)
    await here.why("waiting")
    await here.goes_on()


async def test_a_tracker_that_was_stopped(here: Installation) -> None:
    """The step after the wait is done, and nobody reads that the run is complete."""
    await here.start(*ROLES)
    await here.waits()
    await here.stop("tracker")
    answer = await here.why("tracker-away")
    await here.app.publisher.publish("order", Picked(order_id="o-1"))
    assert answer.command == "choreo run tracker"
    await here.type(answer.command)
    assert (await here.why("ended")).status == "completed"


async def test_a_pause_that_was_forgotten(here: Installation) -> None:
    """The operator's reason is in the sentence; the printed command lets the run go on."""
    await here.start(*ROLES)
    await here.waits()
    assert await here.type("choreo pause o-1 --reason 'ann looks'") == 0
    answer = await here.why("paused")
    assert "ann looks" in answer.sentence
    assert await here.type(answer.command) == 0
    await here.why("waiting")
    await here.goes_on()


async def test_an_undo_that_failed(here: Installation, shelf: Shelf) -> None:
    """Incident 10: the reason is in the sentence; once it is removed, the printed command ends the run."""
    await here.start(*ROLES)
    await here.waits()
    shelf.locked = True
    assert await here.type("choreo cancel o-1") == 0
    answer = await here.why("undo-failed")
    assert "the shelf is locked" in answer.sentence
    shelf.locked = False
    assert await here.type(answer.command) == 0
    assert (await here.why("ended")).status == "compensated"


async def test_an_event_that_came_under_another_key(here: Installation) -> None:
    """Incident 9: the printed command publishes it under the right one."""
    await here.start(*ROLES)
    await here.waits()
    await here.app.publisher.publish("order", Picked(order_id="O-1"), allow_early=True)
    answer = await here.why("orphan")
    assert await here.type(answer.command) == 0
    assert (await here.why("ended")).status == "completed"


async def test_runs_that_go_on_have_no_cause(here: Installation) -> None:
    """Asked again and again from the start to the end, with a service that is stopped and started meanwhile."""
    await here.start(*ROLES)
    keys = [f"k-{number}" for number in range(12)]
    seen: set[str] = set()

    async def ended(key: str) -> None:
        picked = False

        async def asked() -> bool:
            nonlocal picked
            answer: Why = await here.app.queries.why("order", key)
            assert answer.healthy, answer
            seen.add(answer.cause)
            if answer.cause == "waiting" and not picked:
                picked = True
                await here.app.publisher.publish("order", Picked(order_id=key))
            return answer.cause == "ended"

        await until(here.app, asked)

    for key in keys:
        receipt = await here.app.publisher.publish("order", Placed(order_id=key))
        await here.app.queries.reached(receipt.position, 30)
    await asyncio.gather(*map(ended, keys))
    assert {"waiting", "ended"} <= seen
    await here.stop("store")
    await here.start("store")
    assert (await here.why("ended", "k-3")).healthy
