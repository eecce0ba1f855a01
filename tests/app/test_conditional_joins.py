"""Tracker and host start the same steps: conditional joins, any of several, and waits, over every order and crash."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from msgspec.structs import replace

from choreo import Event, Flow, Service, StepContext, all_of, any_of, field, otherwise
from choreo.adapters.avro.codec import AvroCodec
from choreo.adapters.memory.backend import MemoryBackend
from choreo.app.dependencies import DependencyReports
from choreo.app.metrics import Metrics
from choreo.app.steps.run_finder import RunFinder
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import KeyState
from choreo.hosts.step.context import HostContext, Ports, context_of
from choreo.hosts.step.job_maker import JobMaker
from choreo.ports.inbox import AttemptLease
from choreo.testing.clock import VirtualClock
from tests.core.test_conditional_joins import Charged, Done, NotSigned, Placed, Signed


class Reserved(Event):
    """The goods lie apart."""

    order_id: str
    amount: int = 0
    shelf: str = ""


class Again(Event):
    """It is charged and reserved once more."""

    order_id: str


class Wrapped(Event):
    """It is wrapped."""

    order_id: str


def shop(*, cyclic: bool) -> tuple[Flow, Service]:
    """Return a flow of joins on the same events, and the service that has them; it may go round."""
    pay, ship = Service("pay"), Service("ship")
    on: Any = any_of(Placed, Again) if cyclic else Placed

    def charge(event: Any, ctx: StepContext) -> Charged: ...
    def reserve(event: Any, ctx: StepContext) -> Reserved: ...

    for handler in (charge, reserve):
        handler.__annotations__["event"] = Placed | Again if cyclic else Placed
    pay.step(on=on, emits=Charged, effect=False)(charge)
    pay.step(on=on, emits=Reserved, effect=False)(reserve)

    dear = (field(Charged, "amount") > 2) & ~(field("shelf") == "far")

    @ship.step(on=all_of(Charged, Reserved), emits=Wrapped, effect=False, when=dear)
    def wrap(charged: Charged, reserved: Reserved, ctx: StepContext) -> Wrapped: ...

    free = field("fee").is_none() | (field(Reserved, "amount") <= 1)

    @ship.step(on=all_of(Reserved, Charged), emits=Again, effect=False, when=free)
    def again(reserved: Reserved, placed: Placed, charged: Charged, ctx: StepContext) -> Again: ...

    @ship.step(on=all_of(Charged, Reserved), emits=Wrapped, effect=False, when=otherwise())
    def plain(reserved: Reserved, charged: Charged, signed: Signed | None, ctx: StepContext) -> Wrapped: ...

    either = (field("amount") > 2) & (field(Charged, "fee") != 1)

    @ship.step(on=any_of(Charged, Reserved), emits=Wrapped, effect=False, when=either)
    def count(event: Charged | Reserved, ctx: StepContext) -> Wrapped: ...

    @ship.step(on=all_of(Charged, Signed), emits=Done, effect=False, when=field("alone") & (field("amount") < 4))
    def hand(signed: Signed, charged: Charged, ctx: StepContext) -> Done: ...

    @ship.step(on=all_of(Signed, Charged), emits=Done, effect=False, when=otherwise())
    def call(signed: Signed, charged: Charged, ctx: StepContext) -> Done: ...

    bound: dict[str, Any] = {"max_hops": 50} if cyclic else {}
    flow = Flow("shop", key="order_id", starts=Placed, completes=Done, services=[pay, ship], **bound)
    flow.wait(on=Reserved, until=Signed, timeout="1h", fails=NotSigned)
    return flow, ship


CODEC = AvroCodec()
CLASSES: dict[str, type[Event]] = {cls.event_type: cls for cls in (Placed, Charged, Reserved, Again, Signed)}
AMOUNTS = st.integers(0, 5)
DRAWN = st.one_of(
    st.builds(Charged, order_id=st.just("o-1"), amount=AMOUNTS, fee=st.sampled_from([None, 1, 2])),
    st.builds(Reserved, order_id=st.just("o-1"), amount=AMOUNTS, shelf=st.sampled_from(["", "far"])),
    st.builds(Signed, order_id=st.just("o-1"), alone=st.booleans()),
    st.just(Again(order_id="o-1")),
)
STEPS = {"Charged": "pay.charge", "Reserved": "pay.reserve", "Again": "ship.again"}


def envelope(event: Event, id_: str) -> Envelope:
    """Return the event as a step of the run publishes it; a signature names no run."""
    type_, content_type, data = event.event_type, CODEC.content_type, CODEC.encode(event)
    plain = Envelope(id_, type_, "o-1", "shop", content_type=content_type, data=data)
    return plain if type_ == "Signed" else replace(plain, run="run", step=STEPS.get(type_, ""), causation="run")


class Both:
    """The tracker's state of one run, and a host of the service beside it."""

    def __init__(self, *, cyclic: bool) -> None:
        flow, self.service = shop(cyclic=cyclic)
        self.definition = flow.draft()
        self.table, self.state = FlowTable(self.definition), KeyState()
        self.clock = VirtualClock()
        self.backend = MemoryBackend(self.clock)
        self.inbox = self.backend.inbox("ship")
        self.expected: set[tuple[str, str]] = set()
        self.made: set[tuple[str, str]] = set()
        self.context, self.maker = self.host()

    def host(self) -> tuple[HostContext, JobMaker]:
        """Return a new process of the service."""
        backend, clock = self.backend, self.clock
        ports = Ports(backend.log, self.inbox, backend.dead_letters, CODEC, clock, clock)
        about = AttemptLease("host", 0), Metrics(), DependencyReports(clock)
        context = context_of(self.service, self.definition, ports, *about, tracebacks=False)
        return context, JobMaker(context, RunFinder(backend.log, self.table, self.inbox))

    async def read(self, offset: int, event: Envelope, *, crash: bool) -> None:
        """Let both read the event; before that the host may end, and another one begin."""
        if crash:
            self.context.gates.reached(0, offset)
            await self.context.gates.save({0: offset})
            self.context, self.maker = self.host()
            await self.context.gates.begin(0)
        await self.backend.log.append("shop", [event])
        (record,) = await self.backend.log.read("shop", 0, offset, 1)
        fields = CODEC.values(CLASSES[event.type], event.content_type, event.data)
        self.state, _ = react(self.table, self.state, replace(record, fields=fields))
        pending = [(each.step, each.trigger) for run in self.state.runs for each in run.expected]
        self.expected |= {each for each in pending if each[0].startswith("ship.")}
        made = await self.maker.make([record], 1)
        assert not made.failed
        self.made |= {(job.spec.step, job.event.id) for job in made.jobs}


@pytest.mark.parametrize("cyclic", [False, True])
@drawn(drawn_events=st.lists(st.tuples(DRAWN, st.integers(-9, 9), st.booleans()), max_size=10))
def test_tracker_and_host_start_the_same_steps(cyclic: bool, drawn_events: list[tuple[Event, int, bool]]) -> None:
    """With duplicates, members in any order, signatures before their wait, and processes that end in between."""
    log = [(envelope(Placed(order_id="o-1"), "run"), False)]
    for event, again, crash in drawn_events:
        is_repeated = again >= 6 and len(log) > 1
        log.append((log[1][0] if is_repeated else envelope(event, f"e-{len(log)}"), crash))

    async def play() -> Both:
        both = Both(cyclic=cyclic)
        await both.backend.log.create("shop", 1)
        await both.context.gates.begin(0)
        for offset, (event, crash) in enumerate(log):
            await both.read(offset, event, crash=crash)
        return both

    both = asyncio.run(play())
    # A step on any of several starts once, on no cycle: its slot in the inbox decides that, behind the maker of jobs.
    repeats = {job for job in both.made - both.expected if job[0] == "ship.count"}
    assert both.made - repeats == both.expected
