"""`GET …/preview`: the object of `choreo cancel --dry-run`, over REST."""

from __future__ import annotations

import httpx

from choreo.app.operator.actions import Action, Kind
from choreo.surfaces.preview_format import PreviewAnswer
from choreo.surfaces.rest.app import create_app
from choreo.surfaces.rest.use_cases import UseCases
from tests.app.harness import Shop

PREVIEW = "/flows/order/instances/o-1/preview"


async def test_the_preview_is_the_use_cases_own() -> None:
    """For every action that fits; one that does not is refused as the action is."""
    shop = await Shop().open()
    app = create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert (await client.get(PREVIEW, params={"action": "cancel"})).status_code == 404
        await shop.charged("o-1")
        for kind in (Kind.PAUSE, Kind.CANCEL, Kind.TERMINATE):
            answer = await client.get(PREVIEW, params={"action": kind.value})
            wanted = PreviewAnswer.model_validate(await shop.operator.preview(Action(kind, "order", "o-1")))
            assert answer.json() == wanted.model_dump()
        assert (await client.get(PREVIEW, params={"action": "resume"})).status_code == 409
        assert (await client.get(PREVIEW, params={"action": "explode"})).status_code == 422
        assert shop.run("o-1").shown == "running"
