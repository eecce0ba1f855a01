"""The event catalogue over REST."""

from __future__ import annotations

import httpx

from choreo.core.events import Envelope
from choreo.surfaces.rest.app import create_app
from choreo.surfaces.rest.use_cases import UseCases
from tests.app.harness import Shop


async def test_declared_and_seen_events() -> None:
    """Of every flow, and of one; drift stands first. Values of fields are never shown."""
    shop = await Shop().open()
    app = create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    await shop.completed("o-1")
    lost = Envelope("x", "ShipmentLost", "o-1", "order", source="warehouse/4", data=b'{"van": "secret"}')
    await shop.backend.log.append("order", [lost])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.get("/events")
        (flow,) = answer.json()["items"]
        assert flow == (await client.get("/flows/order/event-types")).json()
        assert (await client.get("/flows/nothing/event-types")).status_code == 404
    lost_entry, *others = flow["items"]
    assert (lost_entry["type"], lost_entry["declared"]) == ("ShipmentLost", False)
    assert len(lost_entry["drift"]) == 1
    assert not any(entry["drift"] for entry in others)
    charged = next(entry for entry in others if entry["type"] == "PaymentCharged")
    assert charged["producers"] == ["payment.charge"]
    assert charged["last"] == "2026-01-01T00:00:00.000Z"
    assert "secret" not in answer.text
