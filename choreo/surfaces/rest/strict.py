"""A query parameter that no one reads is a slip of the pen, and would answer another question: it is refused."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import Depends, FastAPI, Request

from choreo.core.errors import DecodeError

_FREE = "attr."
"""Attributes are named by the flow's own start event, so a list takes any."""


def _only_known(request: Request) -> None:
    if not request.query_params:
        return
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


@cache
def _queries(app: FastAPI) -> dict[tuple[str, str], frozenset[str]]:
    """(path, method) → the names of its query parameters, as the API's description has them."""
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    return {
        (path, method): frozenset(p["name"] for p in operation.get("parameters", ()) if p["in"] == "query")
        for path, operations in paths.items()
        for method, operation in operations.items()
    }


OnlyKnownQueries = Depends(_only_known)
