"""Forms that the page posts: read as a browser sends them, checked, and answered with a redirect to the page."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from choreo.core.errors import DecodeError
from choreo.surfaces.web import csrf

_TYPE = "application/x-www-form-urlencoded"
FIELDS_MAX = 1_000
"""Fields of one form: a list of 500 things to choose from has that many."""


class Form(dict[str, str]):
    """The fields of a form by name; `pairs` has those, too, that stand several times."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        super().__init__(pairs)
        self.pairs: list[tuple[str, str]] = pairs

    def all(self, name: str) -> list[str]:
        """Return every value of a field."""
        return [value for key, value in self.pairs if key == name]


async def _form(request: Request) -> Form:
    type_ = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if type_ != _TYPE:
        raise HTTPException(415, f"a form is {_TYPE}, and this is {type_[:100]!r}")
    body = await request.body()
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    except ValueError as error:
        raise DecodeError("the form cannot be read", where="form", remedy="Load the page anew.") from error
    form = Form([(name, value.replace("\r\n", "\n")) for name, value in pairs])
    csrf.require(request, form)
    return form


Posted = Annotated[Form, Depends(_form)]
"""Dependency of each route that writes: the fields of a form that this browser's page has sent."""


def done(link: str) -> Response:
    """Return the answer to a form that was taken: the browser asks for the page at `link`."""
    return RedirectResponse(link, 303)
