"""Make a page from its template: values are escaped, and characters that deceive the eye are shown by their number.

Knows templates and the parts of every page; a page's own values come from its module. An unknown name in a
template is an error, never an empty text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, NamedTuple

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from choreo.app.query.freshness import Freshness
from choreo.app.query.status_text import duration, moment
from choreo.core.access import Actor, Caller, Role
from choreo.core.wording import counted
from choreo.surfaces.rest.access_control import CALLER
from choreo.surfaces.rest.use_cases import UseCases
from choreo.surfaces.web import csrf
from choreo.surfaces.web.changes import Changes, mark_of
from choreo.surfaces.web.links import Links

VERSION: str = version("choreo-kafka")
_NOBODY = Actor("", "")

# Control characters without tab and newline, marks that turn the direction of text or have no width, lone halves.
_DECEIVING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


class Entry(NamedTuple):
    """An entry of the navigation: its text, and the segments of the page's path."""

    text: str
    path: tuple[str, ...] = ()


def visible(value: object) -> object:
    """Return a text with each deceiving character as its number; other values as they are."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _DECEIVING.sub(lambda found: f"\\u{ord(found[0]):04x}", value)
    return value


def raw(value: str) -> Markup:
    """Return a text for the value of a form's field, escaped and otherwise unchanged: it comes back as it was."""
    return escape(value.encode(errors="replace").decode())


def when(time_ms: int) -> Markup:
    """Return a moment as an element that a script may show in local time; "–" for none."""
    if not time_ms:
        return Markup("–")
    text = moment(time_ms)
    return Markup('<time datetime="{}">{}</time>').format(text, text.replace("T", " "))


def as_json(value: object) -> str:
    """Return a value as JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


async def _begun(request: Request) -> None:
    changes: Changes = request.app.state.changes
    use_cases: UseCases = request.app.state.use_cases
    request.state.known = {state.flow: state for state in changes.known(use_cases.flows.names)}


Begun: Any = Depends(_begun)
"""Dependency of every page: take note of the positions that are known before the page is read."""


def _mark(request: Request, live: Live | None, caller: Caller) -> str:
    """Return the mark of the positions known before the page was read: a later change brings the page anew."""
    if live is None:
        return ""
    known: dict[str, Freshness] = request.state.known
    names = [live.flow] if live.flow else [name for name in known if caller.may(Role.VIEWER, name)]
    return mark_of([known[name] for name in names if name in known], live.partition)


class Renderer:
    """The templates."""

    def __init__(self) -> None:
        """Prepare them; each is read when it is first used."""
        self.environment: Environment = Environment(
            loader=PackageLoader("choreo.surfaces.web"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=visible,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self.environment.filters.update(raw=raw, when=when, duration=duration, json=as_json)
        self.environment.globals.update(counted=counted, choreo_version=VERSION)

    def page(self, name: str, values: Mapping[str, Any]) -> str:
        """Return the text of a page."""
        return self.environment.get_template(name).render(values)


class Live(NamedTuple):
    """The part of the log that a page shows: the page comes anew when it changes. Without a flow it is every flow."""

    flow: str = ""
    partition: int = -1
    """Of the flow; -1: all."""


def render(
    request: Request, template: str, *, title: str, status: int = 200, live: Live | None = None, **values: Any
) -> HTMLResponse:
    """Return a page; with `live` the browser keeps it up to date.

    Templates get `title`, `links`, `caller`, `may`, `csrf`, `nav` and `live` beside the values given here.
    """
    from choreo.surfaces.web.pages import NAV  # noqa: PLC0415 - the pages use this module

    renderer: Renderer = request.app.state.renderer
    use_cases: UseCases = request.app.state.use_cases
    caller: Caller = request.scope.get(CALLER) or Caller("", _NOBODY, {})
    token = csrf.token_of(request)
    text = renderer.page(
        template,
        {
            "title": title,
            "links": Links.of(request),
            "caller": caller,
            "may": lambda role, flow: caller.may(Role[role.upper()], flow),
            "controlled": use_cases.access is not None,
            "csrf": token,
            "session": request.app.state.sessions.is_open(request.scope),
            "nav": NAV,
            "live": live,
            "mark": _mark(request, live, caller),
            "section": request.scope["path"].split("/")[2:3],
            **values,
        },
    )
    answer = HTMLResponse(text, status)
    csrf.keep(request, answer, token)
    return answer
