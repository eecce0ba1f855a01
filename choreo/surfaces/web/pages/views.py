"""Forms that keep and forget saved views of a list."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import Response

from choreo.core.access import Role
from choreo.surfaces.rest.parameters import FlowName
from choreo.surfaces.rest.roles import Need
from choreo.surfaces.rest.use_cases import Injected
from choreo.surfaces.web import saved_views
from choreo.surfaces.web.forms import Posted, done
from choreo.surfaces.web.links import Links

router: APIRouter = APIRouter(prefix="/ui")
_VIEWS = "/flows/{flow}/views"
ROLES: Mapping[str, Need] = {
    f"POST /ui{_VIEWS}": Need(Role.VIEWER),
    f"POST /ui{_VIEWS}/remove": Need(Role.VIEWER),
}


@router.post(_VIEWS)
async def _save_view(request: Request, flow: FlowName, use_cases: Injected, form: Posted) -> Response:
    """Keep the filter under a name, and lead to it."""
    use_cases.flows.definition(flow)
    pairs = parse_qsl(form.get("query", ""))
    links = Links.of(request)
    answer = done(links.repeated("flows", flow, "instances", pairs=pairs))
    query = links.repeated("", pairs=pairs).partition("?")[2]
    saved_views.save(request, answer, saved_views.View(flow, form.get("name", "").strip(), query))
    return answer


@router.post(f"{_VIEWS}/remove")
async def _remove_view(request: Request, flow: FlowName, form: Posted) -> Response:
    """Forget a view."""
    answer = done(Links.of(request).to("flows", flow, "instances"))
    saved_views.remove(request, answer, flow, form.get("name", ""))
    return answer
