"""The page of one run: its state, why it stands still, its ledger, attempts, waits, timers, children and parent."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from choreo.core.access import Role
from choreo.core.state import UNSETTLED
from choreo.surfaces.rest.parameters import FlowName, Key
from choreo.surfaces.rest.roles import Need
from choreo.surfaces.rest.use_cases import Asking, Hiding, Injected
from choreo.surfaces.web import buttons
from choreo.surfaces.web.moments import OneMoment
from choreo.surfaces.web.run_page import INSTANCE, OneRun

router: APIRouter = APIRouter(prefix="/ui")
ROLES: Mapping[str, Need] = {f"GET /ui{INSTANCE}": Need(Role.VIEWER)}

WHY_PATIENCE_S = 0.2
"""How long the cause waits for the read model: a page of the present state is better than a page later."""


@router.get(INSTANCE)
async def _show_instance(
    *,
    request: Request,
    flow: FlowName,
    key: Key,
    use_cases: Injected,
    caller: Asking,
    hiding: Hiding,
    page: OneRun,
    moment: OneMoment,
) -> HTMLResponse:
    """Show one run, without `run` the newest: as it is, with its cause and actions, or as it was at a position."""
    row, shown = page.instance.row, moment.instance.detail
    why = None if moment.at else await use_cases.queries.why(flow, key, row.run, WHY_PATIENCE_S)
    failed = [line for line in moment.rows if line.failure is not None or line.kind in ("failed", "retry")]
    return page.render(
        request,
        "instance.html",
        moment=moment,
        shown=shown,
        why=why,
        command=hiding.command(caller, flow, why.command) if why else "",
        attempts=failed[::-1],
        parent=await use_cases.queries.parent(flow, key, row.run),
        child_flows={step.name: step.children.flow for step in page.flow.steps if step.children},
        buttons=[] if moment.at else list(buttons.of_run(shown, caller, flow)),
        effect_buttons={
            effect.entry: [] if moment.at else list(buttons.of_effect(effect, shown, caller, flow))
            for effect in shown.ledger
        },
        open_effects=sum(effect.state in UNSETTLED for effect in shown.ledger),
        in_doubt=sum(effect.in_doubt and effect.state in UNSETTLED for effect in shown.ledger),
        timers=shown.timers,
    )
