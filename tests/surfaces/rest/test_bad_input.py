"""Bad input to the REST view: each case with the answer its sender sees. Nothing of it reaches the log."""
# ruff: noqa: E501 - a table is read by its columns

import json
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import pytest

from choreo.surfaces.rest import UseCases, create_app
from choreo.surfaces.rest.error_responses import WHY
from choreo.surfaces.rest.problems import TITLES, problem
from tests.app.harness import PARTITIONS, Shop

JSON = {"Content-Type": "application/json"}
PLACED = {"type": "OrderPlaced", "fields": {"order_id": "o-9"}}
EVENTS = "/flows/order/events"
LIST = "/flows/order/instances"


@pytest.fixture
async def shop() -> Shop:
    """Return a shop with a completed order, a stuck one, and one under way."""
    shop = await Shop().open()
    await shop.completed("done")
    await shop.stuck("stuck")
    await shop.charged("busy")
    return shop


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the shop's REST view."""
    app = create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost", headers=JSON
    ) as client:
        yield client


class Bad(NamedTuple):
    """A request, and its answer: status, and a piece of the detail, place or remedy."""

    name: str
    method: str
    path: str
    status: int
    said: str
    sent: Mapping[str, Any] = MappingProxyType({})


def event(**changes: Any) -> dict[str, Any]:
    """Return an OrderPlaced body with some of its fields changed."""
    return {"json": {"type": "OrderPlaced", "fields": {"order_id": "o-9", **changes}}}


def typed(type_: Any) -> dict[str, Any]:
    """Return a body of another type."""
    return {"json": {"type": type_, "fields": {"order_id": "o-9"}}}


CASES = [
    Bad("no JSON", "POST", EVENTS, 400, "JSON decode error: Expecting", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
    Bad("no body", "POST", EVENTS, 422, "Field required"),
    Bad("said to be text", "POST", EVENTS, 415, "with `Content-Type: application/json`", {"content": b"{}", "headers": {"Content-Type": "text/plain"}}),
    Bad("a form without fields", "POST", LIST + "/busy/cancel", 415, "x-www-form-urlencoded", {"headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
    Bad("JSON in another encoding", "POST", EVENTS, 415, "JSON in UTF-8", {"json": PLACED, "headers": {"Content-Type": "application/json; charset=utf-16"}}),
    Bad("an empty Content-Type", "POST", "/dead-letters/x/redrive", 415, "has no Content-Type", {"headers": {"Content-Type": ""}}),
    Bad("a host that is not ours", "GET", "/flows", 421, "'evil.example' is no name of this process", {"headers": {"Host": "evil.example"}}),
    Bad("a host that begins as ours", "GET", "/flows", 421, "CHOREO_ALLOWED_HOSTS", {"headers": {"Host": "localhost.evil.example"}}),
    Bad("a host of odd characters", "GET", "/flows", 421, "no name of this process", {"headers": {"Host": "localhost@evil.example"}}),
    Bad("an empty host", "GET", "/flows", 421, "names no Host", {"headers": {"Host": ""}}),
    Bad("another origin", "POST", EVENTS, 403, "origin: http://evil.example", {"json": PLACED, "headers": {"Origin": "http://evil.example"}}),
    Bad("another port of this machine", "POST", EVENTS, 403, "another origin", {"json": PLACED, "headers": {"Origin": "http://localhost:3000"}}),
    Bad("an origin that hides", "POST", EVENTS, 403, "origin: null", {"json": PLACED, "headers": {"Origin": "null"}}),
    Bad("an origin of no scheme", "POST", EVENTS, 403, "another origin", {"json": PLACED, "headers": {"Origin": "//localhost"}}),
    Bad("an origin of a broken port", "POST", EVENTS, 403, "another origin", {"json": PLACED, "headers": {"Origin": "http://localhost:x"}}),
    Bad("sent from another site", "POST", EVENTS, 403, "sec-fetch-site: cross-site", {"json": PLACED, "headers": {"Sec-Fetch-Site": "cross-site"}}),
    Bad("sent from a neighbour", "POST", EVENTS, 403, "same-site", {"json": PLACED, "headers": {"Sec-Fetch-Site": "same-site"}}),
    Bad("a list", "POST", EVENTS, 422, "valid dictionary", {"json": [1]}),
    Bad("no fields", "POST", EVENTS, 422, "body.fields", {"json": {"type": "OrderPlaced"}}),
    Bad("an unknown part", "POST", EVENTS, 422, "body.key", {"json": {**PLACED, "key": "o-9"}}),
    Bad("type is a number", "POST", EVENTS, 422, "body.type", typed(7)),
    Bad("unknown type", "POST", EVENTS, 422, "'Nope' is no event of this flow", typed("Nope")),
    Bad("a misspelt type", "POST", EVENTS, 422, "Did you mean OrderPlaced?", typed("OrderPalced")),
    Bad("several faults", "POST", EVENTS, 422, "OrderPlaced.customer: ", event(cents="x", customer=3)),
    Bad("a misspelt flow", "POST", "/flows/ordr/events", 404, "Did you mean order?", {"json": PLACED}),
    Bad("an exponent too large", "POST", EVENTS, 422, "valid integer of at most 64 bits", {
        "content": b'{"type": "OrderPlaced", "fields": {"order_id": "o-9", "cents": 1e400}}', "headers": {"Content-Type": "application/json"},
    }),
    Bad("a step's event", "POST", EVENTS, 409, "StockReserved is published by stock.reserve", typed("StockReserved")),
    Bad("an undo's event", "POST", EVENTS, 409, "From outside come: OrderPlaced, ShipmentPicked", typed("StockReleased")),
    Bad("a fact of choreo's", "POST", EVENTS, 422, "no event of this flow", typed("choreo.FlowCompleted")),
    Bad("a field missing", "POST", EVENTS, 422, "OrderPlaced.order_id: field required", {"json": {"type": "OrderPlaced", "fields": {}}}),
    Bad("a field too many", "POST", EVENTS, 422, "OrderPlaced.color: extra inputs", event(color="red")),
    Bad("a text as number", "POST", EVENTS, 422, "OrderPlaced.cents: input should be a valid integer", event(cents="x")),
    Bad("a fraction", "POST", EVENTS, 422, "OrderPlaced.cents", event(cents=1.5)),
    Bad("a number too large", "POST", EVENTS, 422, "OrderPlaced.cents", event(cents=2**70)),
    Bad("null", "POST", EVENTS, 422, "OrderPlaced.customer", event(customer=None)),
    Bad("an empty key", "POST", EVENTS, 422, "the key is empty", event(order_id="")),
    Bad("a NUL in the key", "POST", EVENTS, 422, "control character", event(order_id="a\x00b")),
    Bad("a separator in the key", "POST", EVENTS, 422, "control character", event(order_id="a\x1fb")),
    Bad("a key of dots", "POST", EVENTS, 422, "dot name", event(order_id="..")),
    Bad("a key too long", "POST", EVENTS, 422, "513 characters, 512 at most", event(order_id="x" * 513)),
    Bad("half a surrogate pair", "POST", EVENTS, 422, "surrogates not allowed", {
        "content": b'{"type": "OrderPlaced", "fields": {"order_id": "\\ud800"}}', "headers": {"Content-Type": "application/json"},
    }),
    Bad("bytes that are no UTF-8", "POST", EVENTS, 400, "parsing the body", {
        "content": b'{"type": "\xff"}', "headers": {"Content-Type": "application/json"},
    }),
    Bad("too deep", "POST", EVENTS, 400, "pars", {
        "content": b'{"type":"OrderPlaced","fields":{"order_id":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        "headers": {"Content-Type": "application/json"},
    }),
    Bad("a name twice", "POST", EVENTS, 400, "'order_id' is given twice", {
        "content": b'{"type": "OrderPlaced", "fields": {"order_id": "a", "order_id": "b"}}', "headers": {"Content-Type": "application/json"},
    }),
    Bad("a number that is none", "POST", EVENTS, 400, "NaN is no number of JSON", {
        "content": b'{"type": "OrderPlaced", "fields": {"order_id": NaN}}', "headers": {"Content-Type": "application/json"},
    }),
    Bad("too large", "POST", EVENTS, 413, "larger than 1048576 bytes", event(customer="x" * (1 << 20))),
    Bad("a start for a run", "POST", EVENTS, 422, "a start begins a run of its own", {"json": {**PLACED, "run": "r"}}),
    Bad("an unknown run", "POST", EVENTS, 404, "there is no run 'r'", {"json": {"type": "ShipmentPicked", "fields": {"order_id": "busy"}, "run": "r"}}),
    Bad("an event of no run", "POST", EVENTS, 404, "?allow_early=true", {"json": {"type": "ShipmentPicked", "fields": {"order_id": "nobody"}}}),
    Bad("an event nobody awaits", "POST", EVENTS, 409, "nothing awaits ShipmentPicked any more: the run has ended (completed)", {"json": {"type": "ShipmentPicked", "fields": {"order_id": "done"}}}),
    Bad("allowed, but not yes or no", "POST", EVENTS + "?allow_early=perhaps", 422, "query.allow_early", {"json": PLACED}),
    Bad("a blank in the Idempotency-Key", "POST", EVENTS, 422, "header.idempotency-key", {"json": PLACED, "headers": {"Idempotency-Key": "a b"}}),
    Bad("the same start, changed", "POST", EVENTS, 409, "published before, with other fields", event(order_id="busy", cents=5)),
    Bad("unknown flow", "POST", "/flows/nope/events", 404, "Known here: order", {"json": PLACED}),
    Bad("unknown flow's list", "GET", "/flows/nope/instances", 404, "there is no flow 'nope'"),
    Bad("unknown path", "GET", "/flowz", 404, "nothing at this path"),
    Bad("nothing between slashes", "GET", "/flows//instances", 404, "nothing at this path"),
    Bad("another method", "DELETE", "/flows/order", 405, "DELETE is not allowed here"),
    Bad("unknown status", "GET", LIST + "?status=lost", 422, "query.status"),
    Bad("limit of none", "GET", LIST + "?limit=0", 422, "greater than or equal to 1"),
    Bad("limit too high", "GET", LIST + "?limit=501", 422, "less than or equal to 500"),
    Bad("limit no number", "GET", LIST + "?limit=ten", 422, "is no whole number"),
    Bad("limit a fraction", "GET", LIST + "?limit=1.0", 422, "is no whole number"),
    Bad("cursor of garbage", "GET", LIST + "?cursor=xyz", 400, "'xyz' is not a cursor of this list"),
    Bad("letters' cursor of garbage", "GET", "/dead-letters?cursor=xyz", 400, "Begin without one"),
    Bad("a time without zone", "GET", LIST + "?started_from=2026-01-01T00:00:00", 422, "RFC 3339"),
    Bad("a day that is none", "GET", LIST + "?started_before=2026-02-30T00:00:00Z", 422, "query.started_before"),
    Bad("a misspelt filter", "GET", LIST + "?stats=running", 422, "Known here: after, cursor, key, limit, started_before"),
    Bad("a thousand filters", "GET", LIST + "?" + "&".join(f"attr.a{n}=1" for n in range(1_000)), 422, "the filter has 1000 attributes, 16 at most"),
    Bad("a status given twice", "GET", LIST + "?status=running&status=stuck", 422, "given more than once: status"),
    Bad("a filter that is no UTF-8", "GET", LIST + "?attr.customer=%FF", 422, "not UTF-8 when decoded"),
    Bad("a filter of half a surrogate pair", "GET", LIST + "?key=%ED%A0%80", 422, "Percent-encode UTF-8"),
    Bad("a name that is no UTF-8", "GET", LIST + "?attr.%FE=1", 422, "not UTF-8 when decoded"),
    Bad("two Content-Types", "POST", EVENTS, 415, "'application/json, text/plain'", {"content": b"{}", "headers": [("Content-Type", "application/json"), ("Content-Type", "text/plain")]}),
    Bad("a compressed body", "POST", EVENTS, 415, "without Content-Encoding", {"json": PLACED, "headers": {"Content-Encoding": "gzip"}}),
    Bad("two codings", "POST", EVENTS, 415, "'deflate, br'", {"json": PLACED, "headers": {"Content-Encoding": "deflate, identity, br"}}),
    Bad("a coding of a CloudEvent", "POST", EVENTS, 415, "'zstd'", {"content": b"{}", "headers": {"Content-Type": "application/cloudevents+json", "Content-Encoding": "zstd"}}),
    Bad("a coding of an operator's body", "POST", f"{LIST}/o-1/cancel", 415, "'x-gzip'", {"json": {}, "headers": {"Content-Encoding": "x-gzip"}}),
    Bad("an expectation nobody meets", "POST", EVENTS, 417, "100-continue", {"json": PLACED, "headers": {"Expect": "a miracle"}}),
    Bad("an attribute on one instance", "GET", LIST + "/busy?attr.customer=ann", 422, "no such parameter: attr.customer"),
    Bad("a position of garbage", "GET", LIST + "/busy", 422, "'here' is not a position", {"headers": {"Choreo-Position": "here"}}),
    Bad("a position beyond the log", "GET", LIST + "?after=order/0/999", 404, "there is no event at order/0/999"),
    Bad("a position in no partition", "GET", LIST + "?after=order/99/0", 404, "there is no partition 99"),
    Bad("a position in no topic", "GET", LIST + "?after=nope/0/0", 404, "there is no such topic"),
    Bad("unknown key", "GET", LIST + "/nobody", 404, "there is no instance 'nobody'"),
    Bad("unknown key's history", "GET", LIST + "/nobody/history", 404, "there is no instance 'nobody'"),
    Bad("unknown key's timeline", "GET", LIST + "/nobody/timeline", 404, "there is no instance 'nobody'"),
    Bad("unknown key's events", "GET", LIST + "/nobody/events", 404, "there is no instance 'nobody'"),
    Bad("unknown run of a key", "GET", LIST + "/busy?run=r", 404, "there is no run 'r' of key 'busy'"),
    Bad("a key that is no UTF-8", "GET", LIST + "/%FF", 422, "not UTF-8"),
    Bad("a NUL in the path", "GET", LIST + "/a%00b", 422, "control character"),
    Bad("pause what has ended", "POST", LIST + "/done/pause", 409, "the run has ended: completed"),
    Bad("resume what is not paused", "POST", LIST + "/busy/resume", 409, "the run is not paused"),
    Bad("cancel what is turned", "POST", LIST + "/stuck/cancel", 409, "compensating already: payment.charge failed"),
    Bad("terminate without a reason", "POST", LIST + "/busy/terminate", 422, "Field required"),
    Bad("terminate for nothing", "POST", LIST + "/busy/terminate", 422, "body.reason", {"json": {"reason": "  "}}),
    Bad("a reason of two lines", "POST", LIST + "/busy/cancel", 422, "body.reason", {"json": {"reason": "a\nb"}}),
    Bad("a reason too long", "POST", LIST + "/busy/cancel", 422, "at most 1000", {"json": {"reason": "x" * 1_001}}),
    Bad("retry no entry", "POST", LIST + "/stuck/compensations/nope/retry", 404, "Its entries: stock.reserve ("),
    Bad("retry what has not failed", "POST", LIST + "/busy/compensations/stock.reserve/retry", 409, "stock.reserve is open"),
    Bad("resolve what goes forward", "POST", LIST + "/busy/compensations/stock.reserve/resolve", 409, "Cancel it first", {"json": {"reason": "x"}}),
    Bad("unknown letter", "GET", "/dead-letters/nope", 404, "there is no dead letter 'nope'"),
    Bad("redrive no letter", "POST", "/dead-letters/nope/redrive", 404, "`choreo dlq list` shows"),
    Bad("letters of no flow", "GET", "/dead-letters?flow=nope", 404, "there is no flow 'nope'"),
]  # fmt: skip


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.name)
async def test_what_is_refused_says_what_where_and_the_remedy(bad: Bad, shop: Shop, client: httpx.AsyncClient) -> None:
    """Every refusal is a problem document (RFC 9457), and leaves the log as it was."""
    ends = [await shop.backend.log.end("order", number) for number in range(PARTITIONS)]
    response = await client.request(bad.method, bad.path, **bad.sent)
    problem = response.json()
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (response.status_code, problem["status"]) == (bad.status, bad.status)
    sentences = [f"{problem['where']}: {problem['detail']}", problem["remedy"]]
    sentences += [f"{fault['where']}: {fault['what']}" for fault in problem["errors"]]
    assert bad.said in "\n".join(sentences)
    assert "Value error" not in "\n".join(sentences)  # a class name of pydantic's
    assert problem["instance"] == bad.path.partition("?")[0]
    assert problem["type"].startswith("urn:choreo:problem:")
    assert problem["remedy"]
    assert [await shop.backend.log.end("order", number) for number in range(PARTITIONS)] == ends


def test_a_problem_has_the_same_title_and_type_whatever_the_python() -> None:
    """Every status that the API describes is named by us, not by a version of the standard library."""
    assert set(WHY) <= set(TITLES)
    assert json.loads(problem("/", 413, "too large").body)["type"] == "urn:choreo:problem:content-too-large"
    assert json.loads(problem("/", 422, "odd").body)["title"] == "Unprocessable Content"


async def test_a_method_that_is_not_allowed_is_answered_with_those_that_are(client: httpx.AsyncClient) -> None:
    """405 names the allowed methods (RFC 9110, 15.5.6)."""
    assert (await client.put("/flows/order")).headers["Allow"] == "GET, HEAD"
    assert (await client.put("/flows/order/batches")).headers["Allow"] == "GET, HEAD, POST"


async def test_a_fault_of_ours_is_a_problem_without_its_inside(shop: Shop) -> None:
    """An unexpected error answers 500 and tells nothing of the code."""
    app = create_app(
        UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock, metrics=lambda: 1 / 0)
    )  # type: ignore[arg-type,return-value]
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.get("/metrics")
    assert response.status_code == 500
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "division" not in response.text
