"""Answer HEAD as GET (RFC 9110, 9.3.2), and give each read an ETag, so that a client detects a stale copy.

Plain ASGI: it gets the answer whole, and a stream from its start. Knows nothing of the content.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ETAG_BYTES = 12
"""96 bits: two states of one resource never share it."""


class Reads:
    """Answers HEAD as GET without its body, and a GET with 304 if the client has the answer already."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; a write's answer must not be stored."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send)
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, answer.send)


class _Answer:
    """One answer on its way out: its start is held until the first piece of its body."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self._head_only = scope["method"] == "HEAD"
        self._is_read = scope["method"] in ("GET", "HEAD")
        self._known = [value for name, value in scope["headers"] if name == b"if-none-match"]
        self._start: Message | None = None
        self._ended = False

    async def send(self, message: Message) -> None:
        """Send the next part of the answer."""
        if self._ended:
            return
        if message["type"] == "http.response.start":
            self._start = message
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._start is not None:
            start, self._start = self._start, None
            if self._tagged(start, body, whole=not more):
                body, more = b"", False
            await self._send(start)
        self._ended = self._head_only or not more
        await self._send(
            {"type": "http.response.body", "body": b"" if self._head_only else body, "more_body": not self._ended}
        )

    def _tagged(self, start: Message, body: bytes, *, whole: bool) -> bool:
        """Set the cache headers; return whether the client has the answer, so that it became a 304."""
        headers = list(start.get("headers", []))
        start["headers"] = headers
        names = {name.lower() for name, _ in headers}
        if not (self._is_read and start["status"] == 200):
            if b"cache-control" not in names:
                headers.append((b"cache-control", b"no-store"))
            return False
        if b"cache-control" not in names:
            headers.append((b"cache-control", b"no-cache"))
        if not whole or b"etag" in names:
            return False
        tag = b'"%s"' % blake2b(body, digest_size=_ETAG_BYTES).hexdigest().encode()
        headers.append((b"etag", tag))
        if not _has(self._known, tag):
            return False
        start["status"] = 304
        start["headers"] = [pair for pair in headers if pair[0].lower() not in (b"content-length", b"content-type")]
        return True


def _has(known: Iterable[bytes], tag: bytes) -> bool:
    """Return whether If-None-Match names this tag, or any; weak equals strong here (RFC 9110, 13.1.2)."""
    tags = [part.strip() for value in known for part in value.split(b",")]
    return any(part == b"*" or part.removeprefix(b"W/") == tag for part in tags)
