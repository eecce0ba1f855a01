"""Clients that are slow, silent or many take nothing from the others: on a real socket, by the bytes read."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse, StreamingResponse

from choreo.adapters.clock import SystemClock
from choreo.surfaces.rest import UseCases, create_app
from choreo.surfaces.rest.app import create_health_app
from choreo.surfaces.rest.connections import HEAD_BYTES_MAX, Limits
from choreo.surfaces.rest.server import HEALTH, REST_VIEW
from tests.app.harness import Shop
from tests.support.patience import PATIENCE_S
from tests.support.serving import served

Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SOON_S = 0.2
NEVER_S = 600.0
WHOLE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def use_cases() -> UseCases:
    """Return the use cases of a shop."""
    shop = await Shop(SystemClock()).open()
    return UseCases(shop.flows, shop.publisher, shop.operator, shop.queries, shop.clock)


END = b'"hosts":{}}'
"""The last bytes of the answer of /livez."""


async def connected(port: int, first: bytes = b"") -> Wire:
    """Return a connection on which this much was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    return reader, writer


async def answered(port: int) -> bool:
    """Return whether another client is answered."""
    reader, writer = await connected(port, WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 200")


async def ended(reader: asyncio.StreamReader) -> bool:
    """Return whether the other side has closed without a word; waits for it."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


HALVES = {
    "half a line": b"GET /livez HT",
    "half a header": b"GET /livez HTTP/1.1\r\nHost: loc",
    "no empty line": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n",
    "half a body": b"POST /flows/order/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 100\r\n\r\n{",
    "half a chunk": b"POST /flows/order/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
}


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("before", [b"", WHOLE], ids=["first", "after another"])
async def test_a_request_that_does_not_end_is_answered_with_that(half: str, before: bytes) -> None:
    """408, and the connection is closed; also where the connection was of use before."""
    async with served(create_app(await use_cases()), Limits(head_s=SOON_S, body_s=SOON_S)) as port:
        reader, writer = await connected(port, before)
        if before:
            await reader.readuntil(END)
        writer.write(HALVES[half])
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"application/problem+json" in head
        assert json.loads(body)["type"] == "urn:choreo:problem:request-timeout"
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=["nothing", "empty lines"])
async def test_a_client_that_only_connects_is_left(sent: bytes) -> None:
    """Nothing was asked, so nothing is answered."""
    async with served(create_health_app(await use_cases()), Limits(head_s=SOON_S)) as port:
        reader, writer = await connected(port, sent)
        assert (await reader.read()).startswith(b"HTTP/1.1 408" if sent else b"")
        writer.close()


async def test_a_request_that_comes_in_pieces_is_answered() -> None:
    """Slow is no fault, as long as it comes to an end in time; several may come at once."""
    async with served(create_app(await use_cases()), Limits(head_s=NEVER_S)) as port:
        reader, writer = await connected(port)
        for byte in WHOLE:
            writer.write(bytes([byte]))
            await writer.drain()
        assert (await reader.readuntil(END)).startswith(b"HTTP/1.1 200")
        writer.write(WHOLE * 3)
        for _ in range(3):
            assert (await reader.readuntil(END)).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_head_without_end_is_refused() -> None:
    """It would be kept in memory for as long as it comes."""
    async with served(create_app(await use_cases()), Limits(head_s=NEVER_S)) as port:
        reader, writer = await connected(port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n")
        answer = asyncio.create_task(reader.read())
        line = b"X-More: " + b"x" * 1_000 + b"\r\n"
        for _ in range(HEAD_BYTES_MAX * 3 // len(line)):
            if answer.done():
                break
            writer.write(line)
            try:
                await writer.drain()
            except ConnectionError:
                break
        # The server closes with input unread: TCP may reset the connection before the answer is read (RFC 9112, 9.6).
        with suppress(ConnectionResetError):
            assert (await answer).startswith(b"HTTP/1.1 431 ")
        writer.close()


@pytest.mark.parametrize("app_of", [create_app, create_health_app], ids=["REST view", "health"])
async def test_where_no_place_is_free_the_oldest_that_only_waits_gives_way(app_of: object) -> None:
    """Many more than may be connected send half a request: the next whole one is answered."""
    assert callable(app_of)
    async with served(app_of(await use_cases()), Limits(head_s=NEVER_S, body_s=NEVER_S, connections_max=8)) as port:
        wires = [await connected(port, HALVES["half a header"]) for _ in range(40)]
        assert await answered(port)
        assert await ended(wires[0][0])
        for _, writer in wires:
            writer.close()


async def test_what_is_being_answered_does_not_give_way() -> None:
    """Where every connection is in use a new one gets an error with the time to come again."""
    app, busy, go_on = FastAPI(), asyncio.Semaphore(0), asyncio.Event()
    app.state.use_cases = await use_cases()

    @app.get("/")
    async def hold() -> PlainTextResponse:
        busy.release()
        await go_on.wait()
        return PlainTextResponse("done")

    async with served(app, Limits(connections_max=2)) as port:
        wires = [
            await connected(port, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n") for _ in range(2)
        ]
        for _ in wires:
            await busy.acquire()
        reader, writer = await connected(port)
        refused = await reader.read()
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in refused
        writer.close()
        go_on.set()
        for reader, writer in wires:
            assert (await reader.read()).endswith(b"done")
            writer.close()


async def test_a_client_that_does_not_read_its_answer_is_left() -> None:
    """The rest of the answer is not kept for ever."""
    app, ended = FastAPI(), asyncio.Event()
    app.state.use_cases = await use_cases()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65_536
                await asyncio.sleep(0)
        finally:
            ended.set()

    app.get("/")(lambda: StreamingResponse(endless()))
    async with served(app, Limits(write_s=SOON_S)) as port:
        _, writer = await connected(port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            await ended.wait()
        writer.close()


def test_a_process_has_descriptors_left_for_its_storage() -> None:
    """Both servers together take five eighths of them at most."""
    assert REST_VIEW.share + HEALTH.share == 5 / 8
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert Limits.of_process(HEALTH.share).connections_max == min(1_000, soft // 8)


def test_a_burst_and_all_connections_leave_descriptors_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """One iteration of the loop accepts a whole burst before the oldest connections can give way."""
    for descriptors in (16, 512, 1_024, 1 << 20):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=descriptors: (soft, soft))
        listeners = [Limits.of_process(listener.share) for listener in (REST_VIEW, HEALTH)]
        taken = sum(limits.connections_max + limits.backlog for limits in listeners)
        assert taken <= descriptors * 7 / 8
        assert all(limits.backlog >= 1 for limits in listeners)
