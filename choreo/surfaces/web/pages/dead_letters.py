"""The pages of dead letters: grouped by step, cause and schema; one with its record; redriving one or several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from choreo.app.query.dead_letter_groups import grouped, schema_of
from choreo.app.query.read_your_writes import token_of
from choreo.core.access import Caller, Role
from choreo.core.errors import ChoreoError, DecodeError
from choreo.core.events import to_headers
from choreo.surfaces.rest.access import require
from choreo.surfaces.rest.dead_letters import one, visible
from choreo.surfaces.rest.parameters import Segment
from choreo.surfaces.rest.roles import Need, Within
from choreo.surfaces.rest.use_cases import Asking, Hiding, Injected, UseCases
from choreo.surfaces.web.forms import Posted, done
from choreo.surfaces.web.links import Links
from choreo.surfaces.web.rendering import Live, render

router: APIRouter = APIRouter(prefix="/ui")
_LIST = "/dead-letters"
ROLES: Mapping[str, Need] = {
    f"GET /ui{_LIST}": Need(Role.VIEWER, Within.ANY),
    f"GET /ui{_LIST}/{{dead_letter}}": Need(Role.VIEWER, Within.ANY),
    f"POST /ui{_LIST}/redrive": Need(Role.ADMIN, Within.ANY),
}
PAGE_LETTERS = 200
"""Dead letters of one page, in groups."""
DATA_SHOWN = 4_096
"""Bytes of a record's value that a page shows."""


class Redriven(NamedTuple):
    """The result of one redrive."""

    id: str
    flow: str
    key: str
    run: str
    position: str
    """Empty where it was refused."""
    refused: str
    remedy: str


@router.get(_LIST)
async def _list_dead_letters(
    request: Request,
    use_cases: Injected,
    caller: Asking,
    flow: Annotated[str, Query(max_length=249)] = "",
    cursor: Annotated[str, Query(max_length=60)] = "",
) -> HTMLResponse:
    """Show dead letters of the flows that the caller may see, or of one, in groups."""
    if flow:
        require(caller, Role.VIEWER, flow)
        use_cases.flows.definition(flow)
    letters, following = await visible(use_cases, caller, flow, PAGE_LETTERS, cursor)
    return render(
        request,
        "dead_letters.html",
        title="Dead letters",
        live=Live(flow),
        flow=flow,
        flows=[name for name in use_cases.flows.names if caller.may(Role.VIEWER, name)],
        groups=grouped(letters),
        cursor=cursor,
        following=following,
        token_of=token_of,
    )


@router.get(f"{_LIST}/{{dead_letter}}")
async def _show_dead_letter(
    *,
    request: Request,
    dead_letter: Segment,
    use_cases: Injected,
    caller: Asking,
    hiding: Hiding,
    after: Annotated[str, Query(max_length=300)] = "",
) -> HTMLResponse:
    """Show a dead letter with its headers, and its value where no field is hidden from the caller."""
    letter = await one(use_cases, caller, dead_letter)
    event = letter.record.event
    hidden = hiding.hides(caller, letter.topic, event.type)
    return render(
        request,
        "dead_letter.html",
        title="Dead letter",
        letter=letter,
        schema=schema_of(letter),
        position=token_of(letter.position),
        headers=to_headers(event),
        data="" if hidden else _shown(event.data),
        hidden=hidden,
        size=len(event.data),
        after=after,
    )


def _shown(data: bytes) -> str:
    """Return a value as text if it is one, else its bytes in hexadecimal digits."""
    begin = data[:DATA_SHOWN]
    try:
        text = begin.decode()
    except UnicodeDecodeError:
        return begin.hex(" ")
    return text if text.isprintable() or text.lstrip()[:1] in ("{", "[") else begin.hex(" ")


@router.post(f"{_LIST}/redrive")
async def _redrive(request: Request, use_cases: Injected, caller: Asking, form: Posted) -> Response:
    """Give the chosen letters back, one after the other; show the result of each."""
    chosen = list(dict.fromkeys(form.all("id")))
    if not chosen:
        raise DecodeError("no dead letter is chosen", where="form", remedy="Tick those to redrive.")
    if len(chosen) == 1:
        letter = await one(use_cases, caller, chosen[0])
        require(caller, Role.ADMIN, letter.topic)
        receipt = await use_cases.operator.redrive(letter.id, by=caller.actor)
        return done(Links.of(request).to("dead-letters", letter.id, after=token_of(receipt.position)))
    results = [await _redriven(use_cases, caller, id_) for id_ in chosen]
    return render(request, "redriven.html", title="Redriven", results=results)


async def _redriven(use_cases: UseCases, caller: Caller, id_: str) -> Redriven:
    try:
        letter = await one(use_cases, caller, id_)
        require(caller, Role.ADMIN, letter.topic)
        receipt = await use_cases.operator.redrive(id_, by=caller.actor)
    except ChoreoError as error:
        return Redriven(id_, "", "", "", "", error.what, error.remedy)
    return Redriven(id_, receipt.flow, receipt.key, receipt.run, token_of(receipt.position), "", "")
