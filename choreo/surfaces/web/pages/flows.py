"""The pages of flows: each with its runs by status, and one with the open runs of each step."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from choreo.app.query.open_steps import open_steps
from choreo.core.access import Role
from choreo.core.state import STATUSES
from choreo.surfaces.rest.parameters import FlowName
from choreo.surfaces.rest.roles import Need, Within
from choreo.surfaces.rest.use_cases import Asking, Injected
from choreo.surfaces.web.links import Links
from choreo.surfaces.web.rendering import Live, render

router: APIRouter = APIRouter(prefix="/ui")

ROLES: Mapping[str, Need] = {
    "GET /ui": Need(Role.VIEWER, Within.ANY),
    "GET /ui/flows": Need(Role.VIEWER, Within.ANY),
    "GET /ui/flows/{flow}": Need(Role.VIEWER),
}


@router.get("")
async def _begin(request: Request) -> Response:
    """Lead to the list of flows."""
    return RedirectResponse(Links.of(request).to("flows"), 303)


@router.get("/flows")
async def _list_flows(request: Request, use_cases: Injected, caller: Asking) -> HTMLResponse:
    """Show the flows that the caller may see, with their runs by status and their dead letters."""
    queries, rows = use_cases.queries, []
    for name in use_cases.flows.names:
        if caller.may(Role.VIEWER, name):
            letters = await queries.dead_letter_count(name)
            rows.append((use_cases.flows.definition(name), await queries.counts(name), letters))
    return render(request, "flows.html", title="Flows", live=Live(), rows=rows, statuses=STATUSES)


@router.get("/flows/{flow}")
async def _show_flow(request: Request, flow: FlowName, use_cases: Injected) -> HTMLResponse:
    """Show one flow: its runs by status, its steps with the open runs that stand there, its waits."""
    definition = use_cases.flows.definition(flow)
    return render(
        request,
        "flow.html",
        title=f"Flow {flow}",
        live=Live(flow),
        flow=definition,
        counts=await use_cases.queries.counts(flow),
        letters=await use_cases.queries.dead_letter_count(flow),
        steps=await open_steps(use_cases.queries, definition),
        statuses=STATUSES,
        outcomes=await use_cases.queries.outcomes(flow),
    )
