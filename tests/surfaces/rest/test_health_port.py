"""A process without the REST view shows its health, and nothing that could be acted through."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI

from choreo.app.dependencies import DependencyReports
from choreo.surfaces.rest.app import create_app, create_health_app
from choreo.surfaces.rest.doors import Doors
from tests.app.doors import Shop


async def test_health_and_metrics_answer_and_nothing_else_does() -> None:
    """/livez, /readyz and /metrics are there; flows and operator actions are not."""
    shop = await Shop().open()
    app = create_health_app(Doors(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        found = {path: (await client.get(path)).status_code for path in ("/livez", "/readyz", "/metrics", "/flows")}
    assert found == {"/livez": 200, "/readyz": 200, "/metrics": 200, "/flows": 404}


@pytest.mark.parametrize("make", [create_app, create_health_app])
async def test_a_process_is_not_ready_while_it_cannot_use_something(make: Callable[[Doors], FastAPI]) -> None:
    """/readyz lists each with moment, cause and remedy, /metrics counts; /livez is ok, for a restart is no cure."""
    shop = await Shop().open()
    reports = DependencyReports(shop.clock)
    doors = Doors(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock, dependencies=reports)
    reports.report("redis", "READONLY", "Point CHOREO_REDIS to the primary.")
    reports.report("tracker of order", "the disk is full", "Free some space.")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(make(doors)), base_url="http://localhost") as client:
        refused = await client.get("/readyz")
        assert (refused.status_code, refused.headers["Content-Type"]) == (503, "application/problem+json")
        assert refused.json()["detail"] == "cannot be used: redis, tracker of order"
        assert refused.json()["dependencies"][0] == {
            "name": "redis",
            "since": "2026-01-01T00:00:00.000Z",
            "cause": "READONLY",
            "remedy": "Point CHOREO_REDIS to the primary.",
        }
        assert (await client.get("/livez")).status_code == 200
        numbers = (await client.get("/metrics")).text
        assert 'choreo_dependency_unavailable{dependency="redis"} 1.0' in numbers
        assert 'choreo_dependency_unavailable_seconds{dependency="redis"} 0.0' in numbers
        reports.clear("redis")
        reports.clear("tracker of order")
        assert (await client.get("/readyz")).status_code == 200
        assert "choreo_dependency_unavailable{" not in (await client.get("/metrics")).text
