"""`GET …/why`: the object of `choreo why`, over REST."""

from __future__ import annotations

import httpx

from choreo.surfaces.json_format import WhyAnswer
from choreo.surfaces.rest.app import create_app
from choreo.surfaces.rest.use_cases import UseCases
from tests.app.harness import Shop

WHY = "/flows/order/instances/o-1/why"


async def test_the_cause_is_the_use_cases_own() -> None:
    """The same object as the command line prints; an unknown key is 404."""
    shop = await Shop().open()
    app = create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert (await client.get(WHY)).status_code == 404
        await shop.start("o-1")
        answer = await client.get(WHY)
        assert answer.json() == WhyAnswer.model_validate(await shop.queries.why("order", "o-1")).model_dump()
        assert answer.json()["cause"] == "no-member"
        assert answer.json()["evidence"][-1]["at"] == "2026-01-01T00:00:00.000Z"
