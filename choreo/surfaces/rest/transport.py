"""Prepare a request before it is routed: its path is kept as the client sent it, its body is bounded.

Plain ASGI, no framework: both must handle the request before anything has decoded or read it.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from choreo.surfaces.rest.guard import SAFE_METHODS
from choreo.surfaces.rest.problems import REMEDIES, problem

BODY_BYTES_MAX = 1 << 20
"""1 MiB: Kafka's default limit for a message, so that no body is accepted that could not be published."""

CLOSE = {"Connection": "close"}
"""The unread rest of the body would be parsed as the client's next request."""


class EncodedPath:
    """Routes by the path as the client sent it: a key with a slash (%2F) stays one segment; one at the end is none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Replace the decoded path; for a server without the raw path, encode it again."""
        if scope["type"] == "http":
            raw = scope.get("raw_path")
            path = raw.decode("latin-1") if raw else quote(scope["path"])
            path = quote(path, safe="%/:@!$&'()*+,;=~-._?")
            scope = {**scope, "path": path.removesuffix("/") or "/"}
        await self._app(scope, receive, send)


class BoundedBody:
    """Refuses a body that is too large, by its declared length or while it is read, or that is compressed."""

    def __init__(self, app: ASGIApp, bytes_max: int = BODY_BYTES_MAX) -> None:
        self._app = app
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the bytes read: a client that asks first (Expect) sends nothing before the app reads."""
        if scope["type"] != "http" or scope["method"] in SAFE_METHODS:
            await self._app(scope, receive, send)
        elif _declared(scope) > self._bytes_max:
            await problem(scope["path"], 413, self._why, remedy=REMEDIES[413], headers=CLOSE)(scope, receive, send)
        elif _expects(scope) not in ("", "100-continue"):
            detail = f"Expect is not supported: {_expects(scope):.100}"
            await problem(scope["path"], 417, detail, remedy=REMEDIES[417])(scope, receive, send)
        elif coding := _coding(scope):
            await _unsupported(scope["path"], coding)(scope, receive, send)
        else:
            await self._app(scope, self._counted(receive), send)

    @property
    def _why(self) -> str:
        return f"the body is larger than {self._bytes_max} bytes"

    def _counted(self, receive: Receive) -> Receive:
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._bytes_max:
                raise HTTPException(413, self._why, headers=CLOSE)
            return message

        return counted


def _unsupported(path: str, coding: str) -> Response:
    """Return the refusal of a content coding; it names the supported codings (RFC 9110, 15.5.16)."""
    return problem(
        path,
        415,
        f"the body has the encoding {coding[:100]!r}, and no content coding is supported",
        where="header Content-Encoding",
        remedy="Send the body as it is, without Content-Encoding.",
        headers={**CLOSE, "Accept-Encoding": "identity"},
    )


def _coding(scope: Scope) -> str:
    """Return the content codings that the request names, without `identity`, which changes nothing; "" for none."""
    named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"content-encoding"]
    codings = [coding.strip().lower() for coding in ",".join(named).split(",")]
    return ", ".join(coding for coding in codings if coding not in ("", "identity"))


def _declared(scope: Scope) -> int:
    """Return the Content-Length, 0 where there is none that can be read."""
    text = _header(scope, b"content-length")
    return int(text) if text.isdigit() else 0


def _expects(scope: Scope) -> str:
    return _header(scope, b"expect").decode("latin-1").strip().lower()


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")
