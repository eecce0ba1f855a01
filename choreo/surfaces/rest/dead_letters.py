"""Routes about dead letters: list them with their causes, show one, redrive one."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict

from choreo.adapters.errors import no_dead_letter
from choreo.app.query.read_your_writes import token_of
from choreo.core.access import Caller, Role
from choreo.ports.dead_letters import DeadLetter
from choreo.surfaces.json_format import (
    DeadLetterAnswer,
    DeadLetterPage,
    ReceiptAnswer,
    dead_letter_and_record_of,
    dead_letter_of,
    receipt_of,
)
from choreo.surfaces.preview_format import PreviewAnswer
from choreo.surfaces.rest.access import require
from choreo.surfaces.rest.error_responses import refused, refused_write
from choreo.surfaces.rest.flows import WRITTEN
from choreo.surfaces.rest.parameters import PageLimit, Segment, cursor_like
from choreo.surfaces.rest.problems import BadCursorError
from choreo.surfaces.rest.use_cases import Asking, Hiding, Injected, UseCases


class Nothing(BaseModel):
    """An empty object; the body may also be left out."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


READS_MAX = 10
"""Pages read for one: a caller of few flows gets a short page instead of a long wait."""

router: APIRouter = APIRouter(prefix="/dead-letters", tags=["dead letters"])

_DEAD_LETTER = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
"""A dead letter's id, which is also the cursor of a page that ended with it."""


@router.get("", operation_id="listDeadLetters", summary="Dead letters, newest first", responses=refused(400, 404))
async def list_dead_letters(
    use_cases: Injected,
    caller: Asking,
    flow: Annotated[str, Query(description="Only this flow's.", max_length=249)] = "",
    limit: Annotated[PageLimit, Query(description="How many at most.")] = 50,
    cursor: Annotated[str, cursor_like(_DEAD_LETTER)] = "",
) -> DeadLetterPage:
    """List dead letters of every flow that the caller may see, or of one."""
    if flow:
        require(caller, Role.VIEWER, flow)
        use_cases.flows.definition(flow)
    if cursor and not re.fullmatch(_DEAD_LETTER, cursor):
        raise BadCursorError(
            f"{cursor!r} is not a cursor of this list", where="query.cursor", remedy="Begin without one."
        )
    page, following = await visible(use_cases, caller, flow, limit, cursor)
    return DeadLetterPage(items=[dead_letter_of(dead_letter) for dead_letter in page], cursor=following)


async def visible(
    use_cases: UseCases, caller: Caller, flow: str, limit: int, after: str
) -> tuple[list[DeadLetter], str]:
    """Return a page of the dead letters that the caller may see, and its cursor; the page may be short."""
    found: list[DeadLetter] = []
    for _ in range(READS_MAX):
        read = await use_cases.queries.dead_letters(flow, limit + 1, after)
        for number, dead_letter in enumerate(read[:limit], 1):
            after = dead_letter.id
            if caller.may(Role.VIEWER, dead_letter.topic):
                found.append(dead_letter)
            if len(found) == limit:
                return found, after if number < len(read) else ""
        if len(read) <= limit:
            return found, ""
    return found, after


async def one(use_cases: UseCases, caller: Caller, dead_letter: str) -> DeadLetter:
    """Return a dead letter; one of a flow that the caller may not see does not exist for it. Raises NotFoundError."""
    found = await use_cases.queries.dead_letter(dead_letter)
    if not caller.may(Role.VIEWER, found.topic):
        raise no_dead_letter(dead_letter)
    return found


@router.get(
    "/{dead_letter}", operation_id="getDeadLetter", summary="One dead letter with its record", responses=refused(404)
)
async def get_dead_letter(
    dead_letter: Segment, use_cases: Injected, caller: Asking, hiding: Hiding
) -> DeadLetterAnswer:
    """Show a dead letter with its headers, and its value as it is in the log; without it where a field is hidden."""
    found = await one(use_cases, caller, dead_letter)
    answer = dead_letter_and_record_of(found)
    if hiding.hides(caller, found.topic, found.record.event.type):
        answer.data_base64 = ""
    return answer


@router.get(
    "/{dead_letter}/preview",
    operation_id="previewRedrive",
    summary="The consequences of a redrive, if it were done now",
    responses=refused(400, 404, 409),
)
async def preview_redrive(dead_letter: Segment, use_cases: Injected, caller: Asking) -> PreviewAnswer:
    """Fold the redriven record on a copy of its run; the outcome of a step that runs again is not foreseen."""
    found = await one(use_cases, caller, dead_letter)
    return PreviewAnswer.model_validate(await use_cases.operator.preview_of_redrive(found.id, by=caller.actor))


@router.post(
    "/{dead_letter}/redrive",
    operation_id="redriveDeadLetter",
    summary="Give it back to the step that could not take it",
    status_code=202,
    responses={202: {"description": "Given back.", **WRITTEN}, **refused_write(404, 409)},
)
async def redrive(
    dead_letter: Segment, response: Response, use_cases: Injected, caller: Asking, _body: Nothing | None = None
) -> ReceiptAnswer:
    """Give the record to its failed step only, under the old id; a record that was no step's goes to the log again."""
    require(caller, Role.ADMIN, (await one(use_cases, caller, dead_letter)).topic)
    receipt = await use_cases.operator.redrive(dead_letter, by=caller.actor)
    response.headers["Choreo-Position"] = token_of(receipt.position)
    return receipt_of(receipt)
