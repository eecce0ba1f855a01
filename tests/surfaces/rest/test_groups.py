"""Consumer groups over REST."""

from __future__ import annotations

import httpx

from choreo.surfaces.rest.app import create_app
from choreo.surfaces.rest.use_cases import UseCases
from tests.app.harness import Shop


async def test_groups_with_their_members_and_partitions() -> None:
    """All of them, and one; an unknown group is 404."""
    shop = await Shop().open()
    app = create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    await shop.start("o-1")
    await (await shop.backend.log.consumer("order", "stock", "stock-pod")).poll(10, 0)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        items = (await client.get("/groups")).json()["items"]
        assert [group["name"] for group in items] == ["tracker", "desk", "payment", "stock"]
        stock = (await client.get("/flows/order/groups/stock")).json()
        assert stock == items[-1]
        (member,) = stock["members"]
        assert (member["name"], member["partitions"]) == ("stock-pod", [0, 1, 2, 3])
        assert {each["owner"] for each in stock["partitions"]} == {"stock-pod"}
        assert (stock["lag"], stock["eta_s"], stock["since"]) == (1, None, "2026-01-01T00:00:00.000Z")
        missing = await client.get("/flows/order/groups/nobody")
        assert missing.status_code == 404
        assert "Its groups are: tracker, desk, payment, stock." in missing.json()["remedy"]
