"""The page of the event catalogue: declared producers and consumers beside those seen, and every difference."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from choreo.core.access import Role
from choreo.surfaces.rest.roles import Need, Within
from choreo.surfaces.rest.use_cases import Asking, Injected
from choreo.surfaces.web.rendering import Live, render

router: APIRouter = APIRouter(prefix="/ui")
ROLES: Mapping[str, Need] = {"GET /ui/events": Need(Role.VIEWER, Within.ANY)}


@router.get("/events")
async def _list_events(request: Request, use_cases: Injected, caller: Asking) -> HTMLResponse:
    """Show the event types of the flows that the caller may see, those with a difference first."""
    flows = [name for name in use_cases.flows.names if caller.may(Role.VIEWER, name)]
    found = [await use_cases.queries.catalogue(name) for name in flows]
    return render(request, "events.html", title="Events", live=Live(), found=found)
