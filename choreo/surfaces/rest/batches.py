"""Routes about batches: plan one, begin it, look at it, stop it, go on; and the dead letters of a flow in groups."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from choreo.app.operator.actions import REASON_LENGTH_MAX, REASON_PATTERN, ROLES, Kind
from choreo.app.operator.batch_plans import Draft, Wish
from choreo.app.operator.batches import Batch, Batches
from choreo.app.query.attribute_filters import condition_of
from choreo.core import ids
from choreo.core.access import Caller, Role
from choreo.core.batch import RATE_MAX, RATE_MIN, REDRIVE
from choreo.core.errors import DecodeError, NotFoundError
from choreo.ports.read_model import Condition, Filter
from choreo.surfaces.batch_format import (
    BatchAnswer,
    BatchList,
    DraftAnswer,
    GroupAnswer,
    GroupList,
    batch_of,
    draft_of,
)
from choreo.surfaces.json_format import Status
from choreo.surfaces.rest.access import require
from choreo.surfaces.rest.dead_letters import Nothing
from choreo.surfaces.rest.error_responses import refused, refused_write
from choreo.surfaces.rest.masking import Masking
from choreo.surfaces.rest.parameters import FlowName, Moment, Segment
from choreo.surfaces.rest.use_cases import Asking, Hiding, Injected, UseCases

router: APIRouter = APIRouter(prefix="/flows/{flow}", tags=["batches"])

_Token = Annotated[
    str, Header(alias="Idempotency-Key", description="Two requests with the same key are one batch.", max_length=200)
]


class BatchRequest(BaseModel):
    """The wish for a batch: an action on every run that the filter shows, or the redrive of dead letters."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    action: Literal["pause", "resume", "cancel", "terminate", "undo-retry", "undo-resolve", "redrive"]
    rate: Annotated[float, Field(ge=RATE_MIN, le=RATE_MAX, description="Items a second, at most.")] = 100
    reason: Annotated[str, Field(max_length=REASON_LENGTH_MAX, pattern=REASON_PATTERN)] = ""
    entry: Annotated[str, Field(max_length=512, description="Of a retry or resolution: the step.")] = ""
    group: Annotated[str, Field(max_length=8, description="Of a redrive: only this group's dead letters.")] = ""
    status: Status | None = None
    key: Annotated[str, Field(max_length=512)] = ""
    started_from: Moment | None = None
    started_before: Moment | None = None
    attributes: Annotated[
        list[Annotated[str, Field(max_length=600)]],
        Field(max_length=20, description="Filters by attributes.", examples=[["customer_id=c-7", "amount>=100"]]),
    ] = []


def batches_of(use_cases: UseCases) -> Batches:
    """Return the batches of this process; raises NotFoundError where it keeps none."""
    if use_cases.batches is None:
        raise NotFoundError("this process keeps no batches", where="batches", remedy="Ask the REST view of a project.")
    return use_cases.batches


async def draft_of_request(
    flow: str, body: BatchRequest, use_cases: UseCases, caller: Caller, hiding: Masking, *, token: str, dry: bool
) -> Draft:
    """Return the plan of a wish. Raises ForbiddenError, NotFoundError, DecodeError."""
    require_action(caller, body.action, flow)
    use_cases.flows.definition(flow)
    wish = Wish(body.action, flow, caller.actor, body.rate, token, body.reason, body.entry)
    if body.action == REDRIVE:
        return await use_cases.planner.of_dead_letters(wish, body.group)
    conditions = [_condition(text) for text in body.attributes]
    hiding.require_filters(caller, flow, {condition.name for condition in conditions})
    span = (body.started_from or 0, body.started_before or 0)
    wanted = Filter(flow, body.status or "", body.key, {}, *span, conditions)
    return await use_cases.planner.of_runs(wish, wanted, dry=dry)


def _condition(text: str) -> Condition:
    found = condition_of(text)
    if found is None:
        raise DecodeError(f"{text!r:.100} is no filter", where="attributes", remedy="Write NAME=VALUE, or NAME>=VALUE.")
    return found


async def one_batch(flow: str, batch: str, use_cases: UseCases) -> Batch:
    """Return a batch of this flow; of another flow it does not exist here."""
    found = await batches_of(use_cases).get(batch)
    if found.plan.flow != flow:
        raise NotFoundError(f"there is no batch {batch!r:.100}", where=f"flow {flow}", remedy="List them.")
    return found


@router.get(
    "/dead-letter-groups",
    operation_id="groupDeadLetters",
    summary="Dead letters by step, event, schema and cause, the largest group first",
    responses=refused(404),
)
async def group_dead_letters(flow: FlowName, use_cases: Injected) -> GroupList:
    """Group the dead letters of a flow: those of one group have one remedy."""
    return GroupList(items=[GroupAnswer.model_validate(each) for each in await use_cases.planner.groups(flow)])


@router.post(
    "/batches/preview",
    operation_id="previewBatch",
    summary="The items of a batch, and those that would be refused; nothing is done",
    responses=refused_write(404),
)
async def preview_batch(
    flow: FlowName, body: BatchRequest, use_cases: Injected, caller: Asking, hiding: Hiding
) -> DraftAnswer:
    """Plan a batch without beginning it."""
    return draft_of(await draft_of_request(flow, body, use_cases, caller, hiding, token="", dry=True))


@router.post(
    "/batches",
    operation_id="beginBatch",
    summary="Begin a batch; it goes on by itself",
    status_code=202,
    responses=refused_write(404),
)
async def begin_batch(
    flow: FlowName,
    body: BatchRequest,
    response: Response,
    use_cases: Injected,
    caller: Asking,
    hiding: Hiding,
    idempotency_key: _Token = "",
) -> BatchAnswer:
    """Plan a batch and keep it: a process with the REST view runs it, also after a restart."""
    token = idempotency_key or ids.derive("batch", caller.actor.text, body.model_dump_json(), use_cases.clock.now_ms())
    draft = await draft_of_request(flow, body, use_cases, caller, hiding, token=token, dry=False)
    await batches_of(use_cases).begin(draft.plan)
    response.headers["Location"] = f"batches/{draft.plan.id}"
    return batch_of(await batches_of(use_cases).get(draft.plan.id))


@router.get("/batches", operation_id="listBatches", summary="The newest batches", responses=refused(404))
async def list_batches(flow: FlowName, use_cases: Injected) -> BatchList:
    """List the batches of a flow, newest first."""
    use_cases.flows.definition(flow)
    return BatchList(items=[batch_of(each) for each in await batches_of(use_cases).list(flow)])


@router.get("/batches/{batch}", operation_id="getBatch", summary="One batch with its progress", responses=refused(404))
async def get_batch(flow: FlowName, batch: Segment, use_cases: Injected) -> BatchAnswer:
    """Show how far a batch is, and the items that were refused."""
    return batch_of(await one_batch(flow, batch, use_cases))


@router.post(
    "/batches/{batch}/stop",
    operation_id="stopBatch",
    summary="Let a batch publish nothing more",
    responses=refused_write(404, 409),
)
async def stop_batch(
    flow: FlowName, batch: Segment, use_cases: Injected, caller: Asking, _body: Nothing | None = None
) -> BatchAnswer:
    """Stop a batch after the portion that is under way; it can be gone on with."""
    require_action(caller, (await one_batch(flow, batch, use_cases)).plan.action, flow)
    return batch_of(await batches_of(use_cases).stop(batch))


@router.post(
    "/batches/{batch}/resume",
    operation_id="resumeBatch",
    summary="Let a stopped batch go on",
    responses=refused_write(404, 409),
)
async def resume_batch(
    flow: FlowName, batch: Segment, use_cases: Injected, caller: Asking, _body: Nothing | None = None
) -> BatchAnswer:
    """Go on with a batch where it was stopped."""
    require_action(caller, (await one_batch(flow, batch, use_cases)).plan.action, flow)
    return batch_of(await batches_of(use_cases).resume(batch))


def require_action(caller: Caller, action: str, flow: str) -> None:
    """Raise ForbiddenError where the caller may not do a batch's action in this flow."""
    require(caller, Role.ADMIN if action == REDRIVE else ROLES[Kind(action)], flow)
