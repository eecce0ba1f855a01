"""The REST view on a real socket: it answers, ends its streams and itself when told, and says why it cannot listen."""

import asyncio
import socket
import subprocess
import sys

import httpx
import pytest

from choreo.adapters.clock import SystemClock
from choreo.core.errors import SettingsError
from choreo.settings import Settings
from choreo.surfaces.rest import UseCases, create_app
from choreo.surfaces.rest.server import listen, serve, try_listeners
from tests.app.harness import Shop


async def test_it_serves_until_it_is_told_to_stop() -> None:
    """An open stream does not hold the stop."""
    shop = await Shop(SystemClock()).open()
    await shop.charged("o-1")
    app = create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))
    stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(app, "127.0.0.1", 0, stop=stop, ready=address.set_result))
    async with httpx.AsyncClient(base_url=await address) as client:
        assert (await client.get("/livez")).json() == {"status": "ok", "hosts": {}}
        async with client.stream("GET", "/flows/order/instances/o-1/events") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            stop.set()
            rest = [line async for line in lines]
    await serving
    assert "event: PaymentCharged" in rest


async def test_a_chunked_body_is_bounded_while_it_comes() -> None:
    """Without a Content-Length the refusal comes when the bytes are too many."""
    shop = await Shop().open()
    app = create_app(UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock))

    async def endless() -> object:
        while True:
            yield b"x" * 65_536

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        response = await client.post("/flows/order/events", content=endless())
    assert response.status_code == 413


def test_an_answer_does_not_wait_to_be_joined_by_more() -> None:
    """Headers and body are two small writes; Nagle's rule would hold the second back for 40 ms."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_in_use_is_told_with_the_remedy() -> None:
    """The message names the place and another port."""
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError) as refused:
            listen("127.0.0.1", port)
        assert "the port is in use" in refused.value.sentence
        assert f"CHOREO_PORT={port + 1}" in refused.value.sentence
        with pytest.raises(SettingsError) as refused:
            try_listeners(Settings(health_port=port), rest=False)
    assert f"health and metrics, 0.0.0.0:{port}" in refused.value.sentence
    assert f"another: CHOREO_HEALTH_PORT={port + 1} (0 opens none)" in refused.value.sentence


@pytest.mark.parametrize(("host", "port"), [("256.0.0.1", 80), ("203.0.113.1", 8080), ("127.0.0.1", 70_000)])
def test_an_address_that_is_not_of_this_machine_is_refused(host: str, port: int) -> None:
    """The error shows the system's message together with a setting to change."""
    with pytest.raises(SettingsError, match="CHOREO_HOST"):
        listen(host, port)


OPEN = "0.0.0.0"  # noqa: S104 - under test


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_an_address_of_the_loopback_needs_no_permission(host: str) -> None:
    """Only this machine reaches it."""
    try_listeners(Settings(host=host, port=0), rest=True)


@pytest.mark.parametrize("host", [OPEN, "::"])
def test_an_address_that_others_reach_needs_a_permission(host: str) -> None:
    """The REST view has no authentication."""
    with pytest.raises(SettingsError, match="CHOREO_ALLOW_REMOTE=true"):
        try_listeners(Settings(host=host, port=0), rest=True)
    try_listeners(Settings(host=host, port=0, allow_remote=True), rest=True)


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn", "prometheus_client", "httptools"])
def test_without_the_web_extra_the_message_names_it(missing: str) -> None:
    """Importing the REST view names the package to install."""
    code = f"import sys; sys.modules[{missing!r}] = None; import choreo.surfaces.rest"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in run.stderr
    assert "pip install 'choreo-kafka[web]'" in run.stderr
