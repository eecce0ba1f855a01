"""Routes about dead letters: list them with their causes, show one, redrive one."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict

from choreo.app.query.read_your_writes import token_of
from choreo.surfaces.json_format import (
    DeadLetterAnswer,
    DeadLetterPage,
    ReceiptAnswer,
    dead_letter_and_record_of,
    dead_letter_of,
    receipt_of,
)
from choreo.surfaces.rest.error_responses import refused, refused_write
from choreo.surfaces.rest.flows import WRITTEN
from choreo.surfaces.rest.parameters import PageLimit, Segment, cursor_like
from choreo.surfaces.rest.problems import BadCursorError
from choreo.surfaces.rest.use_cases import Injected


class Nothing(BaseModel):
    """An empty object; the body may also be left out."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


router: APIRouter = APIRouter(prefix="/dead-letters", tags=["dead letters"])

_DEAD_LETTER = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
"""A dead letter's id, which is also the cursor of a page that ended with it."""


@router.get("", operation_id="listDeadLetters", summary="Dead letters, newest first", responses=refused(400, 404))
async def list_dead_letters(
    use_cases: Injected,
    flow: Annotated[str, Query(description="Only this flow's.", max_length=249)] = "",
    limit: Annotated[PageLimit, Query(description="How many at most.")] = 50,
    cursor: Annotated[str, cursor_like(_DEAD_LETTER)] = "",
) -> DeadLetterPage:
    """List dead letters of every flow, or of one."""
    if flow:
        use_cases.flows.definition(flow)
    if cursor and not re.fullmatch(_DEAD_LETTER, cursor):
        raise BadCursorError(
            f"{cursor!r} is not a cursor of this list", where="query.cursor", remedy="Begin without one."
        )
    dead_letters = await use_cases.queries.dead_letters(flow, limit + 1, cursor)
    page = dead_letters[:limit]
    return DeadLetterPage(
        items=[dead_letter_of(dead_letter) for dead_letter in page],
        cursor=page[-1].id if len(dead_letters) > limit else "",
    )


@router.get(
    "/{dead_letter}", operation_id="getDeadLetter", summary="One dead letter with its record", responses=refused(404)
)
async def get_dead_letter(dead_letter: Segment, use_cases: Injected) -> DeadLetterAnswer:
    """Show a dead letter with its headers, and its value as it is in the log."""
    return dead_letter_and_record_of(await use_cases.queries.dead_letter(dead_letter))


@router.post(
    "/{dead_letter}/redrive",
    operation_id="redriveDeadLetter",
    summary="Give it back to the step that could not take it",
    status_code=202,
    responses={202: {"description": "Given back.", **WRITTEN}, **refused_write(400, 404, 409, 413)},
)
async def redrive(
    dead_letter: Segment, response: Response, use_cases: Injected, _body: Nothing | None = None
) -> ReceiptAnswer:
    """Give the record to its failed step only, under the old id; a record that was no step's goes to the log again."""
    receipt = await use_cases.operator.redrive(dead_letter)
    response.headers["Choreo-Position"] = token_of(receipt.position)
    return receipt_of(receipt)
