"""The errors of routes, for the API's description; openapi.py adds the problem's schema to each."""

from __future__ import annotations

from typing import Any

WHY = {
    400: "The request cannot be read: it is no JSON, or its cursor is invalid.",
    401: "The request has no valid credential.",
    403: "A page of another origin sent it, or the caller's role does not suffice.",
    404: "The resource does not exist.",
    409: "It does not fit the present state; the remedy names an action that does.",
    413: "The body is larger than 1 MiB.",
    415: "The Content-Type is not JSON; also required without a body.",
    422: "A parameter or field is invalid.",
    429: "Too many requests, or too many wrong credentials; Retry-After says when to ask again.",
    500: "An unexpected error.",
    503: "Storage, or the requested position, is not available now; Retry-After says when to ask again.",
}
ALWAYS = (422, 500, 503)
"""Any route may answer these."""


def refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that refuses with these statuses, and with those of every route."""
    return {status: {"description": WHY[status]} for status in sorted({*statuses, *ALWAYS})}


def refused_write(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that writes: each takes a body, which may be no JSON or too large."""
    return refused(400, 403, 413, 415, *statuses)
