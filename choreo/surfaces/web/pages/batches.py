"""The page of a flow's batches: plan one with a dry run, begin it, follow it, stop it, go on."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import ValidationError

from choreo.app.operator.actions import Kind
from choreo.core.access import Role
from choreo.core.batch import RATE_MAX, RATE_MIN, REDRIVE
from choreo.core.errors import DecodeError
from choreo.surfaces.rest.batches import BatchRequest, batches_of, draft_of_request, one_batch, require_action
from choreo.surfaces.rest.parameters import FlowName, Segment
from choreo.surfaces.rest.roles import Need
from choreo.surfaces.rest.use_cases import Asking, Hiding, Injected
from choreo.surfaces.web.forms import Posted, done
from choreo.surfaces.web.links import Links
from choreo.surfaces.web.rendering import Live, render

router: APIRouter = APIRouter(prefix="/ui")
_LIST = "/flows/{flow}/batches"
ROLES: Mapping[str, Need] = {
    f"GET /ui{_LIST}": Need(Role.VIEWER),
    f"POST /ui{_LIST}": Need(Role.OPERATOR),
    f"POST /ui{_LIST}/{{batch}}/{{change}}": Need(Role.OPERATOR),
}
FIELDS = ("action", "status", "group", "entry", "rate", "reason")
STATUSES = ("", "running", "paused", "compensating", "stuck")


def _asked(fields: Mapping[str, str]) -> BatchRequest:
    """Return the wish in the fields of a form; raises DecodeError."""
    given: dict[str, Any] = {name: fields[name].strip() for name in FIELDS if fields.get(name, "").strip()}
    try:
        return BatchRequest.model_validate(given)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise DecodeError(str(wrong["msg"]), where=str(wrong["loc"][-1]), remedy="Correct the form.") from error


@router.get(_LIST)
async def _list_batches(
    *,
    request: Request,
    flow: FlowName,
    use_cases: Injected,
    caller: Asking,
    hiding: Hiding,
    action: Annotated[str, Query(max_length=20)] = "",
) -> HTMLResponse:
    """Show the batches of a flow; with an action the dry run of one, and the form that begins it."""
    use_cases.flows.definition(flow)
    fields = {name: request.query_params.get(name, "") for name in FIELDS}
    draft = None
    if action:
        draft = await draft_of_request(flow, _asked(fields), use_cases, caller, hiding, token="", dry=True)
    return render(
        request,
        "batches.html",
        title=f"Batches – {flow}",
        live=None if action else Live(flow),
        flow=flow,
        batches=await batches_of(use_cases).list(flow),
        draft=draft,
        fields=fields,
        actions=[REDRIVE, *Kind],
        statuses=STATUSES,
        rates=(RATE_MIN, RATE_MAX),
        token=secrets.token_hex(8),
    )


@router.post(_LIST)
async def _begin_batch(
    request: Request, flow: FlowName, use_cases: Injected, caller: Asking, hiding: Hiding, form: Posted
) -> Response:
    """Begin a batch; the same form sent twice begins one."""
    token = form.get("token", "") or secrets.token_hex(8)
    draft = await draft_of_request(flow, _asked(form), use_cases, caller, hiding, token=token, dry=False)
    await batches_of(use_cases).begin(draft.plan)
    return done(Links.of(request).to("flows", flow, "batches"))


@router.post(f"{_LIST}/{{batch}}/{{change}}")
async def _change_batch(
    *,
    request: Request,
    flow: FlowName,
    batch: Segment,
    change: Literal["stop", "resume"],
    use_cases: Injected,
    caller: Asking,
    _form: Posted,
) -> Response:
    """Stop a batch, or go on with it."""
    require_action(caller, (await one_batch(flow, batch, use_cases)).plan.action, flow)
    known = batches_of(use_cases)
    await (known.stop(batch) if change == "stop" else known.resume(batch))
    return done(Links.of(request).to("flows", flow, "batches"))
