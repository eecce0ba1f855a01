"""Errors as RFC 9457 problem documents: one form for the errors of choreo, of routing and of validation."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from choreo.app.query.attribute_filters import FilterError
from choreo.app.query.status_text import moment
from choreo.core.errors import (
    ChoreoError,
    ConflictError,
    DecodeError,
    LeaseLostError,
    NotFoundError,
    SchemaError,
    StorageError,
    UnavailableError,
)
from choreo.core.wording import fault_text
from choreo.ports.dependencies import Unavailable
from choreo.redaction import redact
from choreo.surfaces.rest.access_control import ForbiddenError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
"""A tracker that lags catches up within about a second; locked storage is free again sooner."""


class BadCursorError(DecodeError):
    """An invalid cursor: the request is malformed, because a client only passes back cursors that it got."""


class NotReadyError(UnavailableError):
    """This process cannot use one of its dependencies."""

    def __init__(self, unavailable: Sequence[Unavailable]) -> None:
        """Name all of them; the remedy is that of the one that is away longest."""
        self.unavailable = unavailable
        names = ", ".join(one.name for one in unavailable)
        super().__init__(f"cannot be used: {names}", where="this process", remedy=unavailable[0].remedy)


_log = logging.getLogger(__name__)

# The first class that matches decides; an error that is not listed is an internal error.
_STATUSES: Sequence[tuple[type[ChoreoError], int, str]] = (
    (ForbiddenError, 403, "forbidden"),
    (NotFoundError, 404, "not-found"),
    (ConflictError, 409, "conflict"),
    (BadCursorError, 400, "bad-cursor"),
    (FilterError, 400, "bad-filter"),
    (DecodeError, 422, "invalid"),
    (SchemaError, 422, "invalid"),
    (UnavailableError, 503, "unavailable"),
    (StorageError, 503, "unavailable"),
    (LeaseLostError, 503, "unavailable"),
)
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    421: "Misdirected Request",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
"""Names of RFC 9110 and 6585: Python's own change from version to version, and a problem's type must not."""

REMEDIES = {
    400: "Send one JSON object in UTF-8, as /openapi.json describes it.",
    404: "See /openapi.json for the paths there are; encode a key's special characters (a slash is %2F).",
    405: "Use a method that the Allow header names.",
    413: "Send less: a body is at most 1 MiB; keep large content elsewhere and put its address into the event.",
    417: "Leave the Expect header out, or say 100-continue.",
    415: "Send JSON in UTF-8 with `Content-Type: application/json`, also where there is no body.",
}


class Fault(BaseModel):
    """One fault of a request."""

    where: str = Field(examples=["query.limit"])
    what: str = Field(examples=["Input should be less than or equal to 500"])


class UnavailableDependency(BaseModel):
    """One dependency that cannot be used."""

    name: str = Field(examples=["redis"])
    since: str = Field(examples=["2026-01-01T00:00:00.000Z"], description="Time of the first report.")
    cause: str = Field(examples=["Redis at db:6379: Connection refused"])
    remedy: str = Field(examples=["Start it, or correct CHOREO_REDIS; work is held until it answers."])


class Problem(BaseModel):
    """An error: the fault, its place, and the remedy (RFC 9457)."""

    type: str = Field(examples=["urn:choreo:problem:not-found"], description="The kind of problem.")
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["there is no instance 'o-1001'"], description="The problem, in a sentence.")
    instance: str = Field(examples=["/flows/order/instances/o-1001"], description="The path of the request.")
    where: str = Field(default="", examples=["flow order"], description="The thing that the detail is about.")
    remedy: str = Field(default="", description="The action that helps.")
    errors: list[Fault] = Field(default=[], description="Each fault, where a request has several.")
    dependencies: list[UnavailableDependency] = Field(
        default=[], description="On /readyz: each dependency that this process cannot use, the longest first."
    )


def problem(
    path: str,
    status: int,
    detail: str,
    *,
    kind: str = "",
    where: str = "",
    remedy: str = "",
    errors: Sequence[Fault] = (),
    unavailable: Sequence[Unavailable] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the response with this problem; `path` is the request's."""
    title = TITLES.get(status) or HTTPStatus(status).phrase
    content = Problem(
        type=f"urn:choreo:problem:{kind or title.lower().replace(' ', '-')}",
        title=title,
        status=status,
        detail=redact(detail),
        instance=path,
        where=where,
        remedy=redact(remedy),
        errors=list(errors),
        dependencies=[
            UnavailableDependency(
                name=one.name, since=moment(one.since_ms), cause=redact(one.cause), remedy=redact(one.remedy)
            )
            for one in unavailable
        ],
    )
    headers = dict(headers or {})
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    # json.dumps escapes characters that UTF-8 cannot encode: a refused key is shown as it came.
    return Response(json.dumps(content.model_dump()), status, headers, MEDIA_TYPE)


def raw_problem(status: int, detail: str, remedy: str) -> bytes:
    """Return the whole answer to bytes that are no request yet; the connection is closed after it."""
    answer = problem("", status, detail, remedy=remedy, headers={"Connection": "close"})
    lines = [f"HTTP/1.1 {status} {TITLES[status]}".encode(), *(b"%s: %s" % header for header in answer.raw_headers)]
    return b"\r\n".join([*lines, b"", bytes(answer.body)])


def install(app: FastAPI) -> None:
    """Make every error of the app a problem document."""
    app.add_exception_handler(ChoreoError, _of_choreo)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _unexpected)


async def _of_choreo(request: Request, error: Any) -> Response:
    status, kind = status_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return await _unexpected(request, error)
    return problem(
        request.scope["path"],
        status,
        error.what,
        kind=kind,
        where=error.where,
        remedy=error.remedy,
        errors=[Fault(where=where, what=what) for where, what in getattr(error, "faults", ())],
        unavailable=error.unavailable if isinstance(error, NotReadyError) else (),
    )


def status_of(error: ChoreoError) -> tuple[int, str]:
    """Return the status of an error and the kind of its problem; 500 for one that is not expected."""
    for class_, status, kind in _STATUSES:
        if isinstance(error, class_):
            return status, kind
    return 500, ""


async def _of_validation(request: Request, error: Any) -> Response:
    """Answer a failed validation: 400 where the body is no JSON at all, 422 where its content is invalid."""
    reported = error.errors()
    status = 400 if any(item["type"] == "json_invalid" for item in reported) else 422
    faults = [Fault(where=".".join(str(part) for part in item["loc"]), what=_fault_of(item)) for item in reported]
    first, more = faults[0], len(faults) - 1
    return problem(
        request.scope["path"],
        status,
        f"{first.what}{f' (and {more} more)' if more else ''}",
        kind="invalid",
        where=first.where,
        remedy="Correct the parts in `errors`; /openapi.json describes each part.",
        errors=faults,
    )


def _fault_of(fault: Mapping[str, Any]) -> str:
    """Return pydantic's message without its own class names, and with the place where JSON breaks off."""
    message = fault_text(fault)
    return f"{message}: {fault['ctx']['error']}" if fault["type"] == "json_invalid" else message


def _allowed(request: Request, named: str) -> list[str]:
    """Return the methods of the request's path: those of its first route, and of the others in the description."""
    path = getattr(request.scope.get("route"), "path_format", "")
    found = {*filter(None, named.split(", ")), *map(str.upper, request.app.openapi()["paths"].get(path, ()))}
    return sorted(found | ({"HEAD"} if "GET" in found else set()))


async def _of_http(request: Request, error: Any) -> Response:
    status = error.status_code
    detail = {
        404: "there is nothing at this path",
        405: f"{request.method} is not allowed here",
    }.get(status, error.detail)
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request, headers.get("Allow", "")))
    return problem(request.scope["path"], status, detail, remedy=REMEDIES.get(status, ""), headers=headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.scope["path"], exc_info=error)
    return problem(
        request.scope["path"], 500, "an unexpected error; the server's log has it", remedy="Tell the operator."
    )
