"""Log in and out on the page with an API key: the session, its end, and the limits on guesses."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from choreo.adapters.access.api_keys import create, revoke
from choreo.core.access import Role
from choreo.surfaces.rest.access_control import FAILURES_BURST
from tests.surfaces.web.harness import Site, Watched, watched

pytestmark = pytest.mark.asyncio(loop_scope="session")

HTML = {"Accept": "text/html"}


@pytest_asyncio.fixture(loop_scope="session")
async def door(site: Site, tmp_path: Path) -> AsyncIterator[tuple[str, Path, str]]:
    """Return the address of the site with access control, the file of its keys, and a key of an operator."""
    path = tmp_path / "keys.json"
    _, key = create(path, "ann", Role.OPERATOR, now_ms=1)
    async with site.served(path) as address:
        yield address, path, key


async def entered(client: httpx.AsyncClient, credential: str, place: str = "") -> httpx.Response:
    """Send the form of the login page."""
    page = await client.get("/ui/login", headers=HTML)
    token = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert token
    return await client.post("/ui/login", data={"csrf": token[1], "credential": credential, "next": place})


async def logged_in(tab: Watched, address: str, key: str) -> None:
    """Log in on the page, and wait until its stream has begun."""
    await tab.page.goto(f"{address}/ui/flows")
    await tab.page.get_by_label("API key").fill(key)
    await tab.follow(tab.page.get_by_role("button", name="Log in"))
    await tab.shows("#stamp", "^True up to")


async def test_a_person_logs_in_acts_and_logs_out(door: tuple[str, Path, str], browser: Any) -> None:
    """A link leads through the login to its page; the action names the person; afterwards nothing is shown."""
    address, _, key = door
    async with watched(browser) as tab:
        page = tab.page
        await page.goto(f"{address}/ui/flows/order/instances?status=stuck")
        assert "/ui/login" in page.url
        await page.get_by_label("API key").fill(key)
        await tab.follow(page.get_by_role("button", name="Log in"))
        assert page.url.endswith("/ui/flows/order/instances?status=stuck")
        await tab.follow(page.get_by_role("link", name="stuck-1"))
        await page.get_by_text("Pause…").click()
        await page.get_by_role("button", name="Pause", exact=True).click()
        await page.get_by_text("and shown here").wait_for()
        await page.goto(f"{address}/ui/audit")
        assert "ann api-key" in await page.inner_text("main")
        cookie = next(one for one in await page.context.cookies() if one["name"] == "choreo_session")
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"], key in str(cookie)) == (
            True,
            "Strict",
            False,
            False,
        )
        await tab.follow(page.get_by_role("button", name="Log out"))
        await page.goto(f"{address}/ui/flows")
        assert "/ui/login" in page.url


async def test_an_open_page_of_a_revoked_key_leads_to_the_login(door: tuple[str, Path, str], browser: Any) -> None:
    """Its stream ends and is not asked for again, and the page is gone from the screen."""
    address, path, key = door
    async with watched(browser) as tab:
        await logged_in(tab, address, key)
        asked: list[str] = []
        tab.page.on("request", lambda request: asked.append(request.url.partition("?")[0]))
        revoke(path, "ann", now_ms=2)
        await tab.shows("h1", "^Log in$")
        assert f"{address}/ui/stream" not in asked


async def test_a_refresh_after_the_end_of_a_session_leads_to_the_login(
    site: Site, door: tuple[str, Path, str], browser: Any
) -> None:
    """A change reaches the open page before the end of its stream does: the page goes, and shows no error."""
    address, _, key = door
    async with watched(browser) as tab:
        await logged_in(tab, address, key)
        await tab.page.context.clear_cookies()
        await site.start("late-refresh-1")
        await tab.shows("h1", "^Log in$")


async def test_guesses_are_limited_and_no_key_is_logged(
    door: tuple[str, Path, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Each wrong key is refused, then the address is blocked also for the right key."""
    address, _, key = door
    wrong = f"{key[:-1]}{'a' if key[-1] != 'a' else 'b'}"
    with caplog.at_level(logging.DEBUG, "choreo"):
        async with httpx.AsyncClient(base_url=address) as client:
            statuses = [(await entered(client, wrong)).status_code for _ in range(FAILURES_BURST)]
            assert statuses == [401] * FAILURES_BURST
            blocked = await entered(client, key)
            assert (blocked.status_code, int(blocked.headers["retry-after"]) > 0) == (429, True)
            assert "choreo_session" not in client.cookies
    assert key not in caplog.text
    assert wrong not in caplog.text


async def test_a_session_is_the_servers_own(door: tuple[str, Path, str]) -> None:
    """An invented cookie opens nothing; a login replaces the session; over TLS the cookie is sent only so."""
    address, _, key = door
    async with httpx.AsyncClient(base_url=address, headers=HTML) as client:
        client.cookies.set("choreo_session", "x" * 43)
        assert (await client.get("/ui/flows")).headers["location"] == "login?next=flows"
        client.cookies.clear()
        assert (await entered(client, key)).status_code == 303
        first = client.cookies["choreo_session"]
        client.headers["X-Forwarded-Proto"] = "https"
        again = await entered(client, key)
        assert "; secure" in again.headers["set-cookie"].lower()
    async with httpx.AsyncClient(base_url=address, headers=HTML, cookies={"choreo_session": first}) as client:
        assert (await client.get("/ui/flows")).status_code == 303


@pytest.mark.parametrize(
    "place",
    ["//evil.example", "https://evil.example", "/etc", "../../x", "flows/..//x", "\\\\evil", "javascript:alert(1)"],
)
async def test_a_login_leads_nowhere_else(door: tuple[str, Path, str], place: str) -> None:
    """The page to come back to stands below `/ui`."""
    address, _, key = door
    async with httpx.AsyncClient(base_url=address, headers=HTML) as client:
        answer = await entered(client, key, place)
        assert httpx.URL(f"{address}/ui/login").join(answer.headers["location"]).host == httpx.URL(address).host
        assert answer.headers["location"].startswith("./")
        assert "/ui/" in str(httpx.URL(f"{address}/ui/login").join(answer.headers["location"]))


async def test_without_access_control_there_is_no_login(site: Site) -> None:
    """On the loopback a developer needs none."""
    async with httpx.AsyncClient(headers=HTML) as client:
        assert (await client.get(f"{site.url}/login")).headers["location"] == "flows"
        assert "Log out" not in (await client.get(f"{site.url}/flows")).text
