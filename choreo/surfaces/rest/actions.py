"""Routes for operators: pause, resume, cancel, terminate a run; retry or resolve an undo. Each is a fact in the log."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from choreo.app.operate import REASON_LENGTH_MAX, REASON_PATTERN
from choreo.app.publish import Receipt
from choreo.app.query_positions import token_of
from choreo.surfaces.rest.doors import Given
from choreo.surfaces.rest.flows import WRITTEN, location_of, receipt_of
from choreo.surfaces.rest.models import ReceiptAnswer
from choreo.surfaces.rest.parameters import FlowName, Key, Run, Segment
from choreo.surfaces.rest.refusals import refused_write

router: APIRouter = APIRouter(prefix="/flows/{flow}/instances/{key}", tags=["operate"])

_ReasonText = Annotated[str, Field(max_length=REASON_LENGTH_MAX, pattern=REASON_PATTERN, examples=["asked by ann"])]


_NOT_BLANK = REASON_PATTERN.replace("^", r"^[^\x00-\x20\x7f-\xa0]", 1)
"""A reason that begins with something to be read."""


class Reason(BaseModel):
    """Why, for the record; may be left out."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    reason: _ReasonText = ""


class RequiredReason(BaseModel):
    """Why, for the record; it is what people will see."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=REASON_LENGTH_MAX, pattern=_NOT_BLANK, examples=["asked by ann"])]


_ROUTE: dict[str, Any] = {
    "status_code": 202,
    "response_model": ReceiptAnswer,
    "responses": {
        202: {"description": "Said in the log; the tracker decides.", **WRITTEN},
        **refused_write(400, 404, 409, 413),
    },
}


def _accepted(receipt: Receipt, response: Response) -> ReceiptAnswer:
    response.headers["Location"] = location_of(receipt)
    response.headers["Choreo-Position"] = token_of(receipt.position)
    return receipt_of(receipt)


def _said(body: Reason | None) -> str:
    return body.reason if body else ""


@router.post(
    "/pause", operation_id="pauseInstance", summary="Start no further step, let deadlines stand still", **_ROUTE
)
async def pause(
    flow: FlowName, key: Key, response: Response, doors: Given, run: Run = "", body: Reason | None = None
) -> ReceiptAnswer:
    """Steps under way end; until it is resumed nothing new begins."""
    return _accepted(await doors.operator.pause(flow, key, run=run, reason=_said(body)), response)


@router.post("/resume", operation_id="resumeInstance", summary="Let a paused run go on", **_ROUTE)
async def resume(
    flow: FlowName, key: Key, response: Response, doors: Given, run: Run = "", body: Reason | None = None
) -> ReceiptAnswer:
    """Every deadline moves by as long as it was paused."""
    return _accepted(await doors.operator.resume(flow, key, run=run, reason=_said(body)), response)


@router.post("/cancel", operation_id="cancelInstance", summary="Turn back: undo all that was done", **_ROUTE)
async def cancel(
    flow: FlowName, key: Key, response: Response, doors: Given, run: Run = "", body: Reason | None = None
) -> ReceiptAnswer:
    """The newest effect is undone first."""
    return _accepted(await doors.operator.cancel(flow, key, run=run, reason=_said(body)), response)


@router.post("/terminate", operation_id="terminateInstance", summary="End as it is: nothing is undone", **_ROUTE)
async def terminate(
    flow: FlowName, key: Key, response: Response, doors: Given, body: RequiredReason, run: Run = ""
) -> ReceiptAnswer:
    """The last resort: what the run has done stays in the world."""
    return _accepted(await doors.operator.terminate(flow, key, run=run, reason=body.reason), response)


@router.post("/undos/{entry}/retry", operation_id="retryUndo", summary="Ask for a failed undo once more", **_ROUTE)
async def retry_undo(
    flow: FlowName,
    key: Key,
    entry: Segment,
    response: Response,
    doors: Given,
    run: Run = "",
    body: Reason | None = None,
) -> ReceiptAnswer:
    """`entry` is a ledger entry's id, or its step's name."""
    return _accepted(await doors.operator.retry_undo(flow, key, entry, run=run, reason=_said(body)), response)


@router.post("/undos/{entry}/resolve", operation_id="resolveUndo", summary="Say that it was undone by hand", **_ROUTE)
async def resolve_undo(
    flow: FlowName, key: Key, entry: Segment, response: Response, doors: Given, body: RequiredReason, run: Run = ""
) -> ReceiptAnswer:
    """`entry` is a ledger entry's id, or its step's name."""
    return _accepted(await doors.operator.resolve_undo(flow, key, entry, run=run, reason=body.reason), response)
