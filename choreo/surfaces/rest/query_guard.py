"""Refuse a request with a part that no route would read: an unknown query parameter, a body that is not JSON.

A misspelt parameter would answer another question. A page of another origin can send a body of another type without
asking first (Fetch, "CORS-safelisted request-header"), so a route that writes accepts JSON alone, also for no body.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Depends, FastAPI, Request
from starlette.exceptions import HTTPException

from choreo.core.errors import DecodeError
from choreo.surfaces.rest.guard import SAFE_METHODS

JSON = "application/json"

_FREE = "attr."
"""The flow's own start event defines the attributes, so a list takes any name."""


async def _only_what_is_read(request: Request) -> None:
    if request.method not in SAFE_METHODS:
        _json_only(", ".join(request.headers.getlist("content-type")))
    if request.query_params:
        _utf8_only(request.scope["query_string"])
        _known_only(request)


def _json_only(content_type: str) -> None:
    """Raise 415 unless the Content-Type is JSON in UTF-8."""
    type_, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charsets = [part.removeprefix("charset=").strip('"') for part in parameters if part.startswith("charset=")]
    if type_ != JSON or any(charset not in ("utf-8", "utf8") for charset in charsets):
        raise HTTPException(
            415,
            f"the Content-Type is {content_type[:100]!r}" if content_type else "the request has no Content-Type",
            headers={"Accept": JSON},
        )


def _utf8_only(query: bytes) -> None:
    """Refuse bytes that are no text: replaced by U+FFFD, they would ask for another value."""
    try:
        unquote_to_bytes(query).decode()
    except UnicodeDecodeError as error:
        raise DecodeError(
            f"{query!r:.100} is not UTF-8 when decoded", where="query", remedy="Percent-encode UTF-8 bytes."
        ) from error


def _known_only(request: Request) -> None:
    route = request.scope.get("route")
    path = getattr(route, "path_format", "")
    known = _queries(request.app).get((path, request.method.lower()), frozenset())
    free = _FREE if path.endswith("/instances") else "\x00"
    unknown = sorted(name for name in request.query_params if name not in known and not name.startswith(free))
    if unknown:
        raise DecodeError(
            f"there is no such parameter: {', '.join(unknown)}",
            where="query",
            remedy=f"Known here: {', '.join(sorted(known)) or 'none'}.",
        )
    counts = Counter(name for name, _ in request.query_params.multi_items())
    twice = sorted(name for name, number in counts.items() if number > 1 and not name.startswith(free))
    if twice:
        raise DecodeError(
            f"given more than once: {', '.join(twice)[:200]}",
            where="query",
            remedy="Give each parameter once.",
        )


@cache
def _queries(app: FastAPI) -> dict[tuple[str, str], frozenset[str]]:
    """Return (path, method) → the names of its query parameters, from the API's description."""
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    return {
        (path, method): frozenset(p["name"] for p in operation.get("parameters", ()) if p["in"] == "query")
        for path, operations in paths.items()
        for method, operation in operations.items()
    }


OnlyWhatIsRead: Any = Depends(_only_what_is_read)
