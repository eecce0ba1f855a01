"""A process without the REST view shows its health, and nothing that could be acted through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from choreo.app.dependencies import DependencyReports
from choreo.app.query.queries import Queries
from choreo.core.events import Envelope
from choreo.settings import Settings
from choreo.surfaces.rest.app import create_app, create_health_app
from choreo.surfaces.rest.use_cases import READ_MODEL_LAG_MAX, UseCases
from choreo.testing.clock import VirtualClock
from choreo.testing.faults import Faults
from choreo.wiring import REST, open_app, run
from tests.app.harness import Shop
from tests.support.asking import FLOW, Asking
from tests.support.kafka import free_ports


async def test_health_and_metrics_answer_and_nothing_else_does() -> None:
    """/livez, /readyz and /metrics are there; flows and operator actions are not."""
    shop = await Shop().open()
    app = create_health_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        found = {path: (await client.get(path)).status_code for path in ("/livez", "/readyz", "/metrics", "/flows")}
    assert found == {"/livez": 200, "/readyz": 200, "/metrics": 200, "/flows": 404}


@pytest.mark.parametrize("make", [create_app, create_health_app])
async def test_a_process_is_not_ready_while_it_cannot_use_something(make: Callable[[UseCases], FastAPI]) -> None:
    """/readyz lists each with moment, cause and remedy, /metrics counts; /livez is ok, for a restart is no cure."""
    shop = await Shop().open()
    reports = DependencyReports(shop.clock)
    use_cases = UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock, dependencies=reports)
    reports.report("redis", "READONLY", "Point CHOREO_REDIS to the primary.")
    reports.report("tracker of order", "the disk is full", "Free some space.")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(make(use_cases)), base_url="http://localhost") as client:
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


@pytest.mark.parametrize(("role", "status"), [("desk", 200), (REST, 503)])
async def test_a_read_model_that_lags_makes_only_those_unready_who_serve_it(role: str, status: int) -> None:
    """A step service works without the filler of the read model; both report its lag."""
    Asking()
    port, other = free_ports(2)
    settings, stop = Settings(flows=("asking_project:flow",), health_port=port, port=other), asyncio.Event()
    async with open_app(settings, memory=True) as app:
        noise = [Envelope(str(n), "Noise", f"k-{n}", FLOW, source="elsewhere") for n in range(READ_MODEL_LAG_MAX + 1)]
        await app.backend.log.append(FLOW, noise)
        running = asyncio.create_task(run(app, [role], stop))
        transport = httpx.AsyncHTTPTransport(retries=5)  # connects again until the port is open
        try:
            async with httpx.AsyncClient(transport=transport, base_url=f"http://localhost:{port}") as client:
                answer = await client.get("/readyz")
        finally:
            stop.set()
            await running
    assert answer.status_code == status, answer.text
    assert str(READ_MODEL_LAG_MAX + 1) in answer.text


async def _shop_with_faults(**options: Any) -> tuple[Faults, UseCases]:
    """Return a shop whose queries ask a log that can fail."""
    shop, faults = await Shop().open(), Faults()
    backend = shop.backend
    log = faults.wrap("log", backend.log)
    queries = Queries(shop.flows, log, backend.read_model, backend.dead_letters, shop.codec, shop.clock)
    return faults, UseCases(shop.flows, shop.publisher, shop.operator, queries, shop.clock, **options)


async def _asked(use_cases: UseCases) -> tuple[httpx.Response, str]:
    transport = httpx.ASGITransport(create_health_app(use_cases))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get("/readyz"), (await client.get("/metrics")).text


async def test_a_log_that_hangs_makes_a_process_unready_at_once_and_leaves_its_other_numbers() -> None:
    """A broker that takes requests and answers none: the probe is answered before it gives up."""
    faults, use_cases = await _shop_with_faults(answer_s=0.05)
    hanging = faults.hold("log.stable_end")
    ready, numbers = await _asked(use_cases)
    assert ready.status_code == 503
    assert "the log did not say within 0.05 s" in ready.json()["detail"]
    assert 'choreo_flows_unanswered{numbers="lag"} 1.0' in numbers
    assert "choreo_runs{" in numbers
    assert "choreo_group_lag_records{" not in numbers
    hanging.lift()


async def test_numbers_of_a_log_that_fails_are_left_out_of_the_metrics() -> None:
    """A process shows by itself what it cannot use; the numbers of the log come back with the log."""
    reports = DependencyReports(VirtualClock())
    reports.report("broker", "it refuses connections", "Start it.")
    faults, use_cases = await _shop_with_faults(dependencies=reports)
    faults.fail("log.stable_end")
    _, numbers = await _asked(use_cases)
    assert 'choreo_dependency_unavailable{dependency="broker"} 1.0' in numbers
    assert 'choreo_flows_unanswered{numbers="lag"} 1.0' in numbers
    _, numbers = await _asked(use_cases)
    assert 'choreo_flows_unanswered{numbers="lag"} 0.0' in numbers
    assert "choreo_group_lag_records{" in numbers
