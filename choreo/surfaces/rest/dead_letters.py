"""Routes about dead letters: what was set aside and why, and giving it back."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict

from choreo.app.query_positions import token_of
from choreo.core.events import to_headers
from choreo.ports.dead_letters import DeadLetter
from choreo.surfaces.rest.doors import Given
from choreo.surfaces.rest.flows import WRITTEN, receipt_of
from choreo.surfaces.rest.models import DeadLetterAnswer, DeadLetterPage, DeadLetterSummary, ReceiptAnswer
from choreo.surfaces.rest.parameters import PageLimit, Segment, cursor_like
from choreo.surfaces.rest.problems import BadCursorError
from choreo.surfaces.rest.refusals import refused, refused_write


class Nothing(BaseModel):
    """An empty object, or no body at all: there is nothing to say."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


router: APIRouter = APIRouter(prefix="/dead-letters", tags=["dead letters"])

_LETTER = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
"""A letter's id, which is also the cursor of a page that ended with it."""


def _summary(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "flow": letter.topic,
        "position": token_of(letter.position),
        "key": letter.record.event.key,
        "type": letter.record.event.type,
        "service": letter.service,
        "step": letter.step,
        "cause": letter.cause,
        "set_aside": letter.set_aside_ms,
        "redriven": letter.redriven,
    }


@router.get("", operation_id="listDeadLetters", summary="What was set aside, newest first", responses=refused(400, 404))
async def list_dead_letters(
    doors: Given,
    flow: Annotated[str, Query(description="Only this flow's.", max_length=249)] = "",
    limit: Annotated[PageLimit, Query(description="How many at most.")] = 50,
    cursor: Annotated[str, cursor_like(_LETTER)] = "",
) -> DeadLetterPage:
    """Of every flow, or of one."""
    if flow:
        doors.flows.definition(flow)
    if cursor and not re.fullmatch(_LETTER, cursor):
        raise BadCursorError(
            f"{cursor!r} is not a cursor of this list", where="query.cursor", remedy="Begin without one."
        )
    letters = await doors.queries.dead_letters(flow, limit + 1, cursor)
    page = letters[:limit]
    return DeadLetterPage(
        items=[DeadLetterSummary(**_summary(letter)) for letter in page],
        cursor=page[-1].id if len(letters) > limit else "",
    )


@router.get(
    "/{letter}", operation_id="getDeadLetter", summary="One dead letter with its record", responses=refused(404)
)
async def get_dead_letter(letter: Segment, doors: Given) -> DeadLetterAnswer:
    """With its headers, and its value as it is in the log."""
    found = await doors.queries.dead_letter(letter)
    event = found.record.event
    return DeadLetterAnswer(
        **_summary(found), headers=to_headers(event), data_base64=b64encode(event.data).decode("ascii")
    )


@router.post(
    "/{letter}/redrive",
    operation_id="redriveDeadLetter",
    summary="Give it back to the step that could not take it",
    status_code=202,
    responses={202: {"description": "Given back.", **WRITTEN}, **refused_write(400, 404, 409, 413)},
)
async def redrive(letter: Segment, response: Response, doors: Given, _body: Nothing | None = None) -> ReceiptAnswer:
    """To that step of that service only, under the old id; a record that was no step's goes to the log again."""
    receipt = await doors.operator.redrive(letter)
    response.headers["Choreo-Position"] = token_of(receipt.position)
    return receipt_of(receipt)
