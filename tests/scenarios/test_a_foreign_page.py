"""A page of another origin, in a real Chromium, tries to write through the REST view on this machine: nothing happens.

Each trick is known to reach the process: one that the browser itself withholds would prove nothing.
"""

# ruff: noqa: E501 - the page's own language is not broken into lines
from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.types import Receive, Scope, Send

from choreo.adapters.clock import SystemClock
from choreo.surfaces.rest import UseCases, create_app
from choreo.surfaces.rest.guard import SAFE_METHODS
from tests.app.harness import Shop
from tests.support.browser import chromium
from tests.support.patience import PATIENCE_S
from tests.support.serving import served

START = {"type": "OrderPlaced", "fields": {"order_id": "o-2"}}
SENT = "{'type': 'OrderPlaced', 'fields': {'order_id': 'forged'}, 'reason': 'forged'}".replace("'", '"')

# JavaScript that sends `body` to `url`; a page may do each without asking the other side first.
WITHOUT_ASKING = {
    "form": "await form('application/x-www-form-urlencoded', 'type', 'OrderPlaced')",
    "form with files": "await form('multipart/form-data', 'type', 'OrderPlaced')",
    "form that spells JSON": "await form('text/plain', body.slice(0, -1) + ',\"pad\":\"', '\"}')",
    "form without fields": "await form('application/x-www-form-urlencoded', '', '')",
    "fetch without a body": "await fetch(url, {method: 'POST', mode: 'no-cors'}).catch(() => 0)",
    "fetch of text": "await fetch(url, {method: 'POST', mode: 'no-cors', body}).catch(() => 0)",
    "fetch with cookies": "await fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include', body}).catch(() => 0)",
    "fetch of bytes": "await fetch(url, {method: 'POST', mode: 'no-cors', body: new Blob([body])}).catch(() => 0)",
    "fetch kept alive": "await fetch(url, {method: 'POST', mode: 'no-cors', keepalive: true, body}).catch(() => 0)",
    "beacon": "navigator.sendBeacon(url, body)",
    "beacon without a body": "navigator.sendBeacon(url)",
    "request of old": "await xhr('text/plain')",
}
# Before these a browser asks, and is not told that it may: a question arrives, no write.
WITH_ASKING = {
    "fetch of JSON": "await fetch(url, {method: 'POST', headers: {'Content-Type': 'application/json'}, body}).catch(() => 0)",
    "beacon of JSON": "navigator.sendBeacon(url, new Blob([body], {type: 'application/json'}))",
    "request of old, JSON": "await xhr('application/json')",
    "deletion": "await fetch(url, {method: 'DELETE'}).catch(() => 0)",
}
_TRICK = """async ([url, body]) => {
    const xhr = type => new Promise(done => {
        const request = new XMLHttpRequest();
        request.open('POST', url); request.setRequestHeader('Content-Type', type);
        request.onloadend = done; request.send(body);
    });
    const form = (enctype, name, value) => new Promise(done => {
        const frame = document.createElement('iframe'), form = document.createElement('form');
        frame.name = 'f' + Math.random(); form.target = frame.name;
        form.method = 'POST'; form.action = url; form.enctype = enctype;
        if (name) { const input = document.createElement('input'); input.name = name; input.value = value; form.append(input); }
        document.body.append(frame, form);
        frame.onload = done; form.submit();
    });
    %s
}"""


BAIT = "/bait"
"""The page that a name's former owner served, before the name pointed to this machine."""


class Arrivals:
    """The app, with a count of the requests: by method and path."""

    def __init__(self, app: FastAPI) -> None:
        self.app, self.state = app, app.state
        self.seen: list[tuple[str, str, int]] = []
        self._more = asyncio.Condition()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note the answers."""

        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.seen.append((scope["method"], scope["path"], message["status"]))
                async with self._more:
                    self._more.notify_all()
            await send(message)

        if scope["path"] == BAIT:
            await HTMLResponse("<body>Win a prize</body>")(scope, receive, send)
            return
        await self.app(scope, receive, noted)

    async def of(self, method: str, path: str) -> int:
        """Return the status of the answer to the next request of this kind; waits for it."""
        async with asyncio.timeout(PATIENCE_S), self._more:
            while not (found := [status for *what, status in self.seen if what == [method, path]]):
                await self._more.wait()
        self.seen.clear()
        return found[0]


def foreign_page() -> FastAPI:
    """Return a server of somebody else's."""
    app = FastAPI()
    app.state.use_cases = type("Closing", (), {"closing": asyncio.Event()})
    app.get("/")(lambda: HTMLResponse("<body>Win a prize</body>"))
    return app


def places(app: FastAPI) -> list[str]:
    """Return the path of every route that writes, for an order that is stuck."""
    return [
        path.format(flow="order", key="o-1", entry="stock.reserve", dead_letter="l-1", batch="b-1")
        for path, operations in app.openapi()["paths"].items()
        if any(method.upper() not in SAFE_METHODS for method in operations)
    ]


async def ends(shop: Shop) -> list[int]:
    """Return how far the log goes."""
    return [await shop.backend.log.end("order", number) for number in range(await shop.backend.log.partitions("order"))]


@pytest.mark.timeout(120)
async def test_a_page_of_another_origin_changes_nothing() -> None:
    """Every route that writes, by every way a page has to send; then the same from a page of the process's own."""
    shop = await Shop(SystemClock()).open()
    await shop.stuck("o-1")
    app = Arrivals(create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock)))
    before = await ends(shop)
    async with served(app) as port, served(foreign_page()) as other, chromium() as browser:
        page = await browser.new_page()
        await page.goto(f"http://evil.example:{other}/")
        ours = f"http://127.0.0.1:{port}"
        for path in places(app.app):
            for name, trick in (WITHOUT_ASKING | WITH_ASKING).items():
                await page.evaluate(_TRICK % trick, [ours + path, SENT])
                status = await app.of("POST" if name in WITHOUT_ASKING else "OPTIONS", path)
                assert status in (403, 405, 415), (name, path, status)
        assert await ends(shop) == before

        await page.goto(f"{ours}/flows")
        own = "return (await fetch(url, {method: 'POST', headers: {'Content-Type': 'application/json'}, body})).status"
        assert await page.evaluate(_TRICK % own, [f"{ours}/flows/order/events", json.dumps(START)]) == 201
    assert await ends(shop) != before


async def test_a_name_that_a_foreign_page_turns_to_this_machine_is_not_answered_to() -> None:
    """DNS rebinding: the browser takes the process for the page's own server; the Host header tells them apart."""
    shop = await Shop(SystemClock()).open()
    await shop.stuck("o-1")
    app = Arrivals(create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock)))
    before = await ends(shop)
    async with served(app) as port, chromium() as browser:
        page = await browser.new_page()
        theirs = f"http://evil.example:{port}"
        await page.goto(f"{theirs}{BAIT}")
        trick = (
            "return (await fetch(url, {method: 'POST', headers: {'Content-Type': 'application/json'}, body})).status"
        )
        for path in places(app.app):
            assert await page.evaluate(_TRICK % trick, [theirs + path, SENT]) == 421
        read = "const answer = await fetch(url); return [answer.status, await answer.text()]"
        status, text = await page.evaluate(_TRICK % read, [f"{theirs}/flows/order/instances/o-1", ""])
        assert (status, "stock" in text) == (421, False)
    assert await ends(shop) == before
