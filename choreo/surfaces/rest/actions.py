"""Routes for operators: pause, resume, cancel, terminate a run; retry or resolve an undo. Each is a fact in the log."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from choreo.app.operator.operator import REASON_LENGTH_MAX, REASON_PATTERN
from choreo.app.publish.publisher import Receipt
from choreo.app.query.read_your_writes import token_of
from choreo.surfaces.json_format import ReceiptAnswer, receipt_of
from choreo.surfaces.rest.error_responses import refused_write
from choreo.surfaces.rest.flows import WRITTEN, location_of
from choreo.surfaces.rest.parameters import FlowName, Key, Run, Segment
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
        **refused_write(400, 404, 409, 413),
    },
}


def _accepted(receipt: Receipt, response: Response) -> ReceiptAnswer:
    response.headers["Location"] = location_of(receipt)
    response.headers["Choreo-Position"] = token_of(receipt.position)
    return receipt_of(receipt)


def _reason_of(body: Reason | None) -> str:
    return body.reason if body else ""


@router.post(
    "/pause", operation_id="pauseInstance", summary="Start no further step, let deadlines stand still", **_ROUTE
)
async def pause(
    flow: FlowName,
    key: Key,
    response: Response,
    use_cases: Injected,
    caller: Asking,
    run: Run = "",
    body: Reason | None = None,
) -> ReceiptAnswer:
    """Let running steps finish; start no new step until the run is resumed."""
    return _accepted(
        await use_cases.operator.pause(flow, key, run=run, reason=_reason_of(body), by=caller.actor), response
    )


@router.post("/resume", operation_id="resumeInstance", summary="Let a paused run go on", **_ROUTE)
async def resume(
    flow: FlowName,
    key: Key,
    response: Response,
    use_cases: Injected,
    caller: Asking,
    run: Run = "",
    body: Reason | None = None,
) -> ReceiptAnswer:
    """Move every deadline by the length of the pause."""
    return _accepted(
        await use_cases.operator.resume(flow, key, run=run, reason=_reason_of(body), by=caller.actor), response
    )


@router.post("/cancel", operation_id="cancelInstance", summary="Compensate: undo all that was done", **_ROUTE)
async def cancel(
    flow: FlowName,
    key: Key,
    response: Response,
    use_cases: Injected,
    caller: Asking,
    run: Run = "",
    body: Reason | None = None,
) -> ReceiptAnswer:
    """Undo all effects, the newest first."""
    return _accepted(
        await use_cases.operator.cancel(flow, key, run=run, reason=_reason_of(body), by=caller.actor), response
    )


@router.post("/terminate", operation_id="terminateInstance", summary="End as it is: nothing is undone", **_ROUTE)
async def terminate(
    flow: FlowName,
    key: Key,
    response: Response,
    use_cases: Injected,
    caller: Asking,
    body: RequiredReason,
    run: Run = "",
) -> ReceiptAnswer:
    """End the run as the last resort: its effects stay in the world."""
    return _accepted(
        await use_cases.operator.terminate(flow, key, run=run, reason=body.reason, by=caller.actor), response
    )


@router.post(
    "/compensations/{entry}/retry",
    operation_id="retryCompensation",
    summary="Ask for a failed undo once more",
    **_ROUTE,
)
async def retry_compensation(
    flow: FlowName,
    key: Key,
    entry: Segment,
    response: Response,
    use_cases: Injected,
    caller: Asking,
    run: Run = "",
    body: Reason | None = None,
) -> ReceiptAnswer:
    """Request the undo again; `entry` is a ledger entry's id, or its step's name."""
    return _accepted(
        await use_cases.operator.retry_compensation(
            flow, key, entry, run=run, reason=_reason_of(body), by=caller.actor
        ),
        response,
    )


@router.post(
    "/compensations/{entry}/resolve",
    operation_id="resolveCompensation",
    summary="Record that it was undone by hand",
    **_ROUTE,
)
async def resolve_compensation(
    flow: FlowName,
    key: Key,
    entry: Segment,
    response: Response,
    use_cases: Injected,
    caller: Asking,
    body: RequiredReason,
    run: Run = "",
) -> ReceiptAnswer:
    """Record the manual undo; `entry` is a ledger entry's id, or its step's name."""
    return _accepted(
        await use_cases.operator.resolve_compensation(flow, key, entry, run=run, reason=body.reason, by=caller.actor),
        response,
    )
