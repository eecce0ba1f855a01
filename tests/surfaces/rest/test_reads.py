"""Reads as HTTP has them: HEAD, ETags, caching, a slash at the end, and a root that leads somewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from choreo.surfaces.rest import UseCases, create_app
from tests.app.harness import Shop

LIST = "/flows/order/instances"
READS = [
    "/flows", "/flows/order", "/flows/order/mermaid", LIST, f"{LIST}/o-1", f"{LIST}/o-1/history",
    f"{LIST}/o-1/timeline", "/dead-letters", "/livez", "/readyz", "/metrics", "/openapi.json", "/docs",
    "/docs/swagger-ui.css",
]  # fmt: skip


@pytest.fixture
async def shop() -> Shop:
    """Return a shop with a completed order."""
    shop = await Shop().open()
    await shop.completed("o-1")
    return shop


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of its REST view."""
    app = create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize("path", READS)
async def test_head_answers_as_get_without_the_body(path: str, client: httpx.AsyncClient) -> None:
    """The same status and headers, its length among them."""
    whole, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert head.headers == whole.headers


async def test_head_of_a_stream_ends_at_once(client: httpx.AsyncClient) -> None:
    """A HEAD request does not follow the stream."""
    head = await client.head(f"{LIST}/o-1/events")
    assert head.headers["Content-Type"].startswith("text/event-stream")
    assert "Content-Length" not in head.headers


@pytest.mark.parametrize("path", READS)
async def test_a_slash_at_the_end_changes_nothing(path: str, client: httpx.AsyncClient) -> None:
    """Some clients put one there."""
    assert (await client.get(path + "/")).content == (await client.get(path)).content


async def test_a_key_that_ends_with_a_slash_keeps_it(shop: Shop, client: httpx.AsyncClient) -> None:
    """It comes percent-encoded."""
    await shop.start("a/")
    assert (await client.get(f"{LIST}/a%2F")).json()["key"] == "a/"


async def test_an_answer_that_is_known_is_not_sent_again(shop: Shop, client: httpx.AsyncClient) -> None:
    """304 for as long as it is the same; never kept without asking."""
    first = await client.get(f"{LIST}/o-1")
    tag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "no-cache"
    for given in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        known = await client.get(f"{LIST}/o-1", headers={"If-None-Match": given})
        assert (known.status_code, known.content, known.headers["ETag"]) == (304, b"", tag)
        assert "Content-Type" not in known.headers
    assert (await client.get(f"{LIST}/o-1", headers={"If-None-Match": '"other"'})).status_code == 200
    await shop.publisher.publish("order", {"order_id": "o-1"}, type_="OrderPlaced", idempotency_key="second")
    await shop.track()
    changed = await client.get(f"{LIST}/o-1", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.headers["ETag"] != tag) == (200, True)


async def test_a_write_and_an_error_are_kept_by_nobody(client: httpx.AsyncClient) -> None:
    """A refusal may be over a moment later."""
    body = {"type": "OrderPlaced", "fields": {"order_id": "o-2"}}
    for answer in (await client.post("/flows/order/events", json=body), await client.get(f"{LIST}/nobody")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert "ETag" not in answer.headers


async def test_a_client_that_asks_first_is_refused_before_it_sends(client: httpx.AsyncClient) -> None:
    """Expect: 100-continue with a body that is too large, or to a path that is none: the body is not wanted."""
    sent = []

    async def body() -> AsyncIterator[bytes]:
        sent.append("wanted")
        yield b"{}"

    asked = {"Expect": "100-continue", "Content-Type": "application/json"}
    large = await client.post("/flows/order/events", content=body(), headers={**asked, "Content-Length": str(1 << 21)})
    nowhere = await client.post("/nowhere", content=body(), headers=asked)
    assert (large.status_code, nowhere.status_code, sent) == (413, 404, [])


async def test_the_root_leads_to_the_documentation(client: httpx.AsyncClient) -> None:
    """A person with the address finds something; its files are here, not on the internet."""
    page = await client.get("/", follow_redirects=True)
    assert page.url.path == "/docs"
    assert "https://" not in page.text
    assert page.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
