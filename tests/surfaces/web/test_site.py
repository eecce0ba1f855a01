"""The page without a browser: its roles, its files, its forms' protection, its links below any path, hidden fields."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

import choreo.surfaces.web
from choreo.adapters.access.api_keys import ApiKeys, create
from choreo.core.access import Role
from choreo.surfaces.rest import UseCases
from choreo.surfaces.rest.access_control import AccessControl
from choreo.surfaces.rest.roles import OPEN
from choreo.surfaces.web import create_site
from choreo.surfaces.web.app import create_pages
from choreo.surfaces.web.links import Links
from choreo.surfaces.web.pages import NAV, ROLES
from choreo.surfaces.web.rendering import visible
from tests.app.harness import Shop
from tests.surfaces.rest.test_access import routes_of

STATIC = Path(choreo.surfaces.web.__file__).parent / "static"
PICTURES = Path("docs/pictures")
VENDORED = Path("tests/support/vendored")
EXTENSIONS = {"hx-sse-4.0.1": "htmx-4.0.1"}
"""Files of another file's package."""
JAVASCRIPT_KB_MAX = 60
RUN = "/ui/flows/order/instances/o-1"


def use_cases_of(shop: Shop) -> UseCases:
    """Return the use cases of a shop."""
    return UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock)


@asynccontextmanager
async def asking(use_cases: UseCases, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the site that keeps cookies."""
    transport = httpx.ASGITransport(create_site(use_cases))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client


@pytest.fixture
async def shop() -> Shop:
    """Return a shop with an order that is stuck."""
    own = await Shop().open()
    await own.stuck("o-1")
    return own


@pytest.mark.parametrize("folder", [STATIC, VENDORED], ids=["of the page", "of the tests"])
def test_each_file_is_the_published_one(folder: Path) -> None:
    """The list has the hash of every foreign file, each of which has its licence."""
    listed = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    foreign = {file.name for file in folder.iterdir() if re.search(r"-\d", file.name)}
    assert set(listed) == foreign
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    packages = {name.removesuffix(".min.js") for name in foreign if name.endswith(".js")}
    assert {f"{EXTENSIONS.get(package, package)}.LICENSE.txt" for package in packages} <= foreign


def test_scripts_are_small() -> None:
    """All of them together, as they are sent compressed."""
    size = sum(len(gzip.compress(file.read_bytes())) for file in STATIC.glob("*.js"))
    assert 10_000 < size <= JAVASCRIPT_KB_MAX * 1_024


def test_each_page_has_a_small_picture() -> None:
    """`python docs/draw_pages.py` makes them."""
    pictures = {file.stem: file.stat().st_size for file in PICTURES.iterdir()}
    program = (PICTURES.parent / "draw_pages.py").read_text(encoding="utf-8")
    assert len(pictures) > 10
    assert not [name for name in pictures if f'"{name}' not in program]
    assert max(pictures.values()) < 100_000


async def test_each_route_has_a_role(shop: Shop) -> None:
    """A route that is not in its page's table is refused to everybody, so none may be missing."""
    routes = set(routes_of(create_pages(use_cases_of(shop))))
    assert len(routes) > 15
    assert routes - set(ROLES) == {"GET /ui/static/{name}"}
    assert {("GET", "/".join(("/ui", *entry.path))) for entry in NAV} <= {tuple(name.split(" ")) for name in ROLES}


@pytest.mark.parametrize("role", [None, *Role], ids=lambda role: role.shown if role else "nobody")
async def test_a_route_takes_the_roles_of_its_table(shop: Shop, tmp_path: Path, role: Role | None) -> None:
    """Every route with every role, in this flow only: refused without a key and with too small a role."""
    _, key = create(tmp_path / "keys.json", "ann", role or Role.VIEWER, flows=("order",), now_ms=1)
    access = AccessControl([ApiKeys(tmp_path / "keys.json", shop.clock)], shop.clock)
    headers = {"Authorization": f"Bearer {key}"} if role else {}
    use_cases = replace(use_cases_of(shop), access=access)
    use_cases.closing.set()  # streams end at once
    async with asking(use_cases, **headers) as client:
        for name, need in ROLES.items():
            method, path = name.split(" ")
            answer = await client.request(method, re.sub(r"\{(\w+)\}", _part, path))
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            if need is OPEN:
                assert answer.status_code in (200, 303, 415), name
            elif role is None:
                assert answer.status_code == 401, name
            else:
                assert (answer.status_code == 403) == (role < need.role), (name, answer.status_code)


def _part(found: re.Match[str]) -> str:
    return {"flow": "order", "key": "o-1", "group": "stock", "partition": "0"}.get(found[1], "none")


async def test_a_form_is_taken_only_from_this_browsers_page(shop: Shop) -> None:
    """Without the token, with another one, from another origin, as JSON: refused, and nothing stands in the log."""
    before = await ends(shop)
    async with asking(use_cases_of(shop)) as client:
        page = await client.get(RUN)
        token = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert token
        good = {"csrf": token[1], "reason": "seen"}
        pause = f"{RUN}/pause"
        cookie = page.headers["set-cookie"].lower()
        assert all(part in cookie for part in ("httponly", "samesite=strict", "path=/"))
        assert (await client.post(pause, data={"reason": "seen"})).status_code == 403
        assert (await client.post(pause, data={**good, "csrf": "x" * 32})).status_code == 403
        for header in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert (await client.post(pause, data=good, headers=header)).status_code == 403
        assert (await client.post(pause, json=good)).status_code == 415
        assert await ends(shop) == before
        assert (await client.post(pause, data=good)).status_code == 303
    assert await ends(shop) != before


async def ends(shop: Shop) -> list[int]:
    """Return how far the log goes."""
    return [await shop.backend.log.end("order", number) for number in range(await shop.backend.log.partitions("order"))]


async def test_a_button_that_may_not_be_pressed_says_why(shop: Shop, tmp_path: Path) -> None:
    """By the role and by the state of the run."""
    _, key = create(tmp_path / "keys.json", "ann", Role.VIEWER, now_ms=1)
    access = AccessControl([ApiKeys(tmp_path / "keys.json", shop.clock)], shop.clock)
    async with asking(replace(use_cases_of(shop), access=access), Authorization=f"Bearer {key}") as client:
        text = (await client.get(RUN)).text
    assert len(re.findall(r"<button[^>]* disabled", text)) == 5
    assert 'method="post"' not in text
    for reason in ("this needs the role operator", "this needs the role admin", "the run is compensating already"):
        assert reason in text


HOSTILE = "<script>alert(1)</script>\x1b[31m\u202eabc\u2066"
SHOWN = "&lt;script&gt;alert(1)&lt;/script&gt;\\u001b[31m\\u202eabc\\u2066"


async def test_foreign_text_is_shown_and_never_obeyed(shop: Shop) -> None:
    """Markup, control characters and marks of direction in a field of an event."""
    await shop.start("o-2", customer=HOSTILE)
    async with asking(use_cases_of(shop)) as client:
        for path in ("/ui/flows/order/instances", "/ui/flows/order/instances/o-2"):
            text = (await client.get(path)).text
            assert SHOWN in text
            assert not [part for part in ("<script>alert", "\x1b", "\u202e", "\u2066") if part in text]


@pytest.mark.parametrize(
    ("path", "expected", "api"),
    [
        ("/ui", "ui/flows/a%2Fb?run=r", "docs"),
        ("/ui/", "flows/a%2Fb?run=r", "../docs"),
        ("/ui/flows", "flows/a%2Fb?run=r", "../docs"),
        ("/ui/flows/order/instances/a%2Fb", "../../../flows/a%2Fb?run=r", "../../../../docs"),
    ],
)
def test_links_are_relative_to_the_page(path: str, expected: str, api: str) -> None:
    """So that a proxy may serve the page below any path."""
    assert Links(path).to("flows", "a/b", run="r", after="") == expected
    assert Links(path).api("docs") == api


def test_values_are_written_for_people() -> None:
    """Characters that deceive the eye stand there by their number."""
    assert visible("a\u200bb\ud800\n") == "a\\u200bb\\ud800\n"


async def test_the_api_stays_as_it_is(shop: Shop) -> None:
    """Beside the page: JSON for programs, and `/` leads a browser to the page, a program to the API's documentation."""
    async with asking(use_cases_of(shop)) as client:
        assert (await client.get("/flows")).json()["items"][0]["name"] == "order"
        leads: dict[str, Any] = {"text/html,*/*;q=0.8": "ui", "*/*": "docs"}
        for accept, place in leads.items():
            assert (await client.get("/", headers={"Accept": accept})).headers["location"] == place
        head = await client.head("/ui/flows")
        assert (head.status_code, head.content) == (200, b"")
