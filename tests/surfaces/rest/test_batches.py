"""The routes of batches: preview, begin, look, stop and go on; the role of the action counts."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import httpx

from choreo.app.operator.actions import Kind
from choreo.core.batch import REDRIVE
from choreo.surfaces.rest.access_control import AccessControl
from choreo.surfaces.rest.app import create_app
from choreo.surfaces.rest.batches import BatchRequest
from choreo.surfaces.rest.use_cases import UseCases
from tests.app.harness import Shop, batches_of
from tests.surfaces.rest.test_roles_in_the_api import Named

FLOW = "/flows/order"
CANCEL: dict[str, Any] = {"action": "cancel", "reason": "recalled"}


def _client(shop: Shop, access: AccessControl | None = None) -> httpx.AsyncClient:
    parts = (shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock)
    app = create_app(UseCases(*parts, batches=batches_of(shop), access=access))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def test_a_batch_is_previewed_begun_and_runs_by_itself() -> None:
    """The answer has the plan; the progress is asked for. Two posts with one key are one batch."""
    shop = await Shop().open()
    async with _client(shop) as client:
        await shop.charged("o-1")
        await shop.completed("o-2")
        preview = (await client.post(f"{FLOW}/batches/preview", json=CANCEL)).json()
        assert (preview["count"], preview["refused"], preview["first"][0]["key"]) == (1, 1, "o-1")
        assert (await client.get(f"{FLOW}/batches")).json() == {"items": []}
        headers = {"Idempotency-Key": "click-1"}
        begun = [await client.post(f"{FLOW}/batches", json=CANCEL, headers=headers) for _ in range(2)]
        assert [each.status_code for each in begun] == [202, 202]
        (listed,) = (await client.get(f"{FLOW}/batches")).json()["items"]
        one = f"{FLOW}/batches/{listed['id']}"
        assert (await client.post(f"{one}/stop", json={})).json()["state"] == "stopped"
        assert (await client.post(f"{one}/stop", json={})).status_code == 409
        assert (await client.post(f"{one}/resume", json={})).json()["state"] == "running"
        stop = asyncio.Event()
        working = asyncio.create_task(batches_of(shop).work(stop))
        while (await client.get(one)).json()["state"] != "done":
            await shop.clock.advance(1)  # type: ignore[attr-defined]
        stop.set()
        await working
        await shop.track()
        assert (shop.run("o-1").cause, (await client.get(one)).json()["done"]) == ("cancelled: recalled", 1)
        assert (await client.get("/flows/order/batches/none")).status_code == 404


async def test_the_role_of_the_action_counts() -> None:
    """An operator cancels many, and terminates or redrives none."""
    shop = await Shop().open()
    async with _client(shop, AccessControl([Named()], shop.clock)) as client:
        for role, action, status in (
            ("viewer", "cancel", 403),
            ("operator", "cancel", 200),
            ("operator", "terminate", 403),
            ("operator", "redrive", 403),
            ("admin", "redrive", 200),
        ):
            headers = {"Authorization": f"Bearer {role}"}
            answer = await client.post(f"{FLOW}/batches/preview", json={"action": action}, headers=headers)
            assert answer.status_code == status, (role, action)


async def test_what_cannot_be_read_is_refused() -> None:
    """An unknown action, a rate that cannot be held, a filter that is none, a missing reason."""
    shop = await Shop().open()
    async with _client(shop) as client:
        await shop.start("o-1")
        for body, status in (
            ({"action": "explode"}, 422),
            ({"action": "cancel", "rate": 0}, 422),
            ({"action": "cancel", "attributes": ["?"]}, 422),
            ({"action": "terminate"}, 422),
            ({"action": "redrive", "group": "00000000"}, 404),
        ):
            assert (await client.post(f"{FLOW}/batches", json=body)).status_code == status, body
        assert (await client.get(f"{FLOW}/dead-letter-groups")).json() == {"items": []}


def test_a_batch_takes_every_action_of_an_operator() -> None:
    """And the redrive of dead letters."""
    assert get_args(BatchRequest.model_fields["action"].annotation) == (*Kind, REDRIVE)
