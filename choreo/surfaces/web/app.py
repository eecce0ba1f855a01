"""The application of the page: its routes with their roles, and the pages of errors."""

from __future__ import annotations

from fastapi import FastAPI

from choreo.surfaces.rest.access import Access, Listed, RouteTable
from choreo.surfaces.rest.guard import Guard
from choreo.surfaces.rest.masking import Masking
from choreo.surfaces.rest.roles import OPEN
from choreo.surfaces.rest.transport import BoundedBody, EncodedPath
from choreo.surfaces.rest.use_cases import UseCases
from choreo.surfaces.web import errors, static_files
from choreo.surfaces.web.changes import Changes
from choreo.surfaces.web.pages import PAGES, ROLES
from choreo.surfaces.web.rendering import Begun, Renderer
from choreo.surfaces.web.sessions import Sessions


def create_pages(use_cases: UseCases) -> FastAPI:
    """Create the page over these use cases; it opens and closes nothing."""
    app = FastAPI(
        title="choreo",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Listed, Begun],
    )
    app.state.use_cases = use_cases
    app.state.masking = Masking(use_cases.flows)
    app.state.renderer = Renderer()
    app.state.sessions = sessions = Sessions(use_cases.clock)
    app.state.changes = Changes(use_cases.queries)
    for page in PAGES:
        app.include_router(page.router)
    app.include_router(static_files.router)
    errors.install(app)
    table = RouteTable({**ROLES, f"GET /ui{static_files.PATH}": OPEN})
    # The last one added handles the request first.
    app.add_middleware(BoundedBody)
    app.add_middleware(
        Access,
        control=use_cases.access,
        table=table,
        authorization=sessions.authorization,
        refuse=errors.refusal_of(app),
    )
    app.add_middleware(Guard, allowed_hosts=use_cases.allowed_hosts)
    app.add_middleware(EncodedPath)
    return app
