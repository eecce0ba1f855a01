"""Which hosts and origins the REST view takes as its own, and that no route that writes is left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from choreo.surfaces.rest import UseCases, create_app
from choreo.surfaces.rest.guard import SAFE_METHODS, Guard, is_origin_of
from tests.app.harness import Shop

CONFIGURED = ("orders.example.org", "*.internal", "Box:8080")
CAME_IN_ON = "192.0.2.7"

OURS = [
    "localhost", "LOCALHOST:8080", "localhost.", "app.localhost", "127.0.0.1", "127.9.9.9:1", "[::1]:8080", "[::1]",
    "[::ffff:127.0.0.1]", "192.0.2.7", "192.0.2.7:8080", "orders.example.org", "Orders.Example.org:443", "a.internal",
    "a.b.internal:80", "box", "box:9",
]  # fmt: skip
NOT_OURS = [
    "", "evil.example", "evil.example:8080", "localhost.evil.example", "notlocalhost", "127.0.0.1.evil.example",
    "internal", "orders.example.org.evil.example", "x.orders.example.org", "192.0.2.8", "[2001:db8::1]", "8.8.8.8",
    "localhost:", "localhost:x", "localhost:123456", "a@localhost", "localhost/", "local host", "localhost\x00", "::1",
    "[localhost]", "127.1", "0x7f000001", "2130706433", "localhost,evil.example", "лocalhost",
    "0.0.0.0",  # noqa: S104 - a name some systems take for this machine
]  # fmt: skip

ORIGINS = {
    ("http://localhost:8080", "localhost:8080"): True,
    ("http://LOCALHOST:8080", "localhost:8080"): True,
    ("http://localhost", "localhost"): True,
    ("http://localhost:80", "localhost"): True,
    ("https://orders.example.org", "orders.example.org"): True,
    ("https://orders.example.org", "orders.example.org:443"): True,
    ("http://[::1]:8080", "[::1]:8080"): True,
    ("http://localhost:3000", "localhost:8080"): False,
    ("http://127.0.0.1:8080", "localhost:8080"): False,
    ("http://localhost", "localhost:8080"): False,
    ("http://evil.example", "localhost"): False,
    ("null", "localhost"): False,
    ("", "localhost"): False,
    ("file://", "localhost"): False,
    ("chrome-extension://localhost", "localhost"): False,
    ("http://localhost.evil.example", "localhost"): False,
    ("http://localhost:99999", "localhost"): False,
    ("http://[::1", "[::1]"): False,
}


async def let_in(host: str, *, http_version: str = "1.1", hosts: int = 1) -> bool:
    """Return whether a guarded app sees a request that names this host."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["path"])

    async def sent(_message: Any) -> None:
        """Take the answer."""

    async def nothing() -> Any:
        return {"type": "http.disconnect"}

    headers = [(b"host", host.encode())] * hosts
    scope = {
        "type": "http", "path": "/", "method": "GET", "headers": headers, "http_version": http_version,
        "server": (CAME_IN_ON, 8080),
    }  # fmt: skip
    await Guard(app, CONFIGURED)(scope, nothing, sent)
    return bool(seen)


@pytest.mark.parametrize("host", OURS)
async def test_a_name_or_address_of_ours_is_let_in(host: str) -> None:
    """Loopback, the address a connection came in on, and the configured names."""
    assert await let_in(host)


@pytest.mark.parametrize("host", NOT_OURS)
async def test_a_name_that_is_not_ours_is_not_let_in(host: str) -> None:
    """A page may make its own name mean this machine (DNS rebinding); it cannot change the Host header."""
    assert not await let_in(host)


async def test_a_host_is_named_once() -> None:
    """HTTP/1.1 must name one (RFC 9112, 3.2); HTTP/1.0 knows of none, and no browser speaks it."""
    assert not await let_in("localhost", hosts=0)
    assert not await let_in("localhost", hosts=2)
    assert await let_in("localhost", hosts=0, http_version="1.0")
    assert not await let_in("evil.example", http_version="1.0")


@pytest.mark.parametrize(("origin", "host"), ORIGINS)
def test_an_origin_is_the_same_by_name_and_port(origin: str, host: str) -> None:
    """Another port of this machine is another origin; TLS may have ended in front of us."""
    assert is_origin_of(origin, host) is ORIGINS[origin, host]


def writing(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Yield every route that is no plain read, by its description."""
    for path, operations in app.openapi()["paths"].items():
        yield from ((method.upper(), path) for method in operations if method.upper() not in SAFE_METHODS)


FOREIGN: dict[str, tuple[dict[str, str], int]] = {
    "a form": ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    "a form with files": ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
    "text": ({"Content-Type": "text/plain"}, 415),
    "nothing": ({}, 415),
    "JSON from another origin": ({"Content-Type": "application/json", "Origin": "https://evil.example"}, 403),
    "JSON from another site": ({"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}, 403),
    "JSON to another name": ({"Content-Type": "application/json", "Host": "evil.example"}, 421),
}


@pytest.mark.parametrize("sent", FOREIGN)
async def test_no_route_that_writes_takes_what_a_foreign_page_can_send(sent: str) -> None:
    """Every route that writes, with a body that would fit and without one."""
    shop = await Shop().open()
    await shop.stuck("o-1")
    app = create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    routes = list(writing(app))
    assert len(routes) >= 8
    headers, status = FOREIGN[sent]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        for method, path in routes:
            place = path.format(flow="order", key="o-1", entry="stock.reserve", dead_letter="l-1", batch="b-1")
            for content in (b"", b'{"reason": "x"}', b'{"type": "OrderPlaced", "fields": {"order_id": "o-2"}}'):
                answer = await client.request(method, place, content=content, headers=headers)
                assert answer.status_code == status, (method, path, answer.text)
    await shop.track()
    assert set(shop.states) == {"o-1"}
    assert shop.run("o-1").status == "stuck"
