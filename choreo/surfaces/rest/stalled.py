"""Routes about runs that stand still: too long in a step, held up by a partition, with a due time."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from choreo.core.errors import NotFoundError
from choreo.surfaces.rest.error_responses import refused
from choreo.surfaces.rest.parameters import FlowName, PageLimit, ReadYourWrites, Segment, cursor_like
from choreo.surfaces.rest.problems import BadCursorError
from choreo.surfaces.rest.use_cases import Injected
from choreo.surfaces.stalled_format import DuePageAnswer, HeldUpAnswer, StalledAnswer

router: APIRouter = APIRouter(prefix="/flows/{flow}", tags=["instances"])


@router.get(
    "/stalled",
    operation_id="listStalled",
    summary="Runs that stand longer in a step than runs usually do, orphans, overdue timers",
    dependencies=[ReadYourWrites],
    responses=refused(404),
)
async def list_stalled(
    flow: FlowName,
    use_cases: Injected,
    limit: Annotated[PageLimit, Query(description="How many runs at most.")] = 50,
) -> StalledAnswer:
    """List all that stands still: each step, wait and undo is measured by its own past, without a declared deadline."""
    return StalledAnswer.model_validate(await use_cases.queries.stalled(flow, limit))


@router.get(
    "/groups/{group}/partitions/{partition}/runs",
    operation_id="listHeldUp",
    summary="Runs that wait for a consumer group in one partition",
    dependencies=[ReadYourWrites],
    responses=refused(404),
)
async def list_held_up(
    flow: FlowName,
    group: Segment,
    partition: Annotated[int, Field(ge=0, le=1_000_000), Path()],
    use_cases: Injected,
    limit: Annotated[PageLimit, Query(description="How many runs at most.")] = 50,
) -> HeldUpAnswer:
    """List the runs that stand in a step or undo of this service, in this partition."""
    return HeldUpAnswer.model_validate({"items": await use_cases.queries.held_up(flow, group, partition, limit)})


@router.get(
    "/timers",
    operation_id="listTimers",
    summary="Runs by their next due time, the earliest first",
    dependencies=[ReadYourWrites],
    responses=refused(400, 404),
)
async def list_timers(
    flow: FlowName,
    use_cases: Injected,
    limit: Annotated[PageLimit, Query(description="How many at most.")] = 50,
    cursor: Annotated[str, cursor_like(r"^[0-9]{1,15}\.[0-9]{1,15}$")] = "",
) -> DuePageAnswer:
    """List runs with a deadline, time-out, reminder or retry that is due, with the next one of each."""
    try:
        return DuePageAnswer.model_validate(await use_cases.queries.timers(flow, limit, cursor))
    except NotFoundError as error:
        if error.where != "cursor":
            raise
        raise BadCursorError(error.what, where="query.cursor", remedy=error.remedy) from error
