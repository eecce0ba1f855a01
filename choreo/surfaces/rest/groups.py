"""Routes about consumer groups: members, owners of partitions, lag and the time that it will take."""

from __future__ import annotations

from fastapi import APIRouter

from choreo.core.access import Role
from choreo.surfaces.group_format import GroupAnswer, GroupList, groups_of
from choreo.surfaces.rest.error_responses import refused
from choreo.surfaces.rest.parameters import FlowName, Segment
from choreo.surfaces.rest.use_cases import Asking, Injected

router: APIRouter = APIRouter(tags=["groups"])


@router.get(
    "/groups",
    operation_id="listGroups",
    summary="Every consumer group, by flow: members, owners of partitions, lag",
    responses=refused(),
)
async def list_groups(use_cases: Injected, caller: Asking) -> GroupList:
    """List the groups of all flows that the caller may see."""
    flows = [name for name in use_cases.flows.names if caller.may(Role.VIEWER, name)]
    return groups_of([group for flow in flows for group in await use_cases.queries.groups(flow)])


@router.get(
    "/flows/{flow}/groups/{group}",
    operation_id="getGroup",
    summary="A consumer group of a flow",
    responses=refused(404),
)
async def get_group(flow: FlowName, group: Segment, use_cases: Injected) -> GroupAnswer:
    """Show one group: `tracker`, `bridge`, or a service."""
    return GroupAnswer.model_validate(await use_cases.queries.group(flow, group))
