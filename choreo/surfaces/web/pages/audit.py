"""The list of operators' actions on a flow, newest first: each with its author, reason and position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from choreo.app.query.read_your_writes import token_of
from choreo.core.access import Role
from choreo.surfaces.rest.access import require
from choreo.surfaces.rest.roles import Need, Within
from choreo.surfaces.rest.use_cases import Asking, Injected
from choreo.surfaces.web.rendering import Live, render

router: APIRouter = APIRouter(prefix="/ui")
ROLES: Mapping[str, Need] = {"GET /ui/audit": Need(Role.VIEWER, Within.ANY)}
PAGE_ROWS = 50


@router.get("/audit")
async def _list_actions(
    request: Request,
    use_cases: Injected,
    caller: Asking,
    flow: Annotated[str, Query(max_length=249)] = "",
    cursor: Annotated[str, Query(max_length=10_000)] = "",
) -> HTMLResponse:
    """Show the actions on one flow: the named one, or the first that the caller may see."""
    names = [name for name in use_cases.flows.names if caller.may(Role.VIEWER, name)]
    flow = flow or next(iter(names), "")
    page = None
    if flow:
        require(caller, Role.VIEWER, flow)
        page = await use_cases.operator.audit(flow, PAGE_ROWS, cursor)
    return render(
        request,
        "audit.html",
        title="Audit",
        live=Live(flow) if flow else None,
        flow=flow,
        flows=names,
        rows=[(row, token_of(row.position)) for row in page.items] if page else [],
        following=page.cursor if page else "",
    )
