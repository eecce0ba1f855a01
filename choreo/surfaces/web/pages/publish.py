"""The form that publishes an event from outside: the start of a run, or an event that a run waits for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response

from choreo.app.exact_json import read
from choreo.app.query.flows import Flows
from choreo.app.query.read_your_writes import token_of
from choreo.core.access import Role
from choreo.core.errors import ChoreoError, DecodeError
from choreo.surfaces.rest.parameters import FlowName
from choreo.surfaces.rest.problems import status_of
from choreo.surfaces.rest.roles import Need
from choreo.surfaces.rest.use_cases import Injected
from choreo.surfaces.web.forms import Posted, done
from choreo.surfaces.web.links import Links
from choreo.surfaces.web.rendering import render

router: APIRouter = APIRouter(prefix="/ui")
_PUBLISH = "/flows/{flow}/publish"
ROLES: Mapping[str, Need] = {
    f"GET /ui{_PUBLISH}": Need(Role.PUBLISHER),
    f"POST /ui{_PUBLISH}": Need(Role.PUBLISHER),
}


def from_outside(flows: Flows, flow: str) -> Sequence[str]:
    """Return the types that may be published here, the start first."""
    table = flows.table(flow)
    others = sorted(name for name in flows.classes[flow] if table.comes_from_outside(name))
    return [table.flow.starts, *(name for name in others if name != table.flow.starts)]


@router.get(_PUBLISH)
async def _show_form(
    request: Request,
    flow: FlowName,
    use_cases: Injected,
    type_: Annotated[str, Query(alias="type", max_length=200)] = "",
    run: Annotated[str, Query(max_length=100)] = "",
) -> HTMLResponse:
    """Show the form."""
    return _page(request, use_cases.flows, flow, {"type": type_, "run": run, "fields": "{\n}"})


@router.post(_PUBLISH)
async def _publish(request: Request, flow: FlowName, use_cases: Injected, form: Posted) -> Response:
    """Publish, and lead to the run; a form that is refused is shown again with the reason."""
    try:
        receipt = await use_cases.publisher.publish(
            flow,
            _fields(form.get("fields", "")),
            type_=form.get("type", ""),
            run=form.get("run", "").strip(),
            idempotency_key=form.get("idempotency_key", "").strip(),
        )
    except ChoreoError as error:
        return _page(request, use_cases.flows, flow, form, error)
    after = token_of(receipt.position)
    return done(Links.of(request).to("flows", flow, "instances", receipt.key, run=receipt.run, after=after))


def _fields(text: str) -> dict[str, Any]:
    try:
        found = read(text)
    except (json.JSONDecodeError, ValueError) as error:
        raise DecodeError(f"the fields are no JSON: {error}", where="fields", remedy="Write one object.") from error
    if not isinstance(found, dict):
        raise DecodeError("the fields are no JSON object", where="fields", remedy='Write such as {"order_id": "o-1"}.')
    return found


def _page(
    request: Request, flows: Flows, flow: str, given: Mapping[str, str], error: ChoreoError | None = None
) -> HTMLResponse:
    definition = flows.definition(flow)
    types = from_outside(flows, flow)
    return render(
        request,
        "publish.html",
        title=f"Publish to {flow}",
        status=status_of(error)[0] if error else 200,
        flow=definition,
        types=[(name, definition.events.get(name, ())) for name in types],
        given={name: given.get(name, "") for name in ("type", "fields", "run", "idempotency_key")},
        error=error,
    )
