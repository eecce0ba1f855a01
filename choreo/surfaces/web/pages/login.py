"""Log in with an API key or a token, and log out: the page's session takes the place of the header Authorization."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from choreo.core.errors import ChoreoError
from choreo.surfaces.rest.access import refusal_status
from choreo.surfaces.rest.roles import OPEN, Need
from choreo.surfaces.rest.use_cases import Injected
from choreo.surfaces.web import csrf
from choreo.surfaces.web.forms import Posted, done
from choreo.surfaces.web.links import Links
from choreo.surfaces.web.rendering import render
from choreo.surfaces.web.sessions import COOKIE, Sessions, token_in

router: APIRouter = APIRouter(prefix="/ui")
ROLES: Mapping[str, Need] = {"GET /ui/login": OPEN, "POST /ui/login": OPEN, "POST /ui/logout": OPEN}

_PLACE = re.compile(r"(?!/)(?!.*(?:\.\.|//))[A-Za-z0-9%._~!$'()*+,;=:@/?&-]{0,2000}")
"""A path below `/ui` with its query: relative, and never above it."""


@router.get("/login")
async def _show_form(
    request: Request, use_cases: Injected, next_: Annotated[str, Query(alias="next", max_length=2_000)] = ""
) -> Response:
    """Show the form; where nothing is controlled there is nothing to log in to."""
    if use_cases.access is None:
        return done(Links.of(request).to("flows"))
    return render(request, "login.html", title="Log in", place=_place(next_), error=None)


@router.post("/login")
async def _log_in(request: Request, use_cases: Injected, form: Posted) -> Response:
    """Begin a session with a credential that access control takes; wrong ones of an address are limited."""
    place, links = _place(form.get("next", "")), Links.of(request)
    if use_cases.access is None:
        return done(links.to("flows"))
    credential = form.get("credential", "").strip()
    address = request.client.host if request.client else ""
    try:
        await use_cases.access.caller([f"Bearer {credential}"], address)
    except ChoreoError as error:
        status, headers = refusal_status(error)
        answer = render(request, "login.html", title="Log in", status=status, place=place, error=error)
        answer.headers.update(headers)
        return answer
    sessions: Sessions = request.app.state.sessions
    sessions.end(token_in(request.scope))
    entered: Response = done(f"./{place or 'flows'}")
    csrf.set_cookie(request, entered, COOKIE, sessions.begin(credential))
    return entered


@router.post("/logout")
async def _log_out(request: Request, form: Posted) -> Response:  # noqa: ARG001 - the form proves that it is this page's
    """End the session, and its open streams."""
    sessions: Sessions = request.app.state.sessions
    sessions.end(token_in(request.scope))
    answer = done(Links.of(request).to("login"))
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=csrf.is_secure(request))
    return answer


def _place(text: str) -> str:
    """Return the page to lead to after the login; "" for a text that is none."""
    return text if _PLACE.fullmatch(text) else ""
