"""Runs that stand still, held up runs and due times over REST."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from choreo.core.partition import partition_of
from choreo.surfaces.rest.app import create_app
from choreo.surfaces.rest.use_cases import UseCases
from choreo.testing.clock import VirtualClock
from tests.app.harness import PARTITIONS, ShipmentPicked, Shop


@pytest.fixture
async def shop() -> Shop:
    """Return a shop with an order that has waited for two days, and an event without a run."""
    shop = await Shop().open()
    await shop.charged("o-1")
    await shop.publisher.publish("order", ShipmentPicked(order_id="O-1"), allow_early=True)
    assert isinstance(shop.clock, VirtualClock)
    await shop.clock.advance(2 * 86_400)
    return shop


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of its REST view."""
    app = create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


async def test_all_that_stands_still(client: httpx.AsyncClient) -> None:
    """The run, the orphan, and the time-out that no fact says."""
    found = (await client.get("/flows/order/stalled")).json()
    (run,) = found["runs"]
    assert (run["key"], run["place"], run["p99_ms"]) == ("o-1", "wait.ShipmentPicked", 0)
    assert run["since"] == "2026-01-01T00:00:00.000Z"
    assert [each["key"] for each in found["orphans"]] == ["O-1"]
    (late,) = found["overdue"]
    assert (late["about"], late["late_ms"]) == ("the timeout of the wait for ShipmentPicked", 86_400_000)
    assert (await client.get("/flows/nothing/stalled")).status_code == 404


async def test_due_times_by_page(shop: Shop, client: httpx.AsyncClient) -> None:
    """The earliest first; a cursor of no list is a bad request."""
    await shop.start("o-2")
    first = (await client.get("/flows/order/timers?limit=1")).json()
    assert [row["key"] for row in first["items"]] == ["o-1"]
    last = (await client.get("/flows/order/timers", params={"cursor": first["cursor"]})).json()
    assert [row["key"] for row in last["items"]] == ["o-2"]
    assert last["cursor"] == ""
    assert (await client.get("/flows/order/timers?cursor=x")).status_code == 400


async def test_runs_that_a_partition_holds_up(shop: Shop, client: httpx.AsyncClient) -> None:
    """The link from a lagging partition; an unknown group is 404, a partition that is no number 422."""
    await shop.start("o-2")
    partition = partition_of("o-2", PARTITIONS)
    path = "/flows/order/groups/stock/partitions"
    found = (await client.get(f"{path}/{partition}/runs")).json()["items"]
    assert [run["key"] for run in found] == ["o-2"]
    assert (await client.get("/flows/order/groups/stok/partitions/0/runs")).status_code == 404
    assert (await client.get(f"{path}/x/runs")).status_code in {400, 422}
