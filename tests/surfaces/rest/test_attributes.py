"""Search attributes over HTTP: set by later events, shown, and filtered by their types; the project runs in a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from choreo import Event, Flow, Service, StepContext
from choreo.settings import load
from choreo.surfaces.rest import UseCases, create_app
from choreo.wiring import App
from tests.support.running import ended, importable, running, until

LIST = "/flows/order/instances"
DEAR = 1_000
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class OrderPlaced(Event):
    """An order came in."""

    order_id: str
    amount: Decimal
    note: str = ""


class OrderPriced(Event):
    """Its price is known."""

    order_id: str
    price: Decimal


class ShipmentCreated(Event):
    """A carrier has it."""

    order_id: str
    shipment_id: str
    due_at: datetime


class OrderDropped(Event):
    """Its price is too high."""

    order_id: str


class OrderClosed(Event):
    """It has arrived."""

    order_id: str


def shop() -> Flow:
    """Return a flow whose attributes come from its start, from two steps, and from outside."""
    desk = Service("desk")

    @desk.step(on=OrderPlaced, emits=OrderPriced, effect=False)
    async def price(event: OrderPlaced, ctx: StepContext) -> OrderPriced:
        return OrderPriced(order_id=event.order_id, price=event.amount + Decimal("0.50"))

    @desk.step(on=OrderPriced, emits=(ShipmentCreated, OrderDropped), effect=False)
    async def ship(event: OrderPriced, ctx: StepContext) -> ShipmentCreated | OrderDropped:
        if event.price > DEAR:
            return OrderDropped(order_id=event.order_id)
        number = int(event.order_id.removeprefix("o-"))
        return ShipmentCreated(
            order_id=event.order_id, shipment_id=f"sh-{number}", due_at=NOON + timedelta(hours=number)
        )

    @desk.step(on=ShipmentCreated, emits=OrderClosed, effect=False)
    async def close(event: ShipmentCreated, ctx: StepContext) -> OrderClosed:
        return OrderClosed(order_id=event.order_id)

    ends = {OrderClosed: "delivered", OrderDropped: "dropped"}
    flow = Flow("order", key="order_id", starts=OrderPlaced, completes=ends, services=[desk], deadline="1h")
    flow.attribute("amount", OrderPlaced)
    flow.attribute("amount", OrderPriced, field="price")
    flow.attribute("shipment_id", ShipmentCreated)
    flow.attribute("due_at", ShipmentCreated)
    return flow


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    """Yield the running project with four ended orders of 100, 101, 102 and 103."""
    importable("attributes_project", flow=shop())
    settings = load(flows=("attributes_project:flow",), database=tmp_path / "c.db", topics=tmp_path / "none")
    async with running(settings) as app:
        receipts = [
            await app.publisher.publish("order", OrderPlaced(order_id=f"o-{n}", amount=Decimal(100 + n)))
            for n in range(4)
        ]
        for n, receipt in enumerate(receipts):
            assert await ended(app, receipt.position, f"o-{n}") == "completed"
        yield app


@pytest.fixture
async def client(app: App) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of its REST view."""
    view = create_app(UseCases(app.queries.flows, app.publisher, app.operator, app.queries, app.clock))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(view), base_url="http://localhost") as client:
        yield client


async def test_lists_are_filtered_by_type(client: httpx.AsyncClient) -> None:
    """Numbers as numbers, times as instants in any zone, texts by equality and beginning."""

    async def keys(query: str) -> list[str]:
        answer = await client.get(f"{LIST}?{query}")
        assert answer.status_code == 200, answer.text
        return sorted(item["key"] for item in answer.json()["items"])

    shown = (await client.get(f"{LIST}/o-1")).json()["attributes"]
    assert shown == {
        "order_id": "o-1", "note": "", "amount": "101.5000", "shipment_id": "sh-1", "due_at": "2026-01-31T13:00:00Z",
    }  # fmt: skip
    assert await keys("attr.amount=101.5") == ["o-1"]
    assert await keys("attr.amount=101") == []
    assert await keys("attr.amount>=102.50") == ["o-2", "o-3"]
    assert await keys("attr.amount>102.50") == ["o-3"]
    assert await keys("attr.amount%3C102.5&attr.amount%3E=1.015E2") == ["o-1"]
    assert await keys("attr.amount>9.9") == ["o-0", "o-1", "o-2", "o-3"]
    assert await keys("attr.due_at=2026-01-31T15:00:00%2B02:00") == ["o-1"]
    assert await keys("attr.due_at<2026-01-31T13:00:00Z") == ["o-0"]
    assert await keys("attr.due_at>=2026-01-31&attr.due_at<2026-02-01") == ["o-0", "o-1", "o-2", "o-3"]
    assert await keys("attr.shipment_id=sh-2") == ["o-2"]
    assert await keys("attr.shipment_id^=sh-") == ["o-0", "o-1", "o-2", "o-3"]
    assert await keys("attr.shipment_id%5E=sh-3&attr.amount>1&status=completed&attr.order_id=o-3") == ["o-3"]
    assert await keys("attr.amount=101.5&attr.amount=102.5") == []
    assert await keys("attr.amount=101.5&attr.amount=1.0150e2&attr.amount=101.50") == ["o-1"]
    assert await keys("attr.order_id=o-1&attr.order_id=o-2") == []


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("attr.amount>=much", "'much' is not a number, such as 12.50"),
        ("attr.amount>", "'' is not a number"),
        ("attr.amount^=1", "amount is a number, such as 12.50, and ^= is no comparison of it"),
        ("attr.due_at>2026-01-31T12:00:00", "is not a time, such as 2026-01-31T12:00:00Z"),
        ("attr.shipment_id>a", "shipment_id is a text, and > is no comparison of it"),
        ("attr.note^=a", "note is a plain field of OrderPlaced, which is filtered with = only"),
        ("attr.outcome=droped", "'droped' is no outcome of this flow"),
        ("attr.shipmentid=sh-1", "flow order has no attribute shipmentid"),
    ],
)
async def test_a_filter_that_no_run_can_meet_is_a_bad_request(
    client: httpx.AsyncClient, query: str, sentence: str
) -> None:
    """Answer 400 with the reason, and with the names where one is unknown."""
    answer = await client.get(f"{LIST}?{query}")
    assert answer.status_code == 400, answer.text
    problem: dict[str, Any] = answer.json()
    assert sentence in problem["detail"]
    if "no attribute" in sentence:
        names = "amount (number), shipment_id (text), due_at (time), outcome (text), order_id, note"
        assert f"Did you mean shipment_id? Known: {names}" in answer.text


async def test_a_project_that_is_restarted_keeps_what_earlier_events_set(tmp_path: Path) -> None:
    """The tracker of a second process folds the rest of a run, and shows the attributes of the first."""
    flow = shop()
    importable("attributes_project", flow=flow)
    settings = load(flows=("attributes_project:flow",), database=tmp_path / "c.db", topics=tmp_path / "none")

    async def shown(app: App) -> dict[str, str]:
        return dict((await app.queries.instance("order", "o-7")).row.attributes)

    async with running(settings, without=["tracker"]) as app:
        receipt = await app.publisher.publish("order", OrderPlaced(order_id="o-7", amount=Decimal(1)))

        async def closed() -> bool:
            records = await app.backend.log.read("order", receipt.position.partition, 0, 10)
            return [record.event.type for record in records][-1] == "OrderClosed"

        await until(app, closed)
    async with running(settings, without=["desk"]) as app:
        assert await ended(app, receipt.position, "o-7") == "completed"
        before = await shown(app)
    assert (before["amount"], before["shipment_id"]) == ("1.5000", "sh-7")
    async with running(settings, without=["desk"]) as app:
        late = await app.publisher.publish("order", {"order_id": "o-7"}, type_="OrderClosed", force=True)
        await app.queries.reached(late.position, 30)
        assert await shown(app) == before


async def test_runs_are_counted_and_found_by_outcome(app: App, client: httpx.AsyncClient) -> None:
    """The metrics split completed runs by it; a filter by an outcome that the flow does not have finds none."""
    receipt = await app.publisher.publish("order", OrderPlaced(order_id="o-9", amount=Decimal(9_000)))
    assert await ended(app, receipt.position, "o-9") == "completed"
    text = (await client.get("/metrics")).text
    assert 'choreo_runs{flow="order",outcome="delivered",status="completed"} 4.0' in text
    assert 'choreo_runs{flow="order",outcome="dropped",status="completed"} 1.0' in text
    assert 'choreo_runs{flow="order",status="completed"}' not in text
    assert 'choreo_runs{flow="order",status="running"} 0.0' in text
    page = (await client.get(f"{LIST}?attr.outcome=dropped&attr.amount>1000")).json()
    assert [item["key"] for item in page["items"]] == ["o-9"]
    assert (await client.get(f"{LIST}?attr.outcome=dropped&attr.amount<1000")).json()["items"] == []
