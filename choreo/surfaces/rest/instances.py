"""Routes that read instances: lists, one with its state, its history, its story, and its events as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from choreo.app.query import FOLLOW_S, Instance
from choreo.core.errors import NotFoundError
from choreo.ports.read_model import Filter
from choreo.surfaces.rest.doors import Doors, Given
from choreo.surfaces.rest.models import (
    HistoryPage,
    HistoryRowAnswer,
    InstanceAnswer,
    InstancePage,
    InstanceSummary,
    Status,
    Timeline,
)
from choreo.surfaces.rest.parameters import (
    AfterOffset,
    FlowName,
    HistoryLimit,
    Key,
    Moment,
    PageLimit,
    ReadYourWrites,
    Run,
    Whole,
    cursor_like,
)
from choreo.surfaces.rest.problems import BadCursorError
from choreo.surfaces.rest.refusals import refused

router: APIRouter = APIRouter(prefix="/flows/{flow}/instances", tags=["instances"])

ATTRIBUTE = "attr."
HEARTBEAT_LOOKS = round(15 / FOLLOW_S)
"""Looks in vain between two signs of life, 15 s: proxies commonly cut a stream that is silent for 30 to 60 s."""


@router.get(
    "",
    operation_id="listInstances",
    summary="Runs, newest start first",
    dependencies=[ReadYourWrites],
    responses=refused(400, 404),
)
async def list_instances(
    *,
    flow: FlowName,
    request: Request,
    doors: Given,
    status: Annotated[Status | None, Query(description="Only runs of this status.")] = None,
    key: Annotated[str, Query(description="Only runs of this key.", max_length=512)] = "",
    started_from: Annotated[Moment | None, Query(description="Only runs started at this time or later.")] = None,
    started_before: Annotated[Moment | None, Query(description="Only runs started before this time.")] = None,
    limit: Annotated[PageLimit, Query(description="How many at most.")] = 50,
    cursor: Annotated[str, cursor_like(r"^[0-9]{1,15}\.[0-9]{1,15}$")] = "",
) -> InstancePage:
    """Filter by attributes of the start event too: `?attr.customer_id=c-7` (any number, all must fit)."""
    doors.flows.definition(flow)
    asked = {pair for pair in request.query_params.multi_items() if pair[0].startswith(ATTRIBUTE)}
    attributes = {name.removeprefix(ATTRIBUTE): value for name, value in asked}
    if len(attributes) < len(asked) or started_before == 0:
        return InstancePage(items=[], cursor="")  # no run has two values of one attribute, or was started before 1970
    wanted = Filter(flow, status or "", key, attributes, started_from or 0, started_before or 0)
    try:
        page = await doors.queries.instances(wanted, limit, cursor)
    except NotFoundError as error:
        raise BadCursorError(error.what, where="query.cursor", remedy=error.remedy) from error
    return InstancePage(items=[InstanceSummary.model_validate(row) for row in page.items], cursor=page.cursor)


@router.get(
    "/{key}",
    operation_id="getInstance",
    summary="One run: its status, what it waits for, its ledger",
    dependencies=[ReadYourWrites],
    responses=refused(404),
)
async def get_instance(flow: FlowName, key: Key, doors: Given, run: Run = "") -> InstanceAnswer:
    """Without `run` the key's newest."""
    return answer_of(await doors.queries.instance(flow, key, run))


def answer_of(instance: Instance) -> InstanceAnswer:
    """The instance as it is answered."""
    row, detail = instance.row, instance.detail
    return InstanceAnswer.model_validate(
        {
            "flow": row.flow,
            "key": row.key,
            "run": row.run,
            "status": row.status,
            "cause": row.cause,
            "started_ms": row.started_ms,
            "changed_ms": row.changed_ms,
            "position": row.position,
            "partition": row.partition,
            "attributes": row.attributes,
            "version": detail.version,
            "deadline": detail.due_ms,
            "paused": detail.paused_ms,
            "ended": detail.ended_ms,
            "next_due": detail.next_due_ms,
            "next_timer": instance.next_timer,
            "waiting_for": instance.waiting_for,
            "expected": detail.expected,
            "waits": detail.waits,
            "ledger": detail.ledger,
            "runs": instance.runs,
        }
    )


@router.get(
    "/{key}/history",
    operation_id="getHistory",
    summary="Every event of an instance, decoded",
    dependencies=[ReadYourWrites],
    responses=refused(404),
)
async def get_history(
    flow: FlowName,
    key: Key,
    doors: Given,
    run: Annotated[str, Query(description="Only this run's events; without it those of every run.")] = "",
    after_offset: Annotated[AfterOffset, Query(description="Only events behind this offset.")] = -1,
    limit: Annotated[HistoryLimit, Query(description="How many at most.")] = 1_000,
) -> HistoryPage:
    """In log order: what the state is folded from."""
    rows = await doors.queries.history(flow, key, run=run, after=after_offset, limit=limit)
    return HistoryPage(
        items=[HistoryRowAnswer.model_validate(row) for row in rows],
        after=rows[-1].offset if len(rows) == limit else -1,
    )


@router.get(
    "/{key}/timeline",
    operation_id="getTimeline",
    summary="What happened, as a person tells it",
    dependencies=[ReadYourWrites],
    responses=refused(404),
)
async def get_timeline(flow: FlowName, key: Key, doors: Given, run: Run = "") -> Timeline:
    """One run: time since its start, what happened, how long each step took, what was undone."""
    return Timeline.model_validate({"items": await doors.queries.timeline(flow, key, run)})


_STREAM: dict[str, Any] = {
    "description": "Server-sent events: `id` is the offset, `event` the type, `data` a row as in the history.",
    "content": {
        "text/event-stream": {
            "schema": {
                "type": "object",
                "required": ["event", "data"],
                "properties": {
                    "id": {"type": "string", "description": "The event's offset."},
                    "event": {"type": "string", "description": "The event's type; `choreo.StreamEnded` is the last."},
                    "data": {"type": "string", "contentMediaType": "application/json"},
                },
            }
        }
    },
}


@router.get(
    "/{key}/events",
    operation_id="followInstance",
    summary="An instance's events as they come (server-sent events)",
    dependencies=[ReadYourWrites],
    response_class=StreamingResponse,
    responses={200: _STREAM, **refused(404)},
)
async def follow_instance(
    flow: FlowName,
    key: Key,
    doors: Given,
    run: Run = "",
    last_event_id: Annotated[
        Whole, Header(description="Go on behind this offset; browsers send it by themselves.")
    ] = -1,
) -> StreamingResponse:
    """Begins with the run's first event, or behind `Last-Event-ID`; ends when the run has ended."""
    run = (await doors.queries.instance(flow, key, run)).row.run
    return StreamingResponse(
        _stream(doors, flow, key, run, last_event_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(doors: Doors, flow: str, key: str, run: str, after: int) -> AsyncIterator[str]:
    yield f"retry: {round(FOLLOW_S * 10_000)}\n\n"
    silent = 0
    async for row in doors.queries.follow(flow, key, run, after):
        if doors.closing.is_set():
            return
        if row is None:
            silent += 1
            if silent % HEARTBEAT_LOOKS == 0:
                yield ": heartbeat\n\n"
            continue
        silent = 0
        data = HistoryRowAnswer.model_validate(row).model_dump_json()
        yield f"id: {row.offset}\nevent: {row.type}\ndata: {data}\n\n"
    yield "event: choreo.StreamEnded\ndata: {}\n\n"
