"""The graph of a run: its flow's picture with the state of each part, now or at a position."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import lru_cache

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from choreo.app.query.graph_state import AHEAD, parts_of
from choreo.core.access import Role
from choreo.core.definition import FlowDefinition
from choreo.core.drawing.picture import Picture, picture
from choreo.core.drawing.svg import LINE
from choreo.surfaces.rest.roles import Need
from choreo.surfaces.web.moments import OneMoment
from choreo.surfaces.web.run_page import INSTANCE, OneRun

router: APIRouter = APIRouter(prefix="/ui")
ROLES: Mapping[str, Need] = {f"GET /ui{INSTANCE}/graph": Need(Role.VIEWER)}
KEPT_MAX = 64
"""Pictures that are kept: one for each version of a flow."""


@router.get(f"{INSTANCE}/graph")
async def _show_graph(request: Request, page: OneRun, moment: OneMoment) -> HTMLResponse:
    """Draw the graph; a list of the same parts stands below it."""
    # A large flow takes a second, once: requests that come meanwhile do not wait for it.
    drawn = await asyncio.to_thread(picture_of, page.flow)
    parts = parts_of(page.flow, moment.instance.detail, moment.rows)
    steps = [(step.name, parts.get(f"step {step.name}", AHEAD)) for step in page.flow.steps]
    steps += [(wait.name, parts.get(wait.name, AHEAD)) for wait in page.flow.waits]
    return page.render(
        request, "graph.html", moment=moment, drawn=drawn, parts=parts, ahead=AHEAD, steps=steps, line=LINE
    )


def picture_of(flow: FlowDefinition) -> Picture:
    """Return the picture of a flow, drawn once."""
    return _drawn(_Known(flow))


class _Known:
    """A definition, by its identity: it holds lists, and has no hash."""

    def __init__(self, flow: FlowDefinition) -> None:
        self.flow: FlowDefinition = flow

    def __hash__(self) -> int:
        return id(self.flow)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and other.flow is self.flow


@lru_cache(KEPT_MAX)
def _drawn(known: _Known) -> Picture:
    return picture(known.flow)
