"""The list of a flow's runs, filtered by status, step, time and attributes. The address holds the filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from choreo.app.query.attribute_filters import FORMS, condition_of
from choreo.app.query.flows import Flows
from choreo.app.query.open_steps import at_step
from choreo.core.access import Role
from choreo.core.errors import DecodeError
from choreo.core.state import STATUSES
from choreo.ports.read_model import Condition, Filter, Page
from choreo.surfaces.rest.parameters import FlowName
from choreo.surfaces.rest.roles import Need
from choreo.surfaces.rest.use_cases import Asking, Hiding, Injected
from choreo.surfaces.web import saved_views
from choreo.surfaces.web.rendering import Live, render

router: APIRouter = APIRouter(prefix="/ui")
LIST: str = "/flows/{flow}/instances"
ROLES: Mapping[str, Need] = {f"GET /ui{LIST}": Need(Role.VIEWER)}
PAGE_ROWS = 50


class Asked(NamedTuple):
    """The filter as a person wrote it."""

    status: str
    key: str
    step: str
    started_from: str
    started_before: str
    where: Sequence[str]

    def filter(self, flow: str) -> Filter:
        """Return the filter; raises DecodeError on a part that cannot be read."""
        if self.status and self.status not in STATUSES:
            raise DecodeError(
                f"{self.status!r:.80} is no status", where="filter status", remedy=f"One of {', '.join(STATUSES)}."
            )
        conditions = tuple(_condition(text) for text in self.where if text.strip())
        begin, end = _moment("started from", self.started_from), _moment("started before", self.started_before)
        return Filter(flow, self.status, self.key, {}, begin, end, conditions)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Return the filter as parameters of an address."""
        fields = ("status", "key", "step", "started_from", "started_before")
        return [*((name, getattr(self, name)) for name in fields), *(("where", text) for text in self.where)]


def _condition(text: str) -> Condition:
    found = condition_of(text.strip())
    if found is None:
        raise DecodeError(f"{text!r:.120} is no comparison", where="filter where", remedy=f"Write {FORMS}.")
    return found


def _moment(name: str, text: str) -> int:
    """Return the epoch milliseconds of a form's date and time, which counts as UTC; 0 for none."""
    if not text:
        return 0
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        remedy = "Write it such as 2026-01-31T08:00, in UTC."
        raise DecodeError(f"{text!r:.60} is no date and time", where=f"filter {name}", remedy=remedy) from error
    return max(0, round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1_000))


def names_of(flows: Flows, flow: str) -> list[str]:
    """Return the names of fields to filter by: search attributes, then the start event's fields."""
    definition = flows.definition(flow)
    declared = [attribute.name for attribute in definition.attributes]
    declared += ["outcome"] if definition.outcomes else []
    return [*declared, *(name for name in definition.events.get(definition.starts, ()) if name not in declared)]


def places_of(flows: Flows, flow: str) -> list[str]:
    """Return the names of steps and waits to filter by."""
    definition = flows.definition(flow)
    return [*(step.name for step in definition.steps), *(wait.name for wait in definition.waits)]


@router.get(LIST)
async def _list_instances(
    *,
    request: Request,
    flow: FlowName,
    use_cases: Injected,
    caller: Asking,
    hiding: Hiding,
    status: Annotated[str, Query(max_length=40)] = "",
    key: Annotated[str, Query(max_length=512)] = "",
    step: Annotated[str, Query(max_length=300)] = "",
    started_from: Annotated[str, Query(max_length=60)] = "",
    started_before: Annotated[str, Query(max_length=60)] = "",
    where: Annotated[list[str], Query(max_length=16)] = [],  # noqa: B006 - FastAPI's own form; nobody changes it
    cursor: Annotated[str, Query(max_length=60)] = "",
) -> HTMLResponse:
    """List runs, newest start first."""
    asked = Asked(status, key, step, started_from, started_before, [text for text in where if text.strip()])
    wanted = asked.filter(flow)
    hiding.require_filters(caller, flow, {condition.name for condition in wanted.conditions})
    queries = use_cases.queries
    if step:
        page = await at_step(queries, wanted, step, PAGE_ROWS, cursor)
    else:
        page = await queries.instances(wanted, PAGE_ROWS, cursor)
    return render(
        request,
        "instances.html",
        title=f"Instances of {flow}",
        live=Live(flow),
        flow=use_cases.flows.definition(flow),
        page=Page(hiding.instances(caller, page.items), page.cursor),
        asked=asked,
        cursor=cursor,
        statuses=STATUSES,
        places=places_of(use_cases.flows, flow),
        names=names_of(use_cases.flows, flow),
        views=[*saved_views.BUILT_IN, *saved_views.of(request, flow)],
    )
