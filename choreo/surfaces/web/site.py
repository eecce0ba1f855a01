"""The REST view and the web page as one application: requests below `/ui` go to the page's, all others to the API's."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from choreo.surfaces.rest.app import create_app
from choreo.surfaces.rest.use_cases import UseCases
from choreo.surfaces.web.app import create_pages
from choreo.surfaces.web.headers import Headers

PREFIX = "/ui"


def create_site(use_cases: UseCases, pages: FastAPI | None = None) -> FastAPI:
    """Create the REST view with the page; it opens and closes nothing. `pages`: those made before, for tests."""
    app = create_app(use_cases)
    app.add_middleware(_Pages, pages=Headers(pages or create_pages(use_cases)))
    return app


class _Pages:
    """Gives the page's requests to its application; a browser that asks for `/` is led to the page."""

    def __init__(self, app: ASGIApp, pages: ASGIApp) -> None:
        self._app = app
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        path = scope.get("path", "")
        if scope["type"] == "http" and (path == PREFIX or path.startswith(f"{PREFIX}/")):
            await self._pages(scope, receive, send)
        elif scope["type"] == "http" and path == "/" and _wants_html(scope):
            # Relative, so that it works below a path of a proxy.
            await RedirectResponse("ui", 307, {"Cache-Control": "no-store", "Vary": "Accept"})(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _wants_html(scope: Scope) -> bool:
    """Return whether the client names HTML, as browsers do; a program that takes anything gets the API's answer."""
    return any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
