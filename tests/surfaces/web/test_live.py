"""The page stays up to date by one stream of a tab: a change comes by itself and moves nothing that a person holds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from choreo.adapters.access.api_keys import create, revoke
from choreo.core.access import Role
from tests.core.shop import Picked
from tests.support.page_shop import Ordered
from tests.support.patience import PATIENCE_S
from tests.support.running import running
from tests.surfaces.web.harness import Site, Watched, settings_in, site_in, watched

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def connected(tab: Watched) -> None:
    """Wait until the stream says how far the page is true."""
    await tab.shows("#stamp", r"^True up to ")


async def test_a_change_comes_by_itself(site: Site, tab: Watched) -> None:
    """The status of the run, without a reload; the stamp names the position up to which the page is true."""
    page = tab.page
    await site.start("live-1")
    await site.seen("live-1", "Charged")
    await page.goto(site.run("live-1"))
    await connected(tab)
    await page.evaluate("window.sameDocument = true")
    await site.app.publisher.publish("order", Picked(order_id="live-1"))
    await tab.shows("h1 .status", "^completed$")
    assert await page.evaluate("window.sameDocument") is True
    row = (await site.app.queries.instance("order", "live-1")).row
    await tab.shows("#stamp", rf"^True up to order/{row.partition}/\d+, 0 ms behind")
    stamp = re.search(r"/(\d+),", await page.inner_text("#stamp"))
    assert stamp
    assert int(stamp[1]) >= row.position


async def test_the_stream_begins_however_late_its_script_comes(site: Site, tab: Watched) -> None:
    """The library begins only when its extension is there, too: it once began before, and the page stayed as it was."""

    async def late(route: Any) -> None:
        """Give the extension's script only after the library's has run, and all that it has put off."""
        while not await tab.page.evaluate("Boolean(window.htmx)"):
            await tab.page.evaluate("new Promise(done => setTimeout(done, 5))")
        await tab.page.evaluate("new Promise(done => setTimeout(done, 20))")
        await route.continue_()

    await tab.page.route("**/hx-sse-*", late)
    await tab.page.goto(f"{site.url}/flows/order")
    await connected(tab)


async def test_nothing_moves_that_a_person_holds(site: Site, tab: Watched) -> None:
    """The scroll position, the focus, the text and its selection in a field, and open parts stay through a refresh."""
    page = tab.page
    await page.set_viewport_size({"width": 800, "height": 500})
    await site.start("held-1")
    await site.seen("held-1", "Charged")
    await page.goto(site.run("held-1"))
    await connected(tab)
    await page.get_by_text("Evidence").click()
    await page.get_by_text("Cancel…").click()
    field = page.get_by_label("Reason", exact=True).first
    await field.fill("half a sent")
    await field.evaluate("field => field.setSelectionRange(2, 6)")
    await page.evaluate("scrollTo(0, 120)")
    held = """() => [document.activeElement.id, document.activeElement.value, document.activeElement.selectionStart,
        document.activeElement.selectionEnd, scrollY, document.querySelector('.why details').open]"""
    before = await page.evaluate(held)
    assert before[1:] == ["half a sent", 2, 6, 120, True]
    await site.app.operator.pause("order", "held-1", reason="another person's")
    await tab.shows("h1 .status", "^paused$")
    assert await page.evaluate(held) == before


async def test_an_answer_to_a_person_outlasts_a_refresh(site: Site, tab: Watched) -> None:
    """The note about a write, and the error of a form: both stay above the page when others change the run."""
    page = tab.page
    await site.start("noted-1")
    await site.seen("noted-1", "Charged")
    await page.goto(site.run("noted-1"))
    await connected(tab)
    await page.get_by_text("Pause…").click()
    await page.get_by_role("button", name="Pause", exact=True).click()
    await page.get_by_text("and shown here").wait_for()
    await site.app.operator.resume("order", "noted-1")
    await tab.shows("h1 .status", "^running$")
    assert await page.get_by_text("and shown here").count() == 1
    await page.get_by_text("Cancel…").click()
    tab.expect("status of 422")
    await tab.send_without_a_reason("Cancel")
    await tab.shows("#notice", "a reason is required")
    await site.app.operator.pause("order", "noted-1")
    await tab.shows("h1 .status", "^paused$")
    await tab.shows("#notice", "a reason is required")


async def test_one_look_serves_every_viewer(site: Site, browser: Any) -> None:
    """Three tabs do not look more often than one."""
    changes = site.changes

    async def looks() -> int:
        """Count the looks until the page has been looked at ten more times by the clock of the watcher."""
        before = changes.looks
        for _ in range(10):
            await changes.next_look()
        return changes.looks - before

    async with watched(browser) as one, watched(browser) as two, watched(browser) as three:
        for tab in (one, two, three):
            await tab.page.goto(f"{site.url}/flows/order")
            await connected(tab)
        assert await looks() == 10


async def messages(client: httpx.AsyncClient, url: str, **headers: str) -> AsyncIterator[dict[str, str]]:
    """Yield the messages of a stream."""
    async with client.stream("GET", url, headers=headers) as answer:
        assert answer.headers["x-accel-buffering"] == "no"
        found: dict[str, str] = {}
        async for line in answer.aiter_lines():
            if not line:
                yield found
                found = {}
            else:
                name, _, value = line.partition(":")
                found[name] = value.strip()


async def test_a_cut_stream_goes_on_without_a_loss(site: Site) -> None:
    """With the id of the last message: a change in between is reported at once; without one nothing is."""
    url = f"{site.url}/stream?flow=order"
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client, asyncio.timeout(PATIENCE_S):
        async for message in messages(client, url):
            if message.get("event") == "choreo-changed":
                mark = message["id"]
                break
        async for message in messages(client, url, **{"Last-Event-ID": mark}):
            assert message.get("event") is None
            if message.get("data"):
                break
        await site.start("between-1")
        await site.seen("between-1", "Charged")
        async for message in messages(client, url, **{"Last-Event-ID": mark}):
            if message.get("event") == "choreo-changed":
                assert message["id"] != mark
                break


async def test_a_page_behind_the_log_says_so(browser: Any, tmp_path: Path) -> None:
    """Nothing fills the read model: the stamp counts the records that are missing, until a tracker runs again."""
    async with site_in(tmp_path, without={"tracker"}) as own, watched(browser) as tab:
        await tab.page.goto(f"{own.url}/flows/order")
        await connected(tab)
        await own.app.publisher.publish("order", Ordered(order_id="late-1"))
        await tab.shows("#stamp", r"behind: \d records? not shown; is the process that fills the read model running")
        async with running(settings_in(tmp_path), without={"stock", "payment", "desk"}):
            await tab.shows("#stamp", r"^True up to event \d+ of order, 0 ms behind\.$")
            await tab.shows(".tiles .running strong", "^1$")


@pytest.mark.parametrize("path", ["/ui/stream", "/flows/order/instances/open-1/events"], ids=["page", "REST"])
async def test_a_stream_ends_when_its_key_is_revoked(site: Site, tmp_path: Path, path: str) -> None:
    """Also where nothing happens that could be sent; a stream of another key goes on."""
    keys = tmp_path / "keys.json"
    _, key = create(keys, "ann", Role.VIEWER, now_ms=1)
    async with site.served(keys) as address, httpx.AsyncClient(timeout=PATIENCE_S) as client:
        first = asyncio.Event()

        async def read() -> None:
            async for _ in messages(client, address + path, Authorization=f"Bearer {key}"):
                first.set()

        async with asyncio.timeout(PATIENCE_S):
            reading = asyncio.create_task(read())
            await first.wait()
            revoke(keys, "ann", now_ms=2)
            await reading
        assert (await client.get(f"{address}/flows", headers={"Authorization": f"Bearer {key}"})).status_code == 401
