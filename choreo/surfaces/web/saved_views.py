"""Saved views: filters of lists with a name, kept in a cookie of the browser, so that they work without scripts.

A view is the query of a list's address; it is shown as a link.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec
from fastapi import Request
from fastapi.responses import Response

from choreo.core.errors import ConflictError, DecodeError
from choreo.surfaces.web import csrf

COOKIE = "choreo_views"
BYTES_MAX = 3_500
"""Of the cookie: browsers keep 4 KB of each."""
NAME_MAX = 60
QUERY_MAX = 1_000
_YEAR_S = 31_536_000


class View(msgspec.Struct, frozen=True, array_like=True):
    """A filter of the list of one flow; `flow` is empty on the views that every flow has."""

    flow: str
    name: str
    query: str


BUILT_IN = (
    View("", "all", ""),
    View("", "stuck", "status=stuck"),
    View("", "compensating", "status=compensating"),
    View("", "paused", "status=paused"),
    View("", "running", "status=running"),
)

_decoder = msgspec.json.Decoder(list[View])


def of(request: Request, flow: str) -> list[View]:
    """Return the views of a flow that this browser keeps."""
    return [view for view in _kept(request) if view.flow == flow]


def save(request: Request, answer: Response, view: View) -> None:
    """Keep a view, in place of one of its name; raises DecodeError, and ConflictError where the cookie is full."""
    if not view.name.strip() or len(view.name) > NAME_MAX or len(view.query) > QUERY_MAX:
        raise DecodeError(
            f"a view has a name of at most {NAME_MAX} characters, and a filter of at most {QUERY_MAX}",
            where="view",
            remedy="Shorten it.",
        )
    _write(
        request, answer, [*(kept for kept in _kept(request) if (kept.flow, kept.name) != (view.flow, view.name)), view]
    )


def remove(request: Request, answer: Response, flow: str, name: str) -> None:
    """Forget a view."""
    _write(request, answer, [view for view in _kept(request) if (view.flow, view.name) != (flow, name)])


def _kept(request: Request) -> list[View]:
    """Return the views in the cookie; a cookie of another form has none."""
    try:
        return _decoder.decode(urlsafe_b64decode(request.cookies.get(COOKIE, "")))
    except (msgspec.DecodeError, binascii.Error, ValueError):
        return []


def _write(request: Request, answer: Response, views: list[View]) -> None:
    text = urlsafe_b64encode(msgspec.json.encode(views)).decode()
    if len(text) > BYTES_MAX:
        raise ConflictError("there is no room for one more view", where="views", remedy="Remove one first.")
    csrf.set_cookie(request, answer, COOKIE, text, max_age=_YEAR_S)
