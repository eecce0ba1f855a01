"""The consequences of an action on a run, with the form that does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from choreo.app.operator.actions import Action, Kind
from choreo.core.access import Role
from choreo.core.errors import ConflictError
from choreo.surfaces.rest.parameters import FlowName, Key
from choreo.surfaces.rest.roles import Need
from choreo.surfaces.rest.use_cases import Asking, Injected
from choreo.surfaces.web import buttons
from choreo.surfaces.web.run_page import INSTANCE, OneRun

router: APIRouter = APIRouter(prefix="/ui")
ROLES: Mapping[str, Need] = {f"GET /ui{INSTANCE}/preview/{{action}}": Need(Role.VIEWER)}


@router.get(f"{INSTANCE}/preview/{{action}}")
async def _show_preview(
    *,
    request: Request,
    flow: FlowName,
    key: Key,
    action: Kind,
    use_cases: Injected,
    caller: Asking,
    page: OneRun,
    entry: Annotated[str, Query(max_length=512)] = "",
) -> HTMLResponse:
    """Show the facts that the action would decide, its undos, the deadlines that move, and the end."""
    run, detail = page.instance.row.run, page.instance.detail
    found, refusal = None, None
    try:
        found = await use_cases.operator.preview(Action(action, flow, key, run, entry), by=caller.actor)
    except ConflictError as error:
        refusal = error
    offered = [*buttons.of_run(detail, caller, flow)]
    offered += [
        each
        for effect in detail.ledger
        if effect.entry == entry
        for each in buttons.of_effect(effect, detail, caller, flow)
    ]
    button = next((each for each in offered if each.kind == action), None)
    return page.render(
        request,
        "preview.html",
        preview=found,
        refusal=refusal,
        action=action,
        button=button,
    )
