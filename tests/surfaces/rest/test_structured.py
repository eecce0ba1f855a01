"""CloudEvents in structured mode at the REST view, as the CNCF's own SDK writes them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from choreo.surfaces.rest import UseCases, create_app
from tests.app.harness import Shop

EVENTS = "/flows/order/events"
PLACED = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "OrderPlaced", "data": {"order_id": "o-1"}}
TYPE = {"Content-Type": "application/cloudevents+json; charset=utf-8"}


@pytest.fixture
async def shop() -> Shop:
    """Return an empty shop."""
    return await Shop().open()


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client that sends CloudEvents."""
    app = create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=TYPE) as client:
        yield client


async def test_an_event_starts_a_run_and_is_published_once(shop: Shop, client: httpx.AsyncClient) -> None:
    """Its source and id tell it from others; a traceparent goes with it."""
    event = {
        **PLACED,
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
        "baggage": "tenant=a",
        "time": "2026-11-28T12:00:00Z",
    }
    first, again = [await client.post(EVENTS, content=json.dumps(event)) for _ in range(2)]
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["run"] == again.json()["run"]
    other = await client.post(EVENTS, content=json.dumps({**PLACED, "source": "/another"}))
    assert other.json()["run"] != first.json()["run"]
    (record, *_) = await shop.backend.read_model.history("order", "o-1")
    assert record.event.traceparent == event["traceparent"]
    assert record.event.baggage == event["baggage"]


async def test_a_trace_state_with_a_line_break_is_ignored(shop: Shop, client: httpx.AsyncClient) -> None:
    """JSON may hold one, a header may not: a handler sends the header on."""
    event = {**PLACED, "traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "baggage": "a=b\r\nc: d"}
    await client.post(EVENTS, content=json.dumps({**event, "tracestate": "x=1\r\nX-Role: admin"}))
    (record, *_) = await shop.backend.read_model.history("order", "o-1")
    carried = record.event.traceparent, record.event.tracestate, record.event.baggage
    assert carried == (event["traceparent"], "", "")


async def test_an_idempotency_key_of_the_request_weighs_more(client: httpx.AsyncClient) -> None:
    """Two events under one are one."""
    posts = [
        await client.post(EVENTS, content=json.dumps({**PLACED, "id": id_}), headers={"Idempotency-Key": "k"})
        for id_ in ("e-1", "e-2")
    ]
    assert [answer.status_code for answer in posts] == [201, 200]


async def test_an_extension_names_the_run(shop: Shop, client: httpx.AsyncClient) -> None:
    """As the header does in binary mode."""
    await shop.charged("o-1")
    picked = {**PLACED, "type": "ShipmentPicked", "choreorun": shop.run("o-1").id}
    assert (await client.post(EVENTS, content=json.dumps(picked))).json()["run"] == shop.run("o-1").id
    nowhere = await client.post(EVENTS, content=json.dumps({**picked, "choreorun": "nope", "id": "e-2"}))
    assert nowhere.status_code == 404


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"specversion": "0.3"}, "its specversion is not 1.0"),
        ({"id": ""}, "it has no id"),
        ({"id": 5}, "it is no CloudEvent in JSON"),
        ({"source": None}, "it has no source"),
        ({"data": [1]}, "its data is no JSON object"),
        ({"data": "x", "datacontenttype": "text/plain"}, "its data is no JSON object"),
        ({"data": {"order_id": "o-1", "color": "red"}}, "OrderPlaced.color"),
        ({"type": "StockReserved"}, "StockReserved is published by stock.reserve"),
    ],
)
async def test_what_is_no_event_of_the_flow_is_refused(
    changed: dict[str, object], said: str, client: httpx.AsyncClient
) -> None:
    """As a problem, with the mistake."""
    answer = await client.post(EVENTS, content=json.dumps({**PLACED, **changed}))
    assert answer.status_code in (409, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert said in f"{answer.json()['where']}: {answer.json()['detail']}"


async def test_the_description_has_it_beside_json(client: httpx.AsyncClient) -> None:
    """For each event that may come from outside: its type, its fields, and a CloudEvent's required attributes."""
    document = (await client.get("/openapi.json")).json()
    content = document["paths"]["/flows/{flow}/events"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "application/cloudevents+json"}
    schemas = document["components"]["schemas"]
    names = [part["$ref"].rpartition("/")[2] for part in schemas["CloudEvent"]["oneOf"]]
    assert [schemas[name]["properties"]["type"] for name in names] == [
        {"const": "OrderPlaced"},
        {"const": "ShipmentPicked"},
    ]
    assert schemas[names[0]]["required"] == ["specversion", "id", "source", "type", "data"]
    assert "order_id" in schemas[names[0]]["properties"]["data"]["properties"]


async def test_only_publishing_takes_it_and_no_batches(client: httpx.AsyncClient) -> None:
    """Elsewhere, and of many at once, the type is refused; too many bytes in pieces are, too."""
    batch = {"Content-Type": "application/cloudevents-batch+json"}
    assert (await client.post(EVENTS, content="[]", headers=batch)).status_code == 415
    assert (await client.post("/flows/order/instances/o-1/cancel", content="{}")).status_code == 415

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65_536

    assert (await client.post(EVENTS, content=endless())).status_code == 413
