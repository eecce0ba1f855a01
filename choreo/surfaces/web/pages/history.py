"""The history of one run: every event of its log with its headers and fields, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from choreo.core.access import Role
from choreo.surfaces.rest.parameters import FlowName, Key
from choreo.surfaces.rest.roles import Need
from choreo.surfaces.rest.use_cases import Asking, Hiding, Injected
from choreo.surfaces.web.run_page import INSTANCE, OneRun

router: APIRouter = APIRouter(prefix="/ui")
ROLES: Mapping[str, Need] = {f"GET /ui{INSTANCE}/history": Need(Role.VIEWER)}
PAGE_ROWS = 100


@router.get(f"{INSTANCE}/history")
async def _show_history(
    *,
    request: Request,
    flow: FlowName,
    key: Key,
    use_cases: Injected,
    caller: Asking,
    hiding: Hiding,
    page: OneRun,
    after_offset: Annotated[int, Query(ge=-1, le=2**53)] = -1,
) -> HTMLResponse:
    """Show a page of events, oldest first; sensitive fields are hidden from viewers."""
    rows = await use_cases.queries.history(
        flow, key, run=page.instance.row.run, after=after_offset, limit=PAGE_ROWS + 1
    )
    more = len(rows) > PAGE_ROWS
    shown = [hiding.row(caller, flow, row) for row in rows[:PAGE_ROWS]]
    return page.render(
        request,
        "history.html",
        rows=shown,
        begins=after_offset < 0,
        following=shown[-1].offset if more else -1,
    )
