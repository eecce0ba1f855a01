"""Errors as pages: the same status, sentence and remedy as the REST view gives, in HTML.

A form that a script has sent gets the box alone, which is put above the page: the page stays as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import Scope

from choreo.core.errors import ChoreoError
from choreo.core.wording import fault_text
from choreo.ports.access import UnauthenticatedError
from choreo.redaction import redact
from choreo.surfaces.rest.access import authorization_of, refusal_status
from choreo.surfaces.rest.problems import TITLES, status_of
from choreo.surfaces.web.links import Links
from choreo.surfaces.web.rendering import render
from choreo.surfaces.web.sessions import token_in

_log = logging.getLogger(__name__)
_LOST = "Follow a link of the navigation."


def install(app: FastAPI) -> None:
    """Make every error of the page a page."""
    app.add_exception_handler(ChoreoError, _of_choreo)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _unexpected)


def error_page(request: Request, status: int, what: str, *, where: str = "", remedy: str = "") -> Response:
    """Return the page of an error."""
    by_script = request.headers.get("hx-request") == "true"
    answer = render(
        request,
        "error_box.html" if by_script else "error.html",
        title=TITLES.get(status, "Error"),
        status=status,
        what=redact(what),
        where=where,
        remedy=redact(remedy),
    )
    if by_script:
        answer.headers.update({"HX-Retarget": "#notice", "HX-Reswap": "innerHTML", "HX-Reselect": "#error"})
    return answer


def refusal_of(app: FastAPI) -> Callable[[Scope, ChoreoError], Response]:
    """Return a function that answers a request which access control does not pass on."""

    def refuse(scope: Scope, error: ChoreoError) -> Response:
        status, headers = refusal_status(error)
        request = Request({**scope, "app": app})
        remedy = error.remedy
        if isinstance(error, UnauthenticatedError) and not authorization_of(scope):
            # The session is over, or there was none.
            app.state.sessions.end(token_in(scope))
            if _is_page(request):
                links = Links.of(request)
                return RedirectResponse(links.to("login", next=links.place), 303)
            if _is_refresh(request):
                return Response(status_code=204, headers={"HX-Refresh": "true"})
            remedy = "Load the page anew to log in."
        answer = error_page(request, status, error.what, where=error.where, remedy=remedy)
        answer.headers.update(headers)
        return answer

    return refuse


def _is_page(request: Request) -> bool:
    """Return whether a person asks for a page, and not a program or a script of the page."""
    asks_for_html = "text/html" in request.headers.get("accept", "")
    return request.method in ("GET", "HEAD") and asks_for_html and "hx-request" not in request.headers


def _is_refresh(request: Request) -> bool:
    """Return whether an open page asks for its newest state; it loads itself anew, which leads to the login."""
    return request.method == "GET" and request.headers.get("hx-request") == "true"


async def _of_choreo(request: Request, error: Any) -> Response:
    status, _ = status_of(error)
    if status == 500:
        return await _unexpected(request, error)
    return error_page(request, status, error.what, where=error.where, remedy=error.remedy)


async def _of_validation(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return error_page(request, 422, fault_text(first), where=where, remedy="Correct it in the address, or go back.")


async def _of_http(request: Request, error: Any) -> Response:
    details = {404: "there is no such page", 405: f"{request.method} is not allowed here"}
    answer = error_page(
        request, error.status_code, details.get(error.status_code, error.detail), where="address", remedy=_LOST
    )
    answer.headers.update(error.headers or {})
    return answer


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.scope["path"], exc_info=error)
    return error_page(request, 500, "an unexpected error; the server's log has it", remedy="Tell the operator.")
