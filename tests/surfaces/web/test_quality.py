"""The quality of each page in a real Chromium: accessible, narrow, dark, without scripts, below a path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from choreo.surfaces.rest.server import use_cases_of
from choreo.surfaces.web import create_site
from choreo.surfaces.web.pages import NAV
from tests.support.serving import served
from tests.surfaces.web.harness import PAGES, Site, Watched, watched

pytestmark = pytest.mark.asyncio(loop_scope="session")

WIDE, NARROW = {"width": 960, "height": 640}, {"width": 360, "height": 640}
AXE = Path("tests/support/vendored/axe-core-4.14.1.min.js")
_FINDINGS = """async options => (await axe.run(document, {resultTypes: ['violations'], ...options})).violations.map(
    one => `${one.id}: ${one.help}: ${one.nodes.map(node => node.html.slice(0, 200)).join(' | ')}`)"""


async def opened(tab: Watched, address: str) -> Any:
    """Open a page, with every part of it unfolded; return its answer."""
    if address.endswith("/nothing"):
        tab.expect("status of 404")
    answer = await tab.page.goto(address)
    await tab.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    return answer


@dataclass
class Viewers:
    """Two tabs that every page is opened in: one with scripts and axe, one without scripts."""

    tab: Watched
    plain: Watched
    asked: list[str] = field(default_factory=list)
    """Addresses that the tabs have asked for."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def viewers(browser: Any) -> AsyncIterator[Viewers]:
    """Return the tabs; a page is opened once for all of its checks."""
    async with (
        watched(browser, viewport=WIDE, reduced_motion="reduce") as tab,
        watched(browser, viewport=WIDE, java_script_enabled=False) as plain,
    ):
        await tab.page.context.add_init_script(path=AXE)
        own = Viewers(tab, plain)
        for each in (tab, plain):
            each.page.on("request", lambda request: own.asked.append(request.url))
        yield own


_PARTS = "main h1, main h2, main h3, main th[scope=col], main svg text, main form label"
_FACTS = r"""() => ({
    width: document.documentElement.scrollWidth,
    shade: getComputedStyle(document.body).backgroundColor.match(/\d+/g).reduce((sum, part) => sum + Number(part), 0),
})"""


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_good(site: Site, viewers: Viewers, path: str) -> None:
    """No fault of the policy or a script, axe finds nothing, 360 points are enough, dark where preferred, no scripts.

    Nothing but tables scrolls sideways, and those in themselves. Neither fonts nor scripts nor pictures come from
    another server.
    """
    tab, page = viewers.tab, viewers.tab.page
    viewers.asked.clear()
    await page.emulate_media(color_scheme="light")
    answer = await opened(tab, site.url + path)
    assert answer.status == (404 if path == "/nothing" else 200)
    assert await page.locator("h1").count() == 1
    assert await page.locator("header nav a").all_inner_texts() == [entry.text for entry in NAV]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert (await page.evaluate(_FACTS))["shade"] > 600
    assert await page.evaluate(_FINDINGS, {}) == []
    await page.emulate_media(color_scheme="dark")
    assert (await page.evaluate(_FACTS))["shade"] < 200
    assert await page.evaluate(_FINDINGS, {"runOnly": ["color-contrast"]}) == []
    await page.set_viewport_size(NARROW)
    assert (await page.evaluate(_FACTS))["width"] <= NARROW["width"]
    await page.set_viewport_size(WIDE)
    parts = await page.locator(_PARTS).all_text_contents()
    tab.check()
    await viewers.plain.page.goto(site.url + path)
    assert await viewers.plain.page.locator(_PARTS).all_text_contents() == parts
    viewers.plain.faults.clear()
    assert all(url.startswith((site.url, "data:")) for url in viewers.asked)


async def test_axe_finds_a_fault_that_is_there(site: Site, tab: Watched) -> None:
    """A field without a label: the check is alive."""
    await tab.page.context.add_init_script(path=AXE)
    await opened(tab, f"{site.url}/flows")
    await tab.page.evaluate("document.querySelector('main').append(document.createElement('input'))")
    assert [finding.partition(":")[0] for finding in await tab.page.evaluate(_FINDINGS, {})] == ["label"]


async def test_everything_works_without_scripts(site: Site, browser: Any) -> None:
    """Pages are readable, filters filter, and an action is posted and shown."""
    await site.start("plain-1")
    await site.seen("plain-1", "Charged")
    async with watched(browser, java_script_enabled=False) as tab:
        page = tab.page
        await page.goto(f"{site.url}/flows/order/instances")
        await page.get_by_label("Key").fill("plain-1")
        await tab.follow(page.get_by_role("button", name="Filter"))
        await tab.follow(page.get_by_role("link", name="plain-1"))
        assert "waits for Picked" in await page.inner_text("section.why")
        await page.get_by_text("Cancel…").click()
        await page.get_by_label("Reason", exact=True).first.fill("without scripts")
        await tab.follow(page.get_by_role("button", name="Cancel", exact=True))
        assert "and shown here" in await page.inner_text("main")
        await tab.follow(page.get_by_role("link", name="History"))
        assert "without scripts" in await page.inner_text("main table")


class Below:
    """A proxy that serves an application below a path of its own."""

    def __init__(self, app: FastAPI, prefix: str) -> None:
        self.app, self.state, self.prefix = app, app.state, prefix
        self.elsewhere: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request below the path, without the path; keep every other one."""
        if scope["type"] == "http" and not scope["path"].startswith(f"{self.prefix}/"):
            self.elsewhere.append(scope["path"])
        path, raw = scope["path"].removeprefix(self.prefix), scope["raw_path"].removeprefix(self.prefix.encode())
        await self.app({**scope, "path": path, "raw_path": raw}, receive, send)


@asynccontextmanager
async def below(site: Site, prefix: str) -> AsyncIterator[tuple[str, Below]]:
    """Serve the site below a path."""
    proxy = Below(create_site(use_cases_of(site.app)), prefix)
    async with served(proxy) as port:
        yield f"http://127.0.0.1:{port}{prefix}", proxy


async def test_a_page_works_below_a_path_of_a_proxy(site: Site, tab: Watched) -> None:
    """Styles, scripts, the stream, links and forms: no request leaves the path."""
    await site.start("below/1")
    await site.seen("below/1", "Charged")
    page = tab.page
    async with below(site, "/ops/choreo") as (address, proxy):
        await page.goto(f"{address}/")
        assert page.url == f"{address}/ui/flows"
        await page.goto(f"{address}/ui/flows/order/instances/{quote('below/1', safe='')}")
        await tab.shows("#stamp", "^True up to")
        await page.get_by_text("Pause…").click()
        await page.get_by_role("button", name="Pause", exact=True).click()
        await page.get_by_text("and shown here").wait_for()
        await tab.follow(page.get_by_role("link", name="History"))
        await tab.follow(page.get_by_role("link", name="Dead letters"))
        await tab.follow(page.get_by_role("link", name="API"))
        await page.wait_for_selector("#operations-flows-publishEvent")
        assert proxy.elsewhere == []


HOSTILE = (
    "<script>document.title='hit'</script><img src=x onerror=\"document.title='hit'\">'\"\x1b[31m\u202egnp.exe{{7*7}}"
)


async def test_hostile_text_does_nothing(site: Site, tab: Watched) -> None:
    """In a key, a field, a reason and a dead letter: it is shown as text on each page, and runs nowhere."""
    key = "<script>document.title='hit'</script>\u202e{{7*7}}"
    await site.start(key, note=HOSTILE)
    await site.seen(key, "Charged")
    await site.app.operator.pause("order", key, reason="<b onclick=alert(1)>\u202ereason</b>{{7*7}}")
    await site.poison("<img src=x onerror=document.title='hit'>\u2066")
    page = tab.page
    run = site.run(quote(key, safe=""))
    for address in (
        f"{site.url}/flows/order/instances",
        f"{site.url}/flows/order/instances?where={quote('note=' + HOSTILE, safe='')}",
        run,
        f"{run}/history",
        f"{site.url}/dead-letters",
        f"{site.url}/audit",
    ):
        await opened(tab, address)
        text = await page.inner_text("main")
        assert "\\u202e" in text or "\\u2066" in text, address
        assert not {"\u202e", "\u2066", "\x1b"} & set(await page.inner_text("body")), address
        assert await page.title() != "hit", address
        assert "49" not in f"{await page.title()} {await page.inner_text('h1')}", address
        assert await page.locator("main script, main img, main b").count() == 0, address


async def test_streams_do_not_hold_up_a_stop(site: Site, browser: Any) -> None:
    """A server with an open page stops at once."""
    stopped = asyncio.Event()
    async with watched(browser) as tab:
        async with served(create_site(use_cases_of(site.app))) as port:
            await tab.page.goto(f"http://127.0.0.1:{port}/ui/flows")
            await tab.shows("#stamp", "^True up to")
        stopped.set()
        tab.expect("ERR_|Failed|No connection|htmx")
        await tab.shows("#stamp", "No connection to the server")
    assert stopped.is_set()


async def test_times_are_shown_in_the_zone_of_choice(site: Site, browser: Any) -> None:
    """In UTC, or by a button in the browser's own zone, which is named; a refresh and another page keep the choice."""
    async with watched(browser, timezone_id="Asia/Kathmandu") as tab:
        page = tab.page
        await page.goto(site.run("open-1"))
        started = page.locator("time").first
        utc = datetime.fromisoformat(await started.inner_text())
        await page.get_by_role("button", name="times in UTC").click()
        assert await page.get_by_role("button", name="times in Asia/Kat").count() == 1
        local = datetime.fromisoformat(await started.inner_text())
        assert local - utc.replace(tzinfo=None, microsecond=0) == timedelta(hours=5, minutes=45)
        await tab.shows("#stamp", "^True up to")
        await site.app.operator.pause("order", "open-1")
        await tab.shows("h1 .status", "^paused$")
        assert datetime.fromisoformat(await started.inner_text()) == local
        await site.app.operator.resume("order", "open-1")
        await page.goto(site.run("open-1", "history"))
        assert datetime.fromisoformat(await started.inner_text()) == local
