"""A process without the REST view shows its health, and nothing that could be acted through."""

from __future__ import annotations

import httpx

from choreo.surfaces.rest.app import create_health_app
from choreo.surfaces.rest.doors import Doors
from tests.app.doors import Shop


async def test_health_and_metrics_answer_and_nothing_else_does() -> None:
    """/livez, /readyz and /metrics are there; flows and operator actions are not."""
    shop = await Shop().open()
    app = create_health_app(Doors(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        found = {path: (await client.get(path)).status_code for path in ("/livez", "/readyz", "/metrics", "/flows")}
    assert found == {"/livez": 200, "/readyz": 200, "/metrics": 200, "/flows": 404}
