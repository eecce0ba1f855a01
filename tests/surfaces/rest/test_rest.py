"""The REST view as a client uses it: publish, read one's writes, follow, operate, redrive, health."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any, get_args
from urllib.parse import quote

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from choreo.app.metrics import CATALOGUE, PREFIX, Metrics
from choreo.core import ids
from choreo.core.events import Envelope, Record
from choreo.core.state import STATUSES
from choreo.ports.dead_letters import DeadLetter
from choreo.surfaces.json_format import Status
from choreo.surfaces.rest import UseCases, create_app
from choreo.testing.clock import VirtualClock
from tests.app.harness import OrderCancelled, ShipmentPicked, Shop, StockReserved

LIST = "/flows/order/instances"


@pytest.fixture
async def shop() -> Shop:
    """Return an empty shop."""
    return await Shop().open()


@pytest.fixture
def use_cases(shop: Shop) -> UseCases:
    """Return its use cases."""
    return UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock)


def asking(use_cases: UseCases) -> httpx.AsyncClient:
    """Return a client of the REST view over these use cases, which says that it sends JSON."""
    transport, json_only = httpx.ASGITransport(create_app(use_cases)), {"Content-Type": "application/json"}
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=json_only)


@pytest.fixture
async def client(use_cases: UseCases) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of its REST view."""
    async with asking(use_cases) as client:
        yield client


async def post(client: httpx.AsyncClient, type_: str, fields: dict[str, Any], **headers: str) -> httpx.Response:
    """Publish an event."""
    return await client.post("/flows/order/events", json={"type": type_, "fields": fields}, headers=headers)


async def meanwhile(shop: Shop, request: Awaitable[httpx.Response], *, done: bool = True) -> httpx.Response | None:
    """Let time pass in small steps until the request is answered, or (`done=False`) for a minute."""
    assert isinstance(shop.clock, VirtualClock)
    task = asyncio.ensure_future(request)
    steps = 0
    while not task.done() and (done or steps < 600):
        steps += 1
        await shop.clock.advance(0.1)
    return task.result() if task.done() else None


async def test_a_start_answers_where_it_can_be_read(shop: Shop, client: httpx.AsyncClient) -> None:
    """201 with Location and a position; a read with the position shows the write."""
    written = await post(client, "OrderPlaced", {"order_id": "o-1", "customer": "bob"})
    assert written.status_code == 201
    await shop.track()
    position = {"Choreo-Position": written.headers["Choreo-Position"]}
    seen = (await client.get(written.headers["Location"], headers=position)).json()
    assert (seen["run"], seen["status"]) == (written.json()["run"], "running")
    assert seen["attributes"] == {"order_id": "o-1", "customer": "bob", "cents": "1000"}
    assert seen["expected"][0]["step"] == "stock.reserve"
    assert seen["waiting_for"] == ["stock.reserve since 2026-01-01T00:00:00.000Z, until 2026-01-01T00:12:45.000Z"]


async def test_the_same_start_is_published_once(shop: Shop, client: httpx.AsyncClient) -> None:
    """The second answers 200 with the first one's id; another Idempotency-Key starts another run."""
    first = await post(client, "OrderPlaced", {"order_id": "o-1"}, **{"Idempotency-Key": "k-1"})
    again = await post(client, "OrderPlaced", {"order_id": "o-1"}, **{"Idempotency-Key": '"k-1"'})
    other = await post(client, "OrderPlaced", {"order_id": "o-1"}, **{"Idempotency-Key": "k-2"})
    assert (again.status_code, again.json()) == (200, {**first.json(), "duplicate": True})
    assert (other.status_code, other.json()["duplicate"]) == (201, False)
    assert other.json()["id"] != first.json()["id"]


@pytest.mark.parametrize(
    "key", ["a/b", "a b", "ä€😀", "50%", "a?b#c", "a%2Fb", "history", "x/history", "../x", "'\"<>"]
)
async def test_any_key_that_can_be_written_can_be_asked_for(key: str, shop: Shop, client: httpx.AsyncClient) -> None:
    """A percent-encoded key reads as it was written, slashes included."""
    written = await post(client, "OrderPlaced", {"order_id": key})
    await shop.track()
    assert (await client.get(written.headers["Location"])).json()["key"] == key
    story = (await client.get(f"{LIST}/{quote(key, safe='')}/timeline")).json()
    assert [row["text"] for row in story["items"]] == ["OrderPlaced started it"]


async def test_a_read_waits_for_what_was_written_and_then_gives_up(shop: Shop, client: httpx.AsyncClient) -> None:
    """Without a tracker the wait ends as 503 with Retry-After; with one it answers."""
    written = await post(client, "OrderPlaced", {"order_id": "o-1"})
    position = written.headers["Choreo-Position"]
    begun_ms = shop.clock.now_ms()
    asked = {"Choreo-Position": position, "Prefer": "respond-async, wait=1"}
    late = await meanwhile(shop, client.get(f"{LIST}/o-1", headers=asked))
    assert (late.status_code, late.headers["Retry-After"]) == (503, "1")
    assert "within 1 s" in late.json()["detail"]
    assert shop.clock.now_ms() - begun_ms >= 1_000
    reading = asyncio.create_task(client.get(f"{LIST}?after={position}"))
    await shop.track()
    seen = await meanwhile(shop, reading)
    assert [item["key"] for item in seen.json()["items"]] == ["o-1"]


async def test_lists_filter_and_page(shop: Shop, client: httpx.AsyncClient) -> None:
    """By status, attribute, key and time; no run has two values of an attribute or began before 1970; pages go on."""
    for number in range(5):
        await shop.start(f"o-{number}", customer="ann" if number % 2 else "bob")
    await shop.completed("o-9")

    async def keys(query: str) -> list[str]:
        return [item["key"] for item in (await client.get(f"{LIST}?{query}")).json()["items"]]

    assert await keys("status=completed") == ["o-9"]
    assert await keys("attr.customer=bob") == ["o-4", "o-2", "o-0"]
    assert await keys("attr.customer=bob&attr.order_id=o-2") == ["o-2"]
    assert await keys("key=o-3") == ["o-3"]
    assert await keys("started_before=2026-01-01T00:00:00Z") == []
    for early in ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.0005Z", "1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z"):
        assert await keys(f"started_before={early}") == []
    assert await keys("attr.customer=bob&attr.customer=ann") == []
    assert await keys("attr.customer=bob&attr.customer=bob") == ["o-4", "o-2", "o-0"]
    assert len(await keys("started_from=2026-01-01T01:00:00%2B01:00")) == 6
    page = (await client.get(f"{LIST}?limit=4")).json()
    rest = (await client.get(f"{LIST}?limit=4&cursor={page['cursor']}")).json()
    assert [item["key"] for item in (*page["items"], *rest["items"])] == ["o-9", "o-4", "o-3", "o-2", "o-1", "o-0"]
    assert rest["cursor"] == ""


async def test_the_timeline_tells_what_an_attempt_raised(shop: Shop, client: httpx.AsyncClient) -> None:
    """Type, message, causes, members and lines; null where nothing was raised, or another program wrote its own."""
    await shop.start("o-1")
    failure = {"type": "CardError", "message": "expired", "causes": ["OSError: away"], "frames": ["a.py:1 in f: x"]}
    failure |= {"members": ["ValueError: bad digit, card.py:7 in check: raise"]}
    said = {"step": "stock.reserve", "content_type": "application/json"}
    await shop.fact("o-1", "choreo.StepAttemptFailed", **said, attempt=1, data=json.dumps(failure).encode())
    await shop.fact("o-1", "choreo.StepAttemptFailed", **said, attempt=2, data=b'{"type": 7, "message": []}')
    rows = (await client.get(f"{LIST}/o-1/timeline")).json()["items"]
    assert [row["failure"] for row in rows] == [None, failure, None]


async def test_history_pages_by_offset(shop: Shop, client: httpx.AsyncClient) -> None:
    """Each event is decoded, with its source; `after` goes on."""
    await shop.completed("o-1")
    page = (await client.get(f"{LIST}/o-1/history?limit=2")).json()
    rest = (await client.get(f"{LIST}/o-1/history?after_offset={page['after']}")).json()
    types = [row["type"] for row in (*page["items"], *rest["items"])]
    assert types == [
        "OrderPlaced",
        "StockReserved",
        "PaymentCharged",
        "ShipmentPicked",
        "OrderConfirmed",
        "choreo.FlowCompleted",
    ]
    assert page["items"][1]["causation"] == page["items"][0]["id"]
    assert rest["items"][1]["fields"] == {"order_id": "o-1", "picked_by": "bob"}


async def test_a_stream_tells_what_was_and_what_comes_and_ends_with_the_run(
    shop: Shop, client: httpx.AsyncClient
) -> None:
    """Server-sent events resume behind Last-Event-ID."""
    await shop.charged("o-1")
    following = asyncio.create_task(client.get(f"{LIST}/o-1/events", headers={"Last-Event-ID": "1"}))
    assert await meanwhile(shop, following, done=False) is None
    await shop.publisher.publish("order", ShipmentPicked(order_id="o-1"))
    await shop.track()
    assert await meanwhile(shop, following, done=False) is None
    await shop.fact("o-1", "choreo.FlowTerminated", reason="enough")
    stream = (await meanwhile(shop, following)).text
    events = [line.removeprefix("event: ") for line in stream.splitlines() if line.startswith("event: ")]
    assert events == ["PaymentCharged", "ShipmentPicked", "choreo.FlowTerminated", "choreo.StreamEnded"]
    assert [json.loads(line[6:])["type"] for line in stream.splitlines() if line.startswith('data: {"p')] == events[:3]


async def test_a_silent_stream_shows_that_it_lives_and_leaves_when_the_server_stops(
    shop: Shop, use_cases: UseCases
) -> None:
    """A comment every 15 seconds; the end when the view closes."""
    await shop.charged("o-1")
    async with asking(use_cases) as client:
        following = asyncio.create_task(client.get(f"{LIST}/o-1/events"))
        assert await meanwhile(shop, following, done=False) is None
        use_cases.closing.set()
        stream = (await meanwhile(shop, following)).text
    assert stream.count(": heartbeat\n\n") in (3, 4)  # in a minute, less the time until the request began


async def test_operators_act_and_the_tracker_decides(shop: Shop, client: httpx.AsyncClient) -> None:
    """Pause, resume, cancel, terminate answer 202 with the position of their fact."""
    await shop.charged("o-1")

    async def act(action: str, **body: str) -> dict[str, Any]:
        said = await client.post(f"{LIST}/o-1/{action}", json=body)
        assert said.status_code == 202, said.text
        await shop.track()
        headers = {"Choreo-Position": said.headers["Choreo-Position"]}
        answer: dict[str, Any] = (await client.get(said.headers["Location"], headers=headers)).json()
        return answer

    assert (await act("pause"))["status"] == "paused"
    assert (await act("resume", reason="go on"))["status"] == "running"
    compensating = await act("cancel", reason="the customer called")
    assert (compensating["status"], compensating["cause"]) == ("compensating", "cancelled: the customer called")
    ended = await act("terminate", reason="by hand")
    assert (ended["status"], ended["cause"], ended["waiting_for"]) == ("terminated", "by hand", [])


async def test_a_stuck_undo_is_retried_or_resolved(shop: Shop, client: httpx.AsyncClient) -> None:
    """By its step's name or its entry's id."""
    for key in ("o-1", "o-2"):
        await shop.stuck(key)
    assert (await client.post(f"{LIST}/o-1/compensations/stock.reserve/retry")).status_code == 202
    entry = (await client.get(f"{LIST}/o-2")).json()["ledger"][0]["entry"]
    resolved = await client.post(f"{LIST}/o-2/compensations/{entry}/resolve", json={"reason": "counted by hand"})
    assert resolved.json()["type"] == "choreo.CompensationResolved"
    await shop.track()
    first, second = [(await client.get(f"{LIST}/{key}")).json() for key in ("o-1", "o-2")]
    assert (first["status"], first["ledger"][0]["round"]) == ("compensating", 2)
    assert (second["status"], second["ledger"][0]["cause"]) == ("compensated", "resolved by hand: counted by hand")


async def test_a_dead_letter_is_shown_and_given_back(shop: Shop, client: httpx.AsyncClient) -> None:
    """A reaction's dead letter goes to its step again, under the old id."""
    await shop.compensated("o-1")
    record = next(
        Record(row.topic, row.partition, row.offset, row.stamp_ms, Envelope(row.id, row.type, "o-1", "order", row.run))
        for row in await shop.queries.history("order", "o-1")
        if row.type == OrderCancelled.event_type
    )
    dead_letters = [
        DeadLetter(ids.derive(n), "order", record.partition, record.offset, "desk", "desk.tell", "no mail", 5, record)
        for n in range(3)
    ]
    await shop.backend.dead_letters.add(dead_letters)
    page = (await client.get("/dead-letters?flow=order&limit=2")).json()
    rest = (await client.get(f"/dead-letters?limit=2&cursor={page['cursor']}")).json()
    assert [item["id"] for item in (*page["items"], *rest["items"])] == [
        dead_letter.id for dead_letter in reversed(dead_letters)
    ]
    given = await client.post(f"/dead-letters/{dead_letters[0].id}/redrive")
    assert (given.status_code, given.json()["type"]) == (202, "choreo.Redriven")
    dead_letter = (await client.get(f"/dead-letters/{dead_letters[0].id}")).json()
    assert (dead_letter["redriven"], dead_letter["cause"], dead_letter["headers"]["ce_id"]) == (
        1,
        "no mail",
        record.event.id,
    )


async def test_flows_are_described_as_data_and_as_a_picture(shop: Shop, client: httpx.AsyncClient) -> None:
    """The list counts runs; a tracker can load the definition; Mermaid is text."""
    await shop.completed("o-1")
    assert (await client.get("/flows")).json()["items"][0]["counts"] == {"completed": 1}
    assert (await client.get("/flows/order")).json()["starts"] == "OrderPlaced"
    picture = await client.get("/flows/order/mermaid")
    assert picture.headers["Content-Type"].startswith("text/plain")
    assert "payment.charge" in picture.text


async def test_health_tells_a_host_that_hangs_and_a_read_model_that_lags(shop: Shop) -> None:
    """Livez by the age of the last poll, readyz by the read model's lag; both 503 with the remedy."""
    assert isinstance(shop.clock, VirtualClock)
    polled_ms = shop.clock.now_ms()
    use_cases = UseCases(
        shop.flows,
        shop.publisher,
        shop.operator,
        shop.queries,
        shop.clock,
        heartbeats=lambda: {"payment": polled_ms},
        read_model_lag_max=2,
    )
    async with asking(use_cases) as client:
        await shop.clock.advance(29)
        assert (await client.get("/livez")).json() == {"status": "ok", "hosts": {"payment": 29.0}}
        await shop.clock.advance(2)
        hanging = await client.get("/livez")
        assert (hanging.status_code, hanging.json()["detail"]) == (503, "hosts do not poll: payment (31 s)")
        for number in range(2):
            await post(client, "OrderPlaced", {"order_id": f"o-{number}"})
        assert (await client.get("/readyz")).json() == {"status": "ok", "read_model_lag": {"order": 2}}
        await post(client, "OrderPlaced", {"order_id": "o-2"})
        assert (await client.get("/readyz")).status_code == 503


async def test_metrics_count_runs_letters_lag_and_what_hosts_do(shop: Shop) -> None:
    """In Prometheus' text form, of this process only."""
    await shop.completed("o-1")
    metrics = Metrics()
    metrics.labelled(flow="order", service="payment").add("jobs", 7)
    metrics.observe("timer_lateness_seconds", [0.3, 2.0], flow="order")
    use_cases = UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock, metrics=metrics)
    async with asking(use_cases) as client:
        text = (await client.get("/metrics")).text
    assert 'choreo_runs{flow="order",status="completed"} 1.0' in text
    assert 'choreo_runs{flow="order",status="stuck"} 0.0' in text
    assert 'choreo_dead_letters{flow="order"} 0.0' in text
    assert 'choreo_group_lag_records{flow="order",group="tracker",partition="0"} 0.0' in text
    assert 'choreo_jobs_total{flow="order",service="payment"} 7.0' in text
    assert 'choreo_timer_lateness_seconds_bucket{flow="order",le="0.5"} 1.0' in text
    assert 'choreo_timer_lateness_seconds_bucket{flow="order",le="+Inf"} 2.0' in text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {name.removeprefix(PREFIX) for name in families} <= set(CATALOGUE)
    assert {name: family.type for name, family in families.items()} == {
        name: CATALOGUE[name.removeprefix(PREFIX)].kind for name in families
    }


def test_the_statuses_of_the_api_are_those_of_the_core() -> None:
    """A status added to the core is added here."""
    assert get_args(Status) == STATUSES


async def test_trace_context_is_carried_on_and_nonsense_is_not(shop: Shop, client: httpx.AsyncClient) -> None:
    """A traceparent stands in the event's header; one that is malformed is as good as none."""
    good = f"00-{'a' * 32}-{'b' * 16}-01"
    await post(client, "OrderPlaced", {"order_id": "o-1"}, traceparent=good)
    await post(client, "OrderPlaced", {"order_id": "o-2"}, traceparent="nonsense")
    rows = [(await shop.backend.read_model.history("order", key))[0] for key in ("o-1", "o-2")]
    assert [row.event.traceparent for row in rows] == [good, ""]


async def test_baggage_is_carried_on_without_its_malformed_members(shop: Shop, client: httpx.AsyncClient) -> None:
    """A request is never refused for a header that a library of its client has set. A state needs a trace."""
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    headers = {"baggage": "tenant=a, bad member,user=jo;ttl=5", "tracestate": "x=1"}
    await post(client, "OrderPlaced", {"order_id": "o-1"}, **headers, traceparent=trace)
    await post(client, "OrderPlaced", {"order_id": "o-2"}, baggage="x=" + "1" * 9_000, tracestate="x=1")
    rows = [(await shop.backend.read_model.history("order", key))[0].event for key in ("o-1", "o-2")]
    assert [(row.baggage, row.tracestate) for row in rows] == [("tenant=a,user=jo;ttl=5", "x=1"), ("", "")]


async def test_a_duplicate_start_is_told_by_its_cause(shop: Shop, client: httpx.AsyncClient) -> None:
    """A second run of an open key is compensated at once; an operator then has to name the run."""
    await shop.start("o-1")
    second = await post(client, "OrderPlaced", {"order_id": "o-1"}, **{"Idempotency-Key": "k-2"})
    await shop.track()
    await shop.outcome("stock.reserve", StockReserved(order_id="o-1"))
    seen = (await client.get(f"{LIST}/o-1")).json()
    assert seen["cause"] == "duplicate start: another run of this key is open"
    refused = await client.post(f"{LIST}/o-1/pause")
    assert refused.status_code == 409
    assert second.json()["run"] in refused.json()["remedy"]
