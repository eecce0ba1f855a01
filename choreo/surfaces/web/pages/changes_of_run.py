"""The difference of two positions of a run: the fields of its state that changed, and the events between."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from choreo.core.access import Role
from choreo.surfaces.rest.parameters import At, FlowName, Key
from choreo.surfaces.rest.past import between_of
from choreo.surfaces.rest.roles import Need
from choreo.surfaces.rest.use_cases import Asking, Hiding, Injected
from choreo.surfaces.web.run_page import INSTANCE, OneRun

router: APIRouter = APIRouter(prefix="/ui")
ROLES: Mapping[str, Need] = {f"GET /ui{INSTANCE}/changes": Need(Role.VIEWER)}


@router.get(f"{INSTANCE}/changes")
async def _show_changes(
    *,
    request: Request,
    flow: FlowName,
    key: Key,
    page: OneRun,
    use_cases: Injected,
    caller: Asking,
    hiding: Hiding,
    since: At = "",
    at: At = "",
) -> HTMLResponse:
    """Show the changes from one position, or the begin, to another one, or the present."""
    run = page.instance.row.run
    between = await between_of(use_cases, caller, hiding, flow, key, run, (since, at))
    return page.render(request, "changes.html", between=between, since=since, at=at)
