"""The page of consumer groups: each partition with its owner, lag and the time that it takes; changes of members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse

from choreo.core.access import Role
from choreo.surfaces.rest.parameters import FlowName, Segment
from choreo.surfaces.rest.roles import Need, Within
from choreo.surfaces.rest.use_cases import Asking, Injected
from choreo.surfaces.web.rendering import Live, render

router: APIRouter = APIRouter(prefix="/ui")
_RUNS = "/flows/{flow}/groups/{group}/partitions/{partition}/runs"
ROLES: Mapping[str, Need] = {
    "GET /ui/groups": Need(Role.VIEWER, Within.ANY),
    f"GET /ui{_RUNS}": Need(Role.VIEWER),
}
ROWS_MAX = 100


@router.get("/groups")
async def _list_groups(request: Request, use_cases: Injected, caller: Asking) -> HTMLResponse:
    """Show the groups of the flows that the caller may see, those that lag first."""
    flows = [name for name in use_cases.flows.names if caller.may(Role.VIEWER, name)]
    groups = [group for name in flows for group in await use_cases.queries.groups(name)]
    groups.sort(key=lambda group: -group.lag)
    return render(request, "groups.html", title="Groups", live=Live(), groups=groups)


@router.get(_RUNS)
async def _list_held_up(
    request: Request,
    flow: FlowName,
    group: Segment,
    partition: Annotated[int, Path(ge=0, le=1_000_000)],
    use_cases: Injected,
) -> HTMLResponse:
    """Show the runs that wait for a group in one partition, the longest first."""
    runs = await use_cases.queries.held_up(flow, group, partition, ROWS_MAX)
    title = f"Runs that wait for {group} in partition {partition}"
    return render(request, "held_up.html", title=title, live=Live(flow), flow=flow, runs=runs, most=ROWS_MAX)
