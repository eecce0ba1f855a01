"""The route that lists the actions of operators: each with its author, reason and time."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from choreo.core.errors import NotFoundError
from choreo.surfaces.audit_format import AuditPageAnswer, audit_of
from choreo.surfaces.rest.error_responses import refused
from choreo.surfaces.rest.parameters import FlowName, PageLimit, cursor_like
from choreo.surfaces.rest.problems import BadCursorError
from choreo.surfaces.rest.use_cases import Injected

router: APIRouter = APIRouter(tags=["operate"])


@router.get(
    "/flows/{flow}/audit",
    operation_id="listActions",
    summary="Actions of operators, newest first",
    responses=refused(400, 404),
)
async def list_actions(
    flow: FlowName,
    use_cases: Injected,
    limit: Annotated[PageLimit, Query(description="How many at most.")] = 50,
    cursor: Annotated[str, cursor_like(r"^[0-9]{1,16}([.][0-9]{1,16})*$")] = "",
) -> AuditPageAnswer:
    """List operators' facts from the end of the log; a page may be short, and the list still goes on at its cursor."""
    use_cases.flows.definition(flow)
    try:
        return audit_of(await use_cases.operator.audit(flow, limit, cursor))
    except NotFoundError as error:
        raise BadCursorError(error.what, where="query.cursor", remedy=error.remedy) from error
