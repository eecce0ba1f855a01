"""The pages of runs that stand still, and of due times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from choreo.core.access import Role
from choreo.surfaces.rest.parameters import FlowName
from choreo.surfaces.rest.roles import Need, Within
from choreo.surfaces.rest.use_cases import Asking, Injected
from choreo.surfaces.web.rendering import Live, render

router: APIRouter = APIRouter(prefix="/ui")
_TIMERS = "/flows/{flow}/timers"
ROLES: Mapping[str, Need] = {
    "GET /ui/stalled": Need(Role.VIEWER, Within.ANY),
    f"GET /ui{_TIMERS}": Need(Role.VIEWER),
}
ROWS_MAX = 100
PAGE_ROWS = 50


@router.get("/stalled")
async def _list_stalled(request: Request, use_cases: Injected, caller: Asking) -> HTMLResponse:
    """Show all that stands still in the flows that the caller may see."""
    flows = [name for name in use_cases.flows.names if caller.may(Role.VIEWER, name)]
    found = [await use_cases.queries.stalled(name, ROWS_MAX) for name in flows]
    return render(request, "stalled.html", title="Stalled", live=Live(), found=found, most=ROWS_MAX)


@router.get(_TIMERS)
async def _list_timers(
    request: Request,
    flow: FlowName,
    use_cases: Injected,
    cursor: Annotated[str, Query(max_length=2_000)] = "",
) -> HTMLResponse:
    """Show runs by their next due time, the earliest first."""
    page = await use_cases.queries.timers(flow, PAGE_ROWS, cursor)
    return render(
        request, "timers.html", title=f"Timers of {flow}", live=Live(flow), flow=flow, page=page, cursor=cursor
    )
