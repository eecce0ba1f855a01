"""How routes document what they refuse; openapi.py puts the problem's schema beside each."""

from __future__ import annotations

from typing import Any

WHY = {
    400: "The request cannot be read: no JSON, or a cursor that is not one of ours.",
    403: "A page of another origin sent it.",
    404: "What was asked for is not there.",
    409: "It does not fit the present state; the remedy says what does.",
    413: "The body is larger than 1 MiB.",
    415: "The request does not say that its body is JSON; also where there is none.",
    422: "A parameter or field is not what it must be.",
    500: "An unexpected error.",
    503: "Storage, or the position asked for, is away for now; Retry-After says when to ask again.",
}
ALWAYS = (422, 500, 503)
"""Any route may answer these."""


def refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that refuses with these statuses, and with those of every route."""
    return {status: {"description": WHY[status]} for status in sorted({*statuses, *ALWAYS})}


def refused_write(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that writes."""
    return refused(403, 415, *statuses)
