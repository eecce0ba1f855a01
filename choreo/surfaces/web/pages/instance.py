"""The page of one run: its state, why it stands still, its ledger, attempts, waits, timers, children and parent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from choreo.app.query.timeline import TimelineRow, timeline
from choreo.core.access import Role
from choreo.core.state import UNSETTLED
from choreo.surfaces.rest.parameters import FlowName, Key
from choreo.surfaces.rest.roles import Need
from choreo.surfaces.rest.use_cases import Asking, Hiding, Injected, UseCases
from choreo.surfaces.web import buttons
from choreo.surfaces.web.run_page import INSTANCE, OneRun, RunPage

router: APIRouter = APIRouter(prefix="/ui")
ROLES: Mapping[str, Need] = {f"GET /ui{INSTANCE}": Need(Role.VIEWER)}

WHY_PATIENCE_S = 0.2
"""How long the cause waits for the read model: a page of the present state is better than a page later."""
ATTEMPT_EVENTS_MAX = 2_000
"""Events of a run that are read for its attempts: some 50 ms."""


@router.get(INSTANCE)
async def _show_instance(
    request: Request, flow: FlowName, key: Key, use_cases: Injected, caller: Asking, hiding: Hiding, page: OneRun
) -> HTMLResponse:
    """Show one run; without `run` the key's newest."""
    row, detail = page.instance.row, page.instance.detail
    why = await use_cases.queries.why(flow, key, row.run, WHY_PATIENCE_S)
    attempts, is_whole = await _attempts(use_cases, page)
    return page.render(
        request,
        "instance.html",
        why=why,
        command=hiding.command(caller, flow, why.command),
        attempts=attempts,
        attempts_whole=is_whole,
        parent=await use_cases.queries.parent(flow, key, row.run),
        child_flows={step.name: step.children.flow for step in page.flow.steps if step.children},
        buttons=list(buttons.of_run(detail, caller, flow)),
        effect_buttons={
            effect.entry: list(buttons.of_effect(effect, detail, caller, flow)) for effect in detail.ledger
        },
        open_effects=sum(effect.state in UNSETTLED for effect in detail.ledger),
        in_doubt=sum(effect.in_doubt and effect.state in UNSETTLED for effect in detail.ledger),
        timers=detail.timers,
    )


async def _attempts(use_cases: UseCases, page: RunPage) -> tuple[Sequence[TimelineRow], bool]:
    """Return the failed attempts of a run, newest first, and whether all of its events were read."""
    row = page.instance.row
    rows = await use_cases.queries.history(row.flow, row.key, run=row.run, limit=ATTEMPT_EVENTS_MAX)
    table = use_cases.flows.table(row.flow).nearest(page.instance.detail.version)
    failed = [line for line in timeline(table, rows) if line.failure is not None or line.kind in ("failed", "retry")]
    return failed[::-1], len(rows) < ATTEMPT_EVENTS_MAX
