"""Routes for operators: pause, resume, cancel, terminate a run; retry or resolve an undo. Each is a fact in the log."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, NamedTuple

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from choreo.app.operator.actions import REASON_LENGTH_MAX, REASON_PATTERN, Action, Kind
from choreo.app.operator.operator import Operator
from choreo.app.publish.publisher import Receipt
from choreo.app.query.read_your_writes import token_of
from choreo.core.access import Actor
from choreo.surfaces.json_format import ReceiptAnswer, receipt_of
from choreo.surfaces.preview_format import PreviewAnswer
from choreo.surfaces.rest.error_responses import refused, refused_write
from choreo.surfaces.rest.flows import WRITTEN, location_of
from choreo.surfaces.rest.parameters import FlowName, Key, ReadYourWrites, Run, Segment
from choreo.surfaces.rest.use_cases import Asking, Injected

router: APIRouter = APIRouter(prefix="/flows/{flow}/instances/{key}", tags=["operate"])

_ReasonText = Annotated[str, Field(max_length=REASON_LENGTH_MAX, pattern=REASON_PATTERN, examples=["asked by ann"])]


_NOT_BLANK = REASON_PATTERN.replace("^", r"^[^\x00-\x20\x7f-\xa0]", 1)
"""A reason that begins with a visible character."""


class Reason(BaseModel):
    """The reason, kept in the log; may be left out."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    reason: _ReasonText = ""


class RequiredReason(BaseModel):
    """The reason, kept in the log and shown to people."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=REASON_LENGTH_MAX, pattern=_NOT_BLANK, examples=["asked by ann"])]


_ROUTE: dict[str, Any] = {
    "status_code": 202,
    "response_model": ReceiptAnswer,
    "responses": {
        202: {"description": "Written to the log; the tracker decides.", **WRITTEN},
        **refused_write(404, 409),
    },
}


class Acted(NamedTuple):
    """The run that an operator acts on, and the operator."""

    flow: str
    key: str
    run: str
    by: Actor
    operator: Operator
    response: Response

    def accepted(self, receipt: Receipt) -> ReceiptAnswer:
        """Return the answer of an action that stands in the log, with its headers."""
        self.response.headers["Location"] = location_of(receipt)
        self.response.headers["Choreo-Position"] = token_of(receipt.position)
        return receipt_of(receipt)


async def _action(
    flow: FlowName, key: Key, response: Response, use_cases: Injected, caller: Asking, run: Run = ""
) -> Acted:
    return Acted(flow, key, run, caller.actor, use_cases.operator, response)


Acting = Annotated[Acted, Depends(_action)]


@router.get(
    "/preview",
    operation_id="previewAction",
    summary="The consequences of an action, if it were done now",
    dependencies=[ReadYourWrites],
    responses=refused(400, 404, 409),
)
async def preview(
    act: Acting,
    action: Annotated[Kind, Query(description="The action; it is not done.")],
    entry: Annotated[
        str, Query(description="Of a retry or a resolution: a ledger entry's id, or its step's name.", max_length=512)
    ] = "",
    reason: Annotated[str, Query(max_length=REASON_LENGTH_MAX, pattern=REASON_PATTERN)] = "",
) -> PreviewAnswer:
    """Fold the action on a copy of the run: the facts decided, the order of the undos, the end."""
    asked = Action(action, act.flow, act.key, act.run, entry, reason)
    return PreviewAnswer.model_validate(await act.operator.preview(asked, by=act.by))


def _reason_of(body: Reason | None) -> str:
    return body.reason if body else ""


@router.post(
    "/pause", operation_id="pauseInstance", summary="Start no further step, let deadlines stand still", **_ROUTE
)
async def pause(act: Acting, body: Reason | None = None) -> ReceiptAnswer:
    """Let running steps finish; start no new step until the run is resumed."""
    return act.accepted(await act.operator.pause(act.flow, act.key, run=act.run, reason=_reason_of(body), by=act.by))


@router.post("/resume", operation_id="resumeInstance", summary="Let a paused run go on", **_ROUTE)
async def resume(act: Acting, body: Reason | None = None) -> ReceiptAnswer:
    """Move every deadline by the length of the pause."""
    return act.accepted(await act.operator.resume(act.flow, act.key, run=act.run, reason=_reason_of(body), by=act.by))


@router.post("/cancel", operation_id="cancelInstance", summary="Compensate: undo all that was done", **_ROUTE)
async def cancel(act: Acting, body: Reason | None = None) -> ReceiptAnswer:
    """Undo all effects, the newest first."""
    return act.accepted(await act.operator.cancel(act.flow, act.key, run=act.run, reason=_reason_of(body), by=act.by))


@router.post("/terminate", operation_id="terminateInstance", summary="End as it is: nothing is undone", **_ROUTE)
async def terminate(act: Acting, body: RequiredReason) -> ReceiptAnswer:
    """End the run as the last resort: its effects stay in the world."""
    return act.accepted(await act.operator.terminate(act.flow, act.key, run=act.run, reason=body.reason, by=act.by))


@router.post(
    "/compensations/{entry}/retry",
    operation_id="retryCompensation",
    summary="Ask for a failed undo once more",
    **_ROUTE,
)
async def retry_compensation(act: Acting, entry: Segment, body: Reason | None = None) -> ReceiptAnswer:
    """Request the undo again; `entry` is a ledger entry's id, or its step's name."""
    return act.accepted(
        await act.operator.retry_compensation(act.flow, act.key, entry, run=act.run, reason=_reason_of(body), by=act.by)
    )


@router.post(
    "/compensations/{entry}/resolve",
    operation_id="resolveCompensation",
    summary="Record that it was undone by hand",
    **_ROUTE,
)
async def resolve_compensation(act: Acting, entry: Segment, body: RequiredReason) -> ReceiptAnswer:
    """Record the manual undo; `entry` is a ledger entry's id, or its step's name."""
    return act.accepted(
        await act.operator.resolve_compensation(act.flow, act.key, entry, run=act.run, reason=body.reason, by=act.by)
    )
