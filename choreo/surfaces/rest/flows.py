"""Routes about flows: list them, show one as JSON or as a picture, publish an event to one."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from choreo.app.publish.publisher import Receipt
from choreo.app.query.read_your_writes import token_of
from choreo.core.access import Role
from choreo.core.diagram import mermaid
from choreo.surfaces.json_format import FlowList, FlowSummary, ReceiptAnswer, receipt_of
from choreo.surfaces.rest.error_responses import refused, refused_write
from choreo.surfaces.rest.exact import ExactRoute
from choreo.surfaces.rest.parameters import FlowName, IdempotencyKey, carried_of
from choreo.surfaces.rest.use_cases import Asking, Injected

router: APIRouter = APIRouter(tags=["flows"], route_class=ExactRoute)

WRITTEN: dict[str, Any] = {
    "headers": {
        "Choreo-Position": {
            "description": "Pass it on reads that must see this write.",
            "schema": {"type": "string"},
            "example": "order/3/42",
        }
    }
}


class EventBody(BaseModel):
    """An event from outside. The class of the type defines `fields`."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    type: Annotated[str, Field(min_length=1, max_length=200, examples=["OrderPlaced"])]
    fields: Annotated[dict[str, Any], Field(examples=[{"order_id": "o-1001"}])]
    run: Annotated[
        str, Field(max_length=100, description="The run it is for; without it the key's oldest open run.")
    ] = ""


def location_of(receipt: Receipt) -> str:
    """Return the path of the run that a write is about."""
    run = f"?run={quote(receipt.run)}" if receipt.run else ""
    return f"/flows/{quote(receipt.flow)}/instances/{quote(receipt.key, safe='')}{run}"


@router.get(
    "/flows", operation_id="listFlows", summary="Every flow, with the number of its runs by status", responses=refused()
)
async def list_flows(use_cases: Injected, caller: Asking) -> FlowList:
    """List the flows that this process knows and the caller may see."""
    items = []
    for name in use_cases.flows.names:
        if not caller.may(Role.VIEWER, name):
            continue
        definition = use_cases.flows.definition(name)
        counts = await use_cases.queries.counts(name)
        items.append(
            FlowSummary(
                name=name,
                key=definition.key,
                starts=definition.starts,
                completes=definition.completes,
                version=definition.version,
                counts=counts,
            )
        )
    return FlowList(items=items)


@router.get(
    "/flows/{flow}",
    operation_id="getFlow",
    summary="A flow's definition, as `choreo flow export` writes it",
    response_model=dict[str, Any],
    responses=refused(404),
)
async def get_flow(flow: FlowName, use_cases: Injected) -> Response:
    """Show a flow; durations are milliseconds, divided by the time scale."""
    return JSONResponse(msgspec.to_builtins(use_cases.flows.definition(flow)))


@router.get(
    "/flows/{flow}/mermaid",
    operation_id="drawFlow",
    summary="A flow as a Mermaid flowchart",
    response_class=PlainTextResponse,
    responses=refused(404),
)
async def draw_flow(flow: FlowName, use_cases: Injected) -> str:
    """Draw a flow; paste the text into any Mermaid viewer."""
    return mermaid(use_cases.flows.definition(flow))


_PUBLISHED: dict[int | str, dict[str, Any]] = {
    201: {
        "description": "Published; `Location` is the path of its instance.",
        "headers": {
            **WRITTEN["headers"],
            "Location": {"description": "The instance's path.", "schema": {"type": "string"}},
        },
    },
    200: {
        "model": ReceiptAnswer,
        "description": "The same start was published before; nothing new was published.",
        **WRITTEN,
    },
    **refused_write(404, 409),
}


@router.post(
    "/flows/{flow}/events",
    operation_id="publishEvent",
    summary="Start a run, or publish an event that a run waits for",
    status_code=201,
    response_model=ReceiptAnswer,
    responses=_PUBLISHED,
)
async def publish_event(
    *,
    flow: Annotated[FlowName, Path()],
    body: EventBody,
    request: Request,
    response: Response,
    use_cases: Injected,
    idempotency_key: IdempotencyKey = "",
    allow_early: Annotated[
        bool, Query(description="Publish an event from outside also where no run can take it.")
    ] = False,
) -> ReceiptAnswer:
    """Publish an event; its fields hold the key. A start with the same key and Idempotency-Key is published once.

    An event from outside gets 404 where its key has no run, and 409 where no run awaits it any more. A CloudEvent in
    structured mode (`application/cloudevents+json`) is accepted too: its `data` are the fields, its extension
    `choreorun` is the run, and its source and id are its Idempotency-Key unless one is given.

    The headers `traceparent`, `tracestate` and `baggage` (W3C) reach every later step of the run.
    """
    carried = carried_of(request)
    receipt = await use_cases.publisher.publish(
        flow,
        body.fields,
        type_=body.type,
        run=body.run,
        idempotency_key=idempotency_key,
        traceparent=carried.traceparent,
        tracestate=carried.tracestate,
        baggage=carried.baggage,
        allow_early=allow_early,
    )
    response.status_code = 200 if receipt.duplicate else 201
    response.headers["Location"] = location_of(receipt)
    response.headers["Choreo-Position"] = token_of(receipt.position)
    return receipt_of(receipt)
