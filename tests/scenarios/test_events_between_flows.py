"""Events of one flow start runs of another and are awaited there, by way of the bridge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from choreo import Event, Flow, Service, StepContext
from choreo.settings import load
from choreo.wiring import BRIDGE, App, everything
from tests.support import carrying
from tests.support.carrying import FLOWS, OrderPlaced
from tests.support.running import ended, running, until

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def _no_faults() -> Iterator[None]:
    yield
    carrying.refused.clear()


@asynccontextmanager
async def project(tmp_path: Path, *, memory: bool = True) -> AsyncIterator[App]:
    """Run the two flows."""
    settings = load(flows=FLOWS, database=tmp_path / "c.db", topics=tmp_path / "none", partitions=3)
    async with running(settings, memory=memory) as app:
        yield app


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "sqlite"])
async def test_an_order_starts_an_invoice_and_waits_until_it_is_paid(tmp_path: Path, *, memory: bool) -> None:
    """Key fields differ; the trace goes on, and the event over there names the one that it is of."""
    async with project(tmp_path, memory=memory) as app:
        assert BRIDGE in everything(app)
        placed = await app.publisher.publish("orders", OrderPlaced(order_id="o-1"), traceparent=TRACE)
        assert await ended(app, placed.position, "o-1", "orders") == "completed"
        rows = {row.type: row for row in await app.queries.history("orders", "o-1")}
        invoice = {row.type: row for row in await app.queries.history("invoices", "i-o-1")}
        assert invoice["InvoiceRequested"].causation == rows["OrderAccepted"].id
        assert rows["InvoicePaid"].causation == invoice["InvoicePaid"].id
        story = [row.text for row in await app.queries.timeline("invoices", "i-o-1")]
        assert story[0] == "InvoiceRequested started it: carried from flow orders, key o-1"
        assert rows["InvoicePaid"].fields == {"invoice_id": "i-o-1", "order_id": "o-1"}
        for flow in ("orders", "invoices"):
            for partition in range(3):
                records = await app.backend.log.read(flow, partition, 0, 100)
                assert {each.event.traceparent for each in records if each.event.type != "choreo.FlowCompleted"} <= {
                    TRACE
                }
            assert BRIDGE in {lag.group for lag in await app.queries.lags(flow)}


async def test_an_event_that_cannot_be_made_is_a_dead_letter_and_can_be_redriven(tmp_path: Path) -> None:
    """Other orders go on; once the function is corrected, the redrive goes on as if nothing had been."""
    carrying.refused.add(666)
    async with project(tmp_path) as app:
        bad = await app.publisher.publish("orders", OrderPlaced(order_id="o-1", cents=666))
        good = await app.publisher.publish("orders", OrderPlaced(order_id="o-2"))
        assert await ended(app, good.position, "o-2", "orders") == "completed"
        (dead,) = await app.queries.dead_letters("orders")
        assert (dead.service, dead.step) == ("bridge", "bridge.invoices.OrderAccepted")
        assert "no rate for 666 cents" in dead.cause
        assert "makes=invoice_for" in dead.cause
        carrying.refused.clear()
        await app.operator.redrive(dead.id)
        assert await ended(app, bad.position, "o-1", "orders") == "completed"
        assert [one.redriven for one in await app.queries.dead_letters("orders")] == [1]


async def test_a_function_may_carry_nothing(tmp_path: Path) -> None:
    """None is an answer, and no dead letter."""
    async with project(tmp_path) as app:
        await app.publisher.publish("orders", OrderPlaced(order_id="o-1", cents=0))
        good = await app.publisher.publish("orders", OrderPlaced(order_id="o-2"))
        assert await ended(app, good.position, "o-2", "orders") == "completed"
        assert await app.queries.dead_letters() == []
        assert (await app.queries.counts("invoices"))["completed"] == 1


class Asked(Event):
    """A question."""

    key: str


class Answered(Event):
    """An answer, to which the next question follows."""

    key: str


rounds_desk = Service("rounds-desk")


@rounds_desk.step(on=Asked, emits=Answered, effect=False)
def answer(event: Asked, ctx: StepContext) -> Answered:
    """Answer at once."""
    return Answered(key=event.key)


def ask_again(event: Answered) -> Asked:
    """Ask the next question."""
    return Asked(key=f"{event.key}+")


rounds = Flow("rounds", key="key", starts=Asked, completes=Answered, services=[rounds_desk], max_hops=9)
rounds.carries(Answered, to=rounds, makes=ask_again)


async def test_a_flow_that_starts_itself_again_ends_at_its_bound(tmp_path: Path) -> None:
    """Two hops a round: the fifth run completes, too, and what would start a sixth is a dead letter."""
    settings = load(flows=(f"{__name__}:rounds",), database=tmp_path / "c.db", topics=tmp_path / "none", partitions=1)
    async with running(settings, memory=True) as app:
        await app.publisher.publish("rounds", Asked(key="q"))
        dead = await until(app, lambda: app.queries.dead_letters("rounds"), "rounds")
        assert "more than 9 hops: Answered came round too often" in dead[0].cause
        assert dead[0].record.event.key == "q++++"
        assert await ended(app, dead[0].record.position, "q++++", "rounds") == "completed"
        assert await app.queries.counts("rounds") == {"completed": 5}
