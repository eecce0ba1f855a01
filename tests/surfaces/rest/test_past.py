"""`?at=` of one run, and the changes between two positions, over REST."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from choreo.surfaces.json_format import instance_of
from choreo.surfaces.rest.app import create_app
from choreo.surfaces.rest.use_cases import UseCases
from tests.app.harness import Shop
from tests.app.query.test_run_pictures import pasts_of

RUN = "/flows/order/instances/o-1"


@pytest.fixture
async def shop() -> Shop:
    """Return a shop with an order that was compensated."""
    own = await Shop().open()
    await own.compensated("o-1")
    return own


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the shop."""
    app = create_app(
        UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock, pasts=pasts_of(shop))
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as own:
        yield own


async def test_the_state_at_each_position_is_the_use_cases_own(shop: Shop, client: httpx.AsyncClient) -> None:
    """By an offset and by a position; the last one is the present."""
    history = await shop.backend.read_model.history("order", "o-1")
    pasts = pasts_of(shop)
    for record in history:
        past = await pasts.at("order", "o-1", await pasts.until(str(record.offset), "order", "o-1"))
        for text in (record.offset, f"order/{record.partition}/{record.offset}"):
            answer = (await client.get(RUN, params={"at": text})).json()
            assert answer == instance_of(past.instance).model_dump()
        timeline = (await client.get(f"{RUN}/timeline", params={"at": record.offset})).json()["items"]
        assert timeline[-1]["offset"] == record.offset
    assert answer == (await client.get(RUN)).json()


async def test_the_changes_between_two_positions(shop: Shop, client: httpx.AsyncClient) -> None:
    """Both bounds may be left out; the fields that differ stand with both values, the events in their order."""
    offsets = [record.offset for record in await shop.backend.read_model.history("order", "o-1")]
    whole = (await client.get(f"{RUN}/changes")).json()
    assert (whole["started"], whole["offset"], len(whole["events"])) == (False, offsets[-1], len(offsets))
    assert {"field": "status", "before": "none", "after": "compensated"} in whole["changed"]
    last = (await client.get(f"{RUN}/changes", params={"since": offsets[-2], "at": offsets[-1]})).json()
    assert last["started"] is True
    assert [event["offset"] for event in last["events"]] == offsets[-1:]
    assert [each["after"] for each in last["changed"] if each["field"] == "status"] == ["compensated"]


async def test_a_text_that_is_no_position_is_refused(client: httpx.AsyncClient) -> None:
    """Also one of another log; before the start there is no run."""
    for path in (RUN, f"{RUN}/timeline", f"{RUN}/changes"):
        assert (await client.get(path, params={"at": "nowhere"})).status_code == 422
        assert (await client.get(path, params={"at": "other/3/42"})).status_code == 422
        assert (await client.get(path, params={"at": "1990-01-01T00:00:00Z"})).status_code == 404
