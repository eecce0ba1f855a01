"""The route of the event catalogue: declared beside seen, of every flow that the caller may see."""

from __future__ import annotations

from fastapi import APIRouter

from choreo.core.access import Role
from choreo.surfaces.catalogue_format import CatalogueAnswer, CatalogueList
from choreo.surfaces.rest.error_responses import refused
from choreo.surfaces.rest.parameters import FlowName
from choreo.surfaces.rest.use_cases import Asking, Injected

router: APIRouter = APIRouter(tags=["events"])


@router.get(
    "/events",
    operation_id="listEventTypes",
    summary="Every event type, by flow: declared and seen producers and consumers, schemas, drift",
    responses=refused(),
)
async def list_event_types(use_cases: Injected, caller: Asking) -> CatalogueList:
    """List the events of all flows that the caller may see. Fields are named, their values are not shown."""
    flows = [name for name in use_cases.flows.names if caller.may(Role.VIEWER, name)]
    return CatalogueList.model_validate({"items": [await use_cases.queries.catalogue(name) for name in flows]})


@router.get(
    "/flows/{flow}/event-types",
    operation_id="listEventTypesOfFlow",
    summary="The event types of a flow: declared and seen",
    responses=refused(404),
)
async def list_event_types_of_flow(flow: FlowName, use_cases: Injected) -> CatalogueAnswer:
    """List the events of one flow."""
    return CatalogueAnswer.model_validate(await use_cases.queries.catalogue(flow))
