"""The REST view as one ASGI application: the routers, errors as problems, the API's description."""

from __future__ import annotations

from fastapi import FastAPI

from choreo.surfaces.rest import actions, dead_letters, docs, flows, health, instances, openapi, problems, strict
from choreo.surfaces.rest.doors import Doors
from choreo.surfaces.rest.guard import Guard
from choreo.surfaces.rest.reads import Reads
from choreo.surfaces.rest.structured import Structured
from choreo.surfaces.rest.transport import BoundedBody, EncodedPath


def create_health_app(doors: Doors) -> FastAPI:
    """Health and metrics alone: what a process without the REST view shows of itself, and nobody can act through."""
    app = FastAPI(title="choreo health", version="1", openapi_url=None, redirect_slashes=False)
    app.state.doors = doors
    app.include_router(health.router)
    problems.install(app)
    app.add_middleware(Reads)
    app.add_middleware(EncodedPath)
    return app


def create_app(doors: Doors) -> FastAPI:
    """The application over these doors; it opens and closes nothing."""
    app = FastAPI(
        title="choreo",
        version="1",
        summary="Event-sourced choreography: flows, their instances, and what operators do to them.",
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        dependencies=[strict.OnlyWhatIsRead],
    )
    app.state.doors = doors
    for module in (flows, instances, actions, dead_letters, health, docs):
        app.include_router(module.router)
    problems.install(app)
    openapi.install(app, doors.flows)
    # The last one added sees the request first: the path must be right before a body is refused in its name.
    app.add_middleware(Structured)
    app.add_middleware(Reads)
    app.add_middleware(BoundedBody)
    app.add_middleware(Guard, allowed_hosts=doors.allowed_hosts)
    app.add_middleware(EncodedPath)
    return app
