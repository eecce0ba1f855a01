"""The timeline of a run: its events as bars on an axis on which idle time is short and labelled, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from choreo.app.query.spans import axis_of, bars_of
from choreo.core.access import Role
from choreo.surfaces.rest.roles import Need
from choreo.surfaces.web.moments import OneMoment
from choreo.surfaces.web.run_page import INSTANCE, OneRun

router: APIRouter = APIRouter(prefix="/ui")
ROLES: Mapping[str, Need] = {f"GET /ui{INSTANCE}/timeline": Need(Role.VIEWER)}
PAGE_ROWS = 100


@router.get(f"{INSTANCE}/timeline")
async def _show_timeline(
    request: Request, page: OneRun, moment: OneMoment, begin: Annotated[int, Query(ge=0, le=2**31)] = 0
) -> HTMLResponse:
    """Draw a page of the run's events; the same as a list stands below it."""
    shown = moment.rows[begin : begin + PAGE_ROWS]
    waits = {type_ for wait in page.flow.waits for type_ in wait.answers}
    bars = [bar for bar in bars_of(moment.rows[: begin + PAGE_ROWS], waits) if shown and bar.end_ms >= shown[0].at_ms]
    moments = {row.at_ms for row in shown} | {each for bar in bars for each in (bar.begin_ms, bar.end_ms)}
    following = begin + PAGE_ROWS if len(moment.rows) > begin + PAGE_ROWS else 0
    return page.render(
        request,
        "timeline.html",
        moment=moment,
        rows=shown,
        bars=bars,
        axis=axis_of(moments),
        begin=begin,
        following=following,
    )
