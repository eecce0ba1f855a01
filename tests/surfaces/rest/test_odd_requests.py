"""Requests of clients that speak HTTP otherwise than most: on a real socket, byte by byte where it matters."""

from __future__ import annotations

import json

import pytest

from choreo.surfaces.rest import create_app
from tests.support.serving import served
from tests.surfaces.rest.test_connections import connected, use_cases

BODY = json.dumps({"type": "OrderPlaced", "fields": {"order_id": "o-1"}}).encode()
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
START = b"POST /flows/order/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
OFFERS = {
    "h2c, as Java offers it": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n",
    "TLS": b"Upgrade: TLS/1.2\r\nConnection: upgrade\r\n",
    "a web socket": b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
}
NO_REQUESTS = {
    "no HTTP": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a small method": b"get /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bytes in the path": "GET /flows/order/instances/\u00e9 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
    "an unknown transfer coding": START + b"Transfer-Encoding: gzip\r\n\r\n",
    "two lengths": START + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("body", [LENGTH + b"\r\n" + BODY, b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKED])
@pytest.mark.parametrize("pieces", [1, 10_000], ids=["at once", "byte by byte"])
async def test_an_offer_of_another_protocol_is_ignored_and_its_body_is_read(
    offer: str, body: bytes, pieces: int
) -> None:
    """The request counts as one without it, and so does the next one on the connection."""
    request = START + OFFERS[offer] + body
    size = len(request) // pieces + 1
    async with served(create_app(await use_cases())) as port:
        reader, writer = await connected(port)
        for begin in range(0, len(request), size):
            writer.write(request[begin : begin + size])
            await writer.drain()
        assert (await reader.readline()).startswith(b"HTTP/1.1 201 ")
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        rest = await reader.read()
        assert b'"key":"o-1"' in rest
        assert b"HTTP/1.1 200 " in rest
        writer.close()


@pytest.mark.parametrize("sent", NO_REQUESTS)
async def test_bytes_that_are_no_request_are_answered_with_a_problem(sent: str) -> None:
    """Like every other refusal (RFC 9457); the connection is closed."""
    async with served(create_app(await use_cases())) as port:
        reader, writer = await connected(port, NO_REQUESTS[sent])
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"application/problem+json" in head
        assert json.loads(body)["type"] == "urn:choreo:problem:bad-request"
        assert json.loads(body)["remedy"]
        writer.close()
