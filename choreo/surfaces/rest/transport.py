"""What is done to a request before it is routed: its path is kept as it was sent, its body is bounded.

Plain ASGI, no framework: both must see the request before anything has decoded or read it.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from choreo.surfaces.rest.problems import problem

BODY_BYTES_MAX = 1 << 20
"""1 MiB: Kafka's default limit for a message, so that nothing is taken that could not be published."""


class EncodedPath:
    """Route by the path as it was sent, so that a key with a slash (%2F) stays one segment."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Replace the decoded path; a server that does not tell the raw one has it encoded again."""
        if scope["type"] == "http":
            raw = scope.get("raw_path")
            path = raw.decode("latin-1") if raw else quote(scope["path"])
            scope = {**scope, "path": quote(path, safe="%/:@!$&'()*+,;=~-._?")}
        await self._app(scope, receive, send)


class BoundedBody:
    """Refuse a body that is too large, by its declared length or, where none is declared, as soon as it is too long."""

    def __init__(self, app: ASGIApp, bytes_max: int = BODY_BYTES_MAX) -> None:
        self._app = app
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body whole, for every route needs it whole, then hand it on in one message."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        chunks: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            more = message.get("more_body", False)
            if size > self._bytes_max or _declared(scope) > self._bytes_max:
                await self._refuse(scope, receive, send)
                return
        await self._app(scope, _once(b"".join(chunks), receive), send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = problem(
            scope["path"],
            413,
            f"the body is larger than {self._bytes_max} bytes",
            remedy="Send less; keep large content elsewhere and put its address into the event.",
            headers={"Connection": "close"},
        )
        await response(scope, receive, send)


def _declared(scope: Scope) -> int:
    """The Content-Length, 0 where there is none that can be read."""
    text = next((value for name, value in scope["headers"] if name.lower() == b"content-length"), b"")
    return int(text) if text.isdigit() else 0


def _once(body: bytes, receive: Receive) -> Receive:
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
