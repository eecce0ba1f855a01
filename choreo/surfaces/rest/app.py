"""The REST view as one ASGI application: the routers, errors as problems, the API's description."""

from __future__ import annotations

from fastapi import FastAPI

from choreo.surfaces.rest import (
    actions,
    audit,
    batches,
    dead_letters,
    docs,
    events,
    flows,
    groups,
    health,
    instances,
    openapi,
    past,
    problems,
    query_guard,
    stalled,
)
from choreo.surfaces.rest.access import Access, Listed
from choreo.surfaces.rest.guard import Guard
from choreo.surfaces.rest.masking import Masking
from choreo.surfaces.rest.reads import Reads
from choreo.surfaces.rest.structured import Structured
from choreo.surfaces.rest.transport import BoundedBody, EncodedPath
from choreo.surfaces.rest.use_cases import UseCases


def create_health_app(use_cases: UseCases) -> FastAPI:
    """Create the application of health and metrics alone, for a process without the REST view; it offers no action."""
    app = FastAPI(title="choreo health", version="1", openapi_url=None, redirect_slashes=False)
    app.state.use_cases = use_cases
    app.include_router(health.router)
    problems.install(app)
    app.add_middleware(Reads)
    app.add_middleware(EncodedPath)
    return app


def create_app(use_cases: UseCases) -> FastAPI:
    """Create the application over these use cases; it opens and closes nothing."""
    app = FastAPI(
        title="choreo",
        version="1",
        summary="Event-sourced choreography: flows, their instances, and the actions of operators.",
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        dependencies=[Listed, query_guard.OnlyWhatIsRead],
    )
    app.state.use_cases = use_cases
    app.state.masking = Masking(use_cases.flows)
    for module in (
        flows,
        instances,
        past,
        stalled,
        groups,
        events,
        actions,
        audit,
        batches,
        dead_letters,
        health,
        docs,
    ):
        app.include_router(module.router)
    problems.install(app)
    openapi.install(app, use_cases)
    # The last one added handles the request first: the path must be right before a body is refused with that path.
    app.add_middleware(Structured)
    app.add_middleware(Reads)
    app.add_middleware(BoundedBody)
    app.add_middleware(Access, control=use_cases.access)
    app.add_middleware(Guard, allowed_hosts=use_cases.allowed_hosts)
    app.add_middleware(EncodedPath)
    return app
