"""Tokens against forged requests: a form holds the same random text as a cookie, which a foreign page cannot read.

The guard's check of the origin stands before it; this holds also where a browser sends neither header. Needs no memory
of the server, so that every process of a view takes the forms of every other.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping

from fastapi import Request
from fastapi.responses import Response

from choreo.surfaces.rest.access_control import ForbiddenError

COOKIE = "choreo_form"
FIELD = "csrf"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
_BYTES = 24


def token_of(request: Request) -> str:
    """Return the token of the browser's cookie, or a new one."""
    known = request.cookies.get(COOKIE, "")
    return known if _TOKEN.fullmatch(known) else secrets.token_urlsafe(_BYTES)


def keep(request: Request, answer: Response, token: str) -> None:
    """Set the cookie unless the browser has it."""
    if request.cookies.get(COOKIE) != token:
        set_cookie(request, answer, COOKIE, token)


def set_cookie(request: Request, answer: Response, name: str, value: str, *, max_age: int | None = None) -> None:
    """Set a cookie that no script reads and no other site sends; only over TLS where the page came so."""
    answer.set_cookie(
        name, value, max_age=max_age, path="/", httponly=True, samesite="strict", secure=is_secure(request)
    )


def is_secure(request: Request) -> bool:
    """Return whether the browser reached the page over TLS; a proxy that ends it sends X-Forwarded-Proto."""
    return request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "").lower() == "https"


def require(request: Request, form: Mapping[str, str]) -> None:
    """Raise ForbiddenError unless the form has the token of the cookie."""
    known = request.cookies.get(COOKIE, "")
    if not _TOKEN.fullmatch(known) or not hmac.compare_digest(known.encode(), form.get(FIELD, "").encode()):
        raise ForbiddenError(
            "the form is not of this browser's page",
            where="form",
            remedy="Go back, load the page anew, and press the button again; cookies must be allowed.",
        )
