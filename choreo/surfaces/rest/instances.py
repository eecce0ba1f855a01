"""Routes that read instances: lists, one with its state, its history, its timeline, and its events as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from choreo.app.query.attribute_filters import condition_of
from choreo.app.query.child_results import WantedEnds
from choreo.app.query.queries import FOLLOW_S
from choreo.core.access import Caller
from choreo.core.errors import NotFoundError
from choreo.ports.read_model import Condition, Filter
from choreo.surfaces.children_format import ChildEndPage
from choreo.surfaces.json_format import (
    HistoryPage,
    HistoryRowAnswer,
    InstanceAnswer,
    InstancePage,
    Status,
    Timeline,
    WhyAnswer,
    instance_of,
    summary_of,
    timeline_of,
)
from choreo.surfaces.rest.access import still_admitted
from choreo.surfaces.rest.error_responses import refused
from choreo.surfaces.rest.masking import Masking
from choreo.surfaces.rest.parameters import (
    AfterOffset,
    At,
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
from choreo.surfaces.rest.past import past_of
from choreo.surfaces.rest.problems import BadCursorError
from choreo.surfaces.rest.use_cases import Asking, Hiding, Injected, UseCases

router: APIRouter = APIRouter(prefix="/flows/{flow}/instances", tags=["instances"])

ATTRIBUTE = "attr."
HEARTBEAT_LOOKS = round(15 / FOLLOW_S)
"""Empty reads between two heartbeats, 15 s: proxies commonly cut a stream that is silent for 30 to 60 s."""


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
    use_cases: Injected,
    caller: Asking,
    hiding: Hiding,
    status: Annotated[Status | None, Query(description="Only runs of this status.")] = None,
    key: Annotated[str, Query(description="Only runs of this key.", max_length=512)] = "",
    started_from: Annotated[Moment | None, Query(description="Only runs started at this time or later.")] = None,
    started_before: Annotated[Moment | None, Query(description="Only runs started before this time.")] = None,
    limit: Annotated[PageLimit, Query(description="How many at most.")] = 50,
    cursor: Annotated[str, cursor_like(r"^[0-9]{1,15}\.[0-9]{1,15}$")] = "",
) -> InstancePage:
    """List runs; `?attr.customer_id=c-7` filters by an attribute, a field of the start event or a search attribute.

    A search attribute of text also takes `attr.shipment_id^=sh-` (begins with); a number or time `attr.amount>=100`,
    `<=`, `>` and `<`. Any number of filters; all must match.
    """
    use_cases.flows.definition(flow)
    asked = {_condition(*pair) for pair in request.query_params.multi_items() if pair[0].startswith(ATTRIBUTE)}
    hiding.require_filters(caller, flow, {condition.name for condition in asked})
    if started_before == 0:
        return InstancePage(items=[], cursor="")  # no run was started before 1970
    filter_ = Filter(flow, status or "", key, {}, started_from or 0, started_before or 0, tuple(asked))
    try:
        page = await use_cases.queries.instances(filter_, limit, cursor)
    except NotFoundError as error:
        raise BadCursorError(error.what, where="query.cursor", remedy=error.remedy) from error
    return InstancePage(items=[summary_of(row) for row in hiding.instances(caller, page.items)], cursor=page.cursor)


def _condition(name: str, value: str) -> Condition:
    """Return the comparison in a parameter: a form splits `attr.amount>=5` at `=`, and `attr.amount>5` not at all."""
    name = name.removeprefix(ATTRIBUTE)
    text = name if not value and condition_of(name) else f"{name}={value}"
    return condition_of(text) or Condition(name, "=", value)


@router.get(
    "/{key}",
    operation_id="getInstance",
    summary="One run: its status, its waits, its ledger",
    dependencies=[ReadYourWrites],
    responses=refused(404),
)
async def get_instance(
    *, flow: FlowName, key: Key, use_cases: Injected, caller: Asking, hiding: Hiding, run: Run = "", at: At = ""
) -> InstanceAnswer:
    """Show one run; without `run` the key's newest. With `at` as it was at that position of the log."""
    if at:
        return instance_of((await past_of(use_cases, caller, hiding, flow, key, run, at)).instance)
    instance = await use_cases.queries.instance(flow, key, run)
    return instance_of(msgspec.structs.replace(instance, row=hiding.instance(caller, instance.row)))


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
    use_cases: Injected,
    caller: Asking,
    hiding: Hiding,
    run: Annotated[str, Query(description="Only this run's events; without it those of every run.")] = "",
    after_offset: Annotated[AfterOffset, Query(description="Only events after this offset.")] = -1,
    limit: Annotated[HistoryLimit, Query(description="How many at most.")] = 1_000,
) -> HistoryPage:
    """List the events in log order: the state is folded from them."""
    rows = await use_cases.queries.history(flow, key, run=run, after=after_offset, limit=limit)
    return HistoryPage(
        items=[HistoryRowAnswer.model_validate(hiding.row(caller, flow, row)) for row in rows],
        after=rows[-1].offset if len(rows) == limit else -1,
    )


@router.get(
    "/{key}/timeline",
    operation_id="getTimeline",
    summary="The events of a run, in the words of a person",
    dependencies=[ReadYourWrites],
    responses=refused(404),
)
async def get_timeline(
    *, flow: FlowName, key: Key, use_cases: Injected, caller: Asking, hiding: Hiding, run: Run = "", at: At = ""
) -> Timeline:
    """Show one run's timeline: time since its start, each event, how long each step took, the undone effects."""
    if at:
        return timeline_of((await past_of(use_cases, caller, hiding, flow, key, run, at)).timeline)
    return timeline_of(await use_cases.queries.timeline(flow, key, run))


@router.get(
    "/{key}/children",
    operation_id="listChildEnds",
    summary="How each child of a step has ended",
    dependencies=[ReadYourWrites],
    responses=refused(404),
)
async def list_child_ends(
    *,
    flow: FlowName,
    key: Key,
    use_cases: Injected,
    step: Annotated[str, Query(description="The step that has started them.", max_length=200)],
    run: Run = "",
    trigger: Annotated[str, Query(description="Only those of this trigger of the step.", max_length=200)] = "",
    after_offset: Annotated[AfterOffset, Query(description="Only ends after this offset.")] = -1,
    limit: Annotated[HistoryLimit, Query(description="How many at most.")] = 1_000,
) -> ChildEndPage:
    """List the first end of each child, also beyond the hundred that the join's event has: `all_results` leads here."""
    wanted = WantedEnds(step, run, trigger, after_offset, limit)
    page = await use_cases.queries.child_ends(flow, key, wanted)
    return ChildEndPage.model_validate({"items": page.items, "after": page.after})


@router.get(
    "/{key}/why",
    operation_id="explainInstance",
    summary="Why a run stands still: one cause, its evidence, the next command",
    dependencies=[ReadYourWrites],
    responses=refused(404),
)
async def explain_instance(
    flow: FlowName, key: Key, use_cases: Injected, caller: Asking, hiding: Hiding, run: Run = ""
) -> WhyAnswer:
    """Show the one cause for which a run stands still, or that nothing is wrong; without `run` of the newest."""
    answer = WhyAnswer.model_validate(await use_cases.queries.why(flow, key, run))
    answer.command = hiding.command(caller, flow, answer.command)
    return answer


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
    *,
    request: Request,
    flow: FlowName,
    key: Key,
    use_cases: Injected,
    caller: Asking,
    hiding: Hiding,
    run: Run = "",
    last_event_id: Annotated[
        Whole, Header(description="Continue after this offset; browsers send it by themselves.")
    ] = -1,
) -> StreamingResponse:
    """Stream events from the run's first, or from after `Last-Event-ID`, until the run has ended.

    The stream also ends when the credential is revoked or expires.
    """
    run = (await use_cases.queries.instance(flow, key, run)).row.run
    return StreamingResponse(
        _stream(use_cases, _Reader(caller, hiding, still_admitted(request)), flow, key, run, last_event_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


class _Reader(NamedTuple):
    """The reader of a stream."""

    caller: Caller
    hiding: Masking
    admitted: Callable[[], Awaitable[bool]]


async def _stream(
    use_cases: UseCases, reader: _Reader, flow: str, key: str, run: str, after: int
) -> AsyncIterator[str]:
    yield f"retry: {round(FOLLOW_S * 10_000)}\n\n"
    silent = 0
    async for row in use_cases.queries.follow(flow, key, run, after):
        if use_cases.closing.is_set() or not await reader.admitted():
            return
        if row is None:
            silent += 1
            if silent % HEARTBEAT_LOOKS == 0:
                yield ": heartbeat\n\n"
            continue
        silent = 0
        shown = reader.hiding.row(reader.caller, flow, row)
        data = HistoryRowAnswer.model_validate(shown).model_dump_json()
        yield f"id: {row.offset}\nevent: {row.type}\ndata: {data}\n\n"
    yield "event: choreo.StreamEnded\ndata: {}\n\n"
