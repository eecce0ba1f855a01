"""Access control of the REST view: each route for each role, credentials, limits, and the flows that a caller sees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from choreo.adapters.access.api_keys import ApiKeys, create, revoke
from choreo.core.access import Role
from choreo.core.events import Envelope, Record
from choreo.ports.dead_letters import DeadLetter
from choreo.surfaces.rest import UseCases, create_app
from choreo.surfaces.rest.access_control import FAILURES_BURST, AccessControl
from choreo.surfaces.rest.roles import ROUTES, Need, Within
from choreo.testing.clock import VirtualClock
from tests.app.harness import Shop

LETTER = "00000000-0000-4000-8000-000000000001"
Asked = Callable[..., Awaitable[httpx.Response]]


class Door:
    """A REST view with access control over an empty shop, and keys for it."""

    def __init__(self, shop: Shop, path: Path) -> None:
        self.shop = shop
        self.path = path
        self.key("first", Role.VIEWER)
        self.rate_limit = 0.0
        self.open_metrics = False

    def key(self, name: str, role: Role, *flows: str, expires_ms: int = 0) -> str:
        """Make a key."""
        now_ms = self.shop.clock.now_ms()
        return create(self.path, name, role, flows=flows, now_ms=now_ms, expires_ms=expires_ms)[1]

    def app(self) -> Any:
        """Return the application."""
        shop = self.shop
        use_cases = UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock)
        keys = ApiKeys(self.path, shop.clock)
        access = AccessControl([keys], shop.clock, rate_limit=self.rate_limit, open_metrics=self.open_metrics)
        return create_app(replace(use_cases, access=access))

    @asynccontextmanager
    async def asked(self, address: str = "192.0.2.1", app: Any = None) -> AsyncIterator[Asked]:
        """Yield a function that sends requests from this address: method, path, key."""
        transport = httpx.ASGITransport(app or self.app(), client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:

            async def ask(method: str, path: str, key: str = "", **options: Any) -> httpx.Response:
                headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
                return await client.request(method, path, headers=headers, **options)

            yield ask


@pytest.fixture
async def door(tmp_path: Path) -> Door:
    """Return an access-controlled shop with one dead letter."""
    shop = await Shop().open()
    record = Record("order", 0, 0, 1, Envelope("e-1", "OrderPlaced", "o-1", "order"))
    await shop.backend.dead_letters.add([DeadLetter(LETTER, "order", 0, 0, "stock", "stock.reserve", "no", 1, record)])
    return Door(shop, tmp_path / "keys.json")


PARTS = {"key": "o-1", "entry": "x", "group": "stock", "partition": "0", "batch": "b-1"}
"""Values for the parts of a route's path."""


def routes_of(app: Any) -> list[str]:
    """Return every method and path of the application, as the table names them."""
    found = []
    for part in app.routes:
        included = getattr(part, "original_router", None)
        for route in included.routes if included else [part]:
            found += [f"{method} {route.path}" for method in route.methods - {"HEAD"}]
    return sorted(found)


def test_each_route_has_a_role(door: Door) -> None:
    """A route that is not in the table is refused to everybody, so none may be missing."""
    routes = routes_of(door.app())
    assert len(routes) > 20
    assert not set(routes) - set(ROUTES)


async def test_a_route_without_a_role_is_refused_to_everybody(door: Door) -> None:
    """Also to an admin of every flow; a path without a route stays a 404."""
    app, key = door.app(), door.key("ann", Role.ADMIN)

    @app.get("/forgotten")
    async def forgotten() -> str:
        return "shown"

    async with door.asked(app=app) as ask:
        statuses = [(await ask("GET", path, key)).status_code for path in ("/forgotten", "/nothing")]
        assert statuses == [403, 404]
        assert [(await ask("GET", path)).status_code for path in ("/forgotten", "/nothing")] == [401, 401]


def allowed(need: Need, role: Role | None, *, everywhere: bool) -> bool:
    """Return whether a caller with this role, in the flow or in every flow, may use the route."""
    if need.within is Within.NONE:
        return True
    if role is None or (need.within is Within.EVERY and not everywhere):
        return False
    return role >= need.role


@pytest.mark.parametrize("everywhere", [True, False], ids=["in every flow", "in this flow"])
@pytest.mark.parametrize("role", [None, *Role], ids=lambda role: role.shown if role else "nobody")
async def test_a_route_takes_the_roles_of_the_table(door: Door, role: Role | None, everywhere: bool) -> None:
    """Every route with every role: 401 without a key, 403 with too small a role, else neither."""
    key = door.key("caller", role, *(() if everywhere else ("order",))) if role else ""
    async with door.asked() as ask:
        for name in routes_of(door.app()):
            method, path = name.split(" ", 1)
            asked = path.format_map({**PARTS, "flow": "order", "dead_letter": LETTER})
            status = (await ask(method, asked, key)).status_code
            refused = 403 if role else 401
            assert (status == refused) is not allowed(ROUTES[name], role, everywhere=everywhere), (name, status)
            assert status == refused or status not in {401, 403}, (name, status)


@pytest.mark.parametrize("role", Role, ids=lambda role: role.shown)
async def test_a_role_in_one_flow_is_none_in_another(door: Door, role: Role) -> None:
    """Nothing of the flow is shown or changed, and its existence is not told."""
    key = door.key("other", role, "trip")
    async with door.asked() as ask:
        for name, need in ROUTES.items():
            if need.within is Within.FLOW:
                method, path = name.split(" ", 1)
                asked = path.format_map({**PARTS, "flow": "order"})
                unknown = path.format_map({**PARTS, "flow": "unknown"})
                answers = [await ask(method, each, key) for each in (asked, unknown)]
                assert [answer.status_code for answer in answers] == [403, 403], name
        assert (await ask("GET", "/flows", key)).json() == {"items": []}
        assert (await ask("GET", "/dead-letters", key)).json() == {"items": [], "cursor": ""}
        assert (await ask("GET", f"/dead-letters/{LETTER}", key)).status_code == 404
        assert (await ask("POST", f"/dead-letters/{LETTER}/redrive", key)).status_code == (
            404 if role is Role.ADMIN else 403
        )
        assert (await ask("GET", "/dead-letters?flow=order", key)).status_code == 403


async def test_the_refusals_are_problem_documents(door: Door) -> None:
    """They name the scheme (RFC 6750), the missing role, and a remedy."""
    key = door.key("ann", Role.VIEWER)
    async with door.asked() as ask:
        missing, wrong = await ask("GET", "/flows"), await ask("GET", "/flows", "choreo_x")
        small = await ask("POST", "/flows/order/instances/o-1/cancel", key)
    assert missing.headers["WWW-Authenticate"] == 'Bearer realm="choreo"'
    assert wrong.headers["WWW-Authenticate"] == 'Bearer realm="choreo", error="invalid_token"'
    assert {missing.headers["Content-Type"], small.headers["Content-Type"]} == {"application/problem+json"}
    assert missing.json()["type"] == "urn:choreo:problem:unauthorized"
    assert small.json()["detail"] == "this needs the role operator in flow order, and ann (api-key) has it not"
    assert all(answer.json()["remedy"] for answer in (missing, wrong, small))


@pytest.mark.parametrize("header", ["Basic {key}", "{key}", "Bearer", "Bearer  ", "Bearer {key}x", "Bearer x{key}"])
async def test_another_form_of_the_header_is_no_credential(door: Door, header: str) -> None:
    """Also a key with another character is another key."""
    key = door.key("ann", Role.ADMIN)
    async with door.asked() as ask:
        answer = await ask("GET", "/flows")
        assert answer.status_code == 401
    transport = httpx.ASGITransport(door.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        asked = await client.get("/flows", headers={"Authorization": header.format(key=key)})
        twice = [("Authorization", f"Bearer {key}")] * 2
        assert (asked.status_code, (await client.get("/flows", headers=twice)).status_code) == (401, 401)
        assert (await client.get(f"/flows?access_token={key}")).status_code == 401
        assert (await client.get("/flows", headers={"Authorization": f"bearer {key}"})).status_code == 200


async def test_a_revoked_or_expired_key_is_refused_at_once(door: Door) -> None:
    """The file is read again when it changes, without a restart."""
    assert isinstance(door.shop.clock, VirtualClock)
    later_ms = door.shop.clock.now_ms() + 1_000
    first, second = door.key("ann", Role.VIEWER), door.key("bob", Role.VIEWER, expires_ms=later_ms)
    async with door.asked() as ask:
        assert [(await ask("GET", "/flows", key)).status_code for key in (first, second)] == [200, 200]
        revoke(door.path, "ann", now_ms=1)
        await door.shop.clock.advance(1)
        answers = [await ask("GET", "/flows", key) for key in (first, second)]
    assert [answer.json()["detail"] for answer in answers] == ["the key ann is revoked", "the key bob is expired"]


async def test_a_damaged_file_opens_nothing(door: Door) -> None:
    """503 until it is restored: neither the old keys count nor everybody."""
    key = door.key("ann", Role.ADMIN)
    async with door.asked() as ask:
        door.path.write_text("{")
        assert (await ask("GET", "/flows", key)).status_code == 503
        door.path.unlink()
        assert (await ask("GET", "/flows", key)).status_code == 503
        assert (await ask("GET", "/livez")).status_code == 200


async def test_a_key_has_a_rate(door: Door) -> None:
    """429 says when to come again; another key has a bucket of its own; the time of day does not matter."""
    door.rate_limit = 5
    first, second = door.key("ann", Role.VIEWER), door.key("bob", Role.VIEWER)
    clock = door.shop.clock
    assert isinstance(clock, VirtualClock)
    async with door.asked() as ask:
        assert {(await ask("GET", "/flows", first)).status_code for _ in range(10)} == {200}
        refused = await ask("GET", "/flows", first)
        clock.set_back(-3_600)
        assert (await ask("GET", "/flows", first)).status_code == 429
        assert (await ask("GET", "/flows", second)).status_code == 200
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        await clock.advance(1)
        assert (await ask("GET", "/flows", first)).status_code == 200


async def test_wrong_keys_block_their_address_for_a_while(door: Door) -> None:
    """A blocked address does not learn whether a guess is right; a request without a credential is no guess."""
    key, clock = door.key("ann", Role.VIEWER), door.shop.clock
    assert isinstance(clock, VirtualClock)
    async with door.asked("2001:db8::1") as ask:
        assert {(await ask("GET", "/flows")).status_code for _ in range(2 * FAILURES_BURST)} == {401}
        for _ in range(FAILURES_BURST):
            assert (await ask("GET", "/flows", "choreo_wrong")).status_code == 401
        right, wrong = await ask("GET", "/flows", key), await ask("GET", "/flows", "choreo_wrong")
        assert (right.status_code, wrong.status_code, right.headers["Retry-After"]) == (429, 429, "6")
        await clock.advance(6)
        assert (await ask("GET", "/flows", key)).status_code == 200


async def test_the_metrics_are_open_by_a_setting(door: Door) -> None:
    """A scraper without a credential reads them then."""
    async with door.asked() as ask:
        assert (await ask("GET", "/metrics")).status_code == 401
    door.open_metrics = True
    async with door.asked() as ask:
        assert (await ask("GET", "/metrics")).status_code == 200


async def test_an_operators_fact_names_the_key(door: Door) -> None:
    """History, timeline and audit list have its author; the log has it in a header."""
    key = door.key("ann", Role.OPERATOR)
    await door.shop.start("o-1")
    async with door.asked() as ask:
        paused = await ask("POST", "/flows/order/instances/o-1/pause", key, json={"reason": "stocktaking"})
        assert paused.status_code == 202
        await door.shop.track()
        row = (await ask("GET", "/flows/order/instances/o-1/history", key)).json()["items"][-1]
        told = (await ask("GET", "/flows/order/instances/o-1/timeline", key)).json()["items"][-1]
        (done,) = (await ask("GET", "/flows/order/audit", key)).json()["items"]
    assert (row["actor"], row["method"]) == (told["actor"], told["method"]) == ("ann", "api-key")
    assert told["text"].endswith("by ann (api-key): stocktaking")
    assert {name: done[name] for name in ("type", "key", "actor", "method", "reason")} == {
        "type": "choreo.FlowPaused",
        "key": "o-1",
        "actor": "ann",
        "method": "api-key",
        "reason": "stocktaking",
    }


async def test_the_description_names_the_schemes(door: Door) -> None:
    """Each operation says whether it needs a credential, with the refusals; open ones need none."""
    key = door.key("ann", Role.VIEWER)
    async with door.asked() as ask:
        document = (await ask("GET", "/openapi.json", key)).json()
    assert document["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    cancel = document["paths"]["/flows/{flow}/instances/{key}/cancel"]["post"]
    assert (cancel["security"], cancel["x-choreo-role"]) == ([{"apiKey": []}], "operator")
    assert {"401", "403", "429"} <= set(cancel["responses"])
    assert document["paths"]["/livez"]["get"]["security"] == []
