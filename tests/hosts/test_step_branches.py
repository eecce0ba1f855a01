"""Branches on data with hosts and the tracker on one log: each event runs the steps whose condition holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
from msgspec.structs import replace

from choreo import Event, Flow, Service, StepContext, all_of, field, otherwise
from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.clock import SystemClock
from choreo.adapters.memory.backend import MemoryBackend
from choreo.adapters.sqlite.backend import SqliteBackend
from choreo.core import facts, ids
from choreo.core.events import Envelope
from choreo.hosts.step.host import StepHost
from choreo.hosts.tracker import TrackerHost
from tests.hosts.test_step_flow import ended

CODEC = AvroCodec()


class Placed(Event):
    """An order came in."""

    order_id: str
    shipping: Literal["express", "standard"]
    fee: int = 0


class Flown(Event):
    """The order went by air."""

    order_id: str


class Driven(Event):
    """The order went by road."""

    order_id: str


class Handed(Event):
    """The customer has the goods, says the driver."""

    order_id: str
    tip: int = 0


class HandingTimedOut(Event):
    """Nobody was at home."""

    order_id: str


class Thanked(Event):
    """The customer is thanked."""

    order_id: str


class Finished(Event):
    """The order is at its end."""

    order_id: str


def shop() -> Flow:
    """Return two services with one branch each, and a branch behind a wait."""
    air, road = Service("air"), Service("road")

    @air.step(on=Placed, emits=Flown, effect=False, when=(field("shipping") == "express") & (field("fee") >= 10))
    def fly(event: Placed, ctx: StepContext) -> Flown:
        return Flown(order_id=event.order_id)

    @road.step(on=Placed, emits=Driven, effect=False, when=otherwise())
    def drive(event: Placed, ctx: StepContext) -> Driven:
        return Driven(order_id=event.order_id)

    @air.step(on=Flown, emits=Finished, effect=False)
    def land(event: Flown, ctx: StepContext) -> Finished:
        return Finished(order_id=event.order_id)

    @road.step(on=Handed, emits=Thanked, effect=False, when=field("tip") > 0)
    def thank(event: Handed, ctx: StepContext) -> Thanked:
        return Thanked(order_id=event.order_id)

    @road.step(on=Handed, emits=Finished, effect=False, name="close")
    def close(event: Handed, ctx: StepContext) -> Finished:
        return Finished(order_id=event.order_id)

    flow = Flow("order", key="order_id", starts=Placed, completes=Finished, services=[air, road])
    flow.wait(on=Driven, until=Handed, timeout="1d", fails=HandingTimedOut)
    return flow


Backend = MemoryBackend | SqliteBackend


@pytest.fixture(params=["memory", "sqlite"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    """Yield each backend in turn, with a topic of two partitions."""
    clock = SystemClock()
    made = (
        MemoryBackend(clock) if request.param == "memory" else await SqliteBackend.open(tmp_path / "c.db", clock=clock)
    )
    await made.log.create("order", 2)
    yield made
    await made.close()


@asynccontextmanager
async def running(backend: Backend, flow: Flow | None = None, *, without: str = "") -> AsyncIterator[None]:
    """Run the services but one and the tracker of a flow, of `shop()` unless another is given."""
    flow, clock = flow or shop(), SystemClock()
    definition, classes = flow.definition, flow.event_classes

    def fields_of(event: Envelope) -> dict[str, object]:
        return CODEC.values(classes[event.type], event.content_type, event.data)

    hosts: list[StepHost | TrackerHost] = [
        StepHost(
            service, definition, backend.log, backend.inbox(service.name), backend.dead_letters, CODEC, clock, name="h"
        )
        for service in flow.services
        if service.name != without
    ]
    states = backend.states
    hosts.append(
        TrackerHost(definition, backend.log, states, clock, name="t", attributes_of=lambda _: {}, fields_of=fields_of)
    )
    tasks = [asyncio.create_task(host.run()) for host in hosts]
    yield
    for host in hosts:
        await host.stop()
    await asyncio.gather(*tasks)


def event(made: Event, id_: str = "", **fields: str) -> Envelope:
    """Return the event as it is published; a Placed starts its run."""
    key = str(made.order_id)  # type: ignore[attr-defined]
    id_ = id_ or ids.start("order", key)
    run = id_ if isinstance(made, Placed) else ids.start("order", key)
    return Envelope(
        id_, made.event_type, key, "order", run, content_type=CODEC.content_type, data=CODEC.encode(made), **fields
    )


async def test_each_order_takes_its_branch_and_completes(backend: Backend) -> None:
    """The other branch neither runs nor holds the end; the tracker and both services judge alike."""
    orders = {
        "by-air": Placed(order_id="by-air", shipping="express", fee=10),
        "too-cheap": Placed(order_id="too-cheap", shipping="express", fee=9),
        "by-road": Placed(order_id="by-road", shipping="standard", fee=99),
    }
    async with running(backend):
        await backend.log.append("order", [event(order) for order in orders.values()])
        early = event(Handed(order_id="too-cheap"), "early")
        await backend.log.append("order", [early, event(Handed(order_id="by-road", tip=2), "handed")])
        seen = await ended(backend, len(orders))
    assert seen["by-air"] == ["Placed", "Flown", "Finished", facts.FLOW_COMPLETED]
    assert sorted(seen["too-cheap"]) == sorted(["Placed", "Handed", "Driven", "Finished", facts.FLOW_COMPLETED])
    by_road = ["Placed", "Handed", "Driven", "Finished", "Thanked", facts.FLOW_COMPLETED]
    assert sorted(seen["by-road"]) == sorted(by_road)


async def test_an_undecodable_event_stops_nobody_and_is_told_with_its_cause(backend: Backend) -> None:
    """Its run is compensated with the cause, it is a dead letter, and the next order goes on."""
    bad = replace(event(Placed(order_id="bad", shipping="express")), data=b"\xff\xff", content_type="application/json")
    async with running(backend):
        await backend.log.append("order", [bad, event(Placed(order_id="good", shipping="express", fee=10))])
        seen = await ended(backend, 2)
    assert seen["good"] == ["Placed", "Flown", "Finished", facts.FLOW_COMPLETED]
    assert {facts.COMPENSATION_STARTED, facts.FLOW_COMPENSATED} <= set(seen["bad"])
    assert not {"Flown", "Driven", facts.FLOW_STUCK} & set(seen["bad"])
    letters = await backend.dead_letters.list("order")
    (letter,) = (letter for letter in letters if letter.service == "tracker")
    assert (letter.step, letter.record.event) == ("air.fly", bad)
    assert letter.cause.startswith("Placed: invalid JSON")


class Weighed(Event):
    """The parcel's weight is known."""

    order_id: str
    weight: int


class Priced(Event):
    """The parcel's price is known."""

    order_id: str
    weight: int


def joining() -> Flow:
    """Return a flow with two joins of the same events in two services: one has a condition, one takes the others."""
    desk, air, road = Service("desk"), Service("air"), Service("road")

    @desk.step(on=Placed, emits=Weighed, effect=False)
    def weigh(event: Placed, ctx: StepContext) -> Weighed:
        return Weighed(order_id=event.order_id, weight=event.fee)

    @desk.step(on=Placed, emits=Priced, effect=False)
    def price(event: Placed, ctx: StepContext) -> Priced:
        return Priced(order_id=event.order_id, weight=1)

    light = (field(Weighed, "weight") < 5) & (field(Priced, "weight") == 1)

    @air.step(on=all_of(Weighed, Priced), emits=Flown, effect=False, when=light)
    def fly(weighed: Weighed, priced: Priced, ctx: StepContext) -> Flown:
        return Flown(order_id=ctx.key)

    @road.step(on=all_of(Priced, Weighed), emits=Driven, effect=False, when=otherwise())
    def drive(weighed: Weighed, priced: Priced, placed: Placed, ctx: StepContext) -> Driven:
        return Driven(order_id=ctx.key)

    ends = {Flown: "air", Driven: "road"}
    return Flow("order", key="order_id", starts=Placed, completes=ends, services=[desk, air, road])


async def test_a_join_takes_its_branch_by_the_fields_of_all_its_events(backend: Backend) -> None:
    """The host reads the members from the log, the tracker has kept what held: the run waits for that branch alone."""
    orders = {name: Placed(order_id=name, shipping="express", fee=fee) for name, fee in (("light", 4), ("heavy", 5))}
    async with running(backend, joining()):
        await backend.log.append("order", [event(order) for order in orders.values()])
        seen = await ended(backend, len(orders))
    for name, way in (("light", "Flown"), ("heavy", "Driven")):
        assert sorted(seen[name]) == sorted(["Placed", "Weighed", "Priced", way, facts.FLOW_COMPLETED])


async def test_a_member_of_a_join_that_cannot_be_decoded_starts_none_of_them(backend: Backend) -> None:
    """Its dead letter names a join, and the run is compensated with the cause once the join is complete."""
    order = event(Placed(order_id="bad", shipping="express"))
    about = {"causation": order.id, "source": "desk"}
    priced = event(Priced(order_id="bad", weight=1), "priced", step="desk.price", **about)
    weighed = event(Weighed(order_id="bad", weight=1), "weighed", step="desk.weigh", **about)
    weighed = replace(weighed, data=b"\xff\xff", content_type="application/json")
    async with running(backend, joining(), without="desk"):
        await backend.log.append("order", [order, weighed, priced])
        seen = await ended(backend, 1)
    assert {facts.COMPENSATION_STARTED, facts.FLOW_COMPENSATED} <= set(seen["bad"])
    assert not {"Flown", "Driven", facts.FLOW_STUCK} & set(seen["bad"])
    letters = await backend.dead_letters.list("order")
    (letter,) = (letter for letter in letters if letter.service == "tracker")
    assert (letter.step, letter.record.event) == ("air.fly", weighed)
    assert letter.cause.startswith("Weighed: invalid JSON")
