"""The part that all pages of one run share: the run as the caller may see it, its tabs, and the note about a write."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import Depends, Query, Request
from fastapi.responses import HTMLResponse

from choreo.app.query.queries import Instance
from choreo.app.query.read_your_writes import position_of
from choreo.core.definition import FlowDefinition
from choreo.core.errors import UnavailableError
from choreo.surfaces.rest.parameters import WAIT_S_DEFAULT, FlowName, Key, Run
from choreo.surfaces.rest.use_cases import Asking, Hiding, Injected
from choreo.surfaces.web.rendering import Entry, Live, render

INSTANCE = "/flows/{flow}/instances/{key}"

TABS: tuple[Entry, ...] = (
    Entry("State"),
    Entry("Graph", ("graph",)),
    Entry("Timeline", ("timeline",)),
    Entry("Changes", ("changes",)),
    Entry("History", ("history",)),
)
"""The pages of one run, in their order; the path stands below the run's own."""


class Written(NamedTuple):
    """A write that the page has to show."""

    position: str
    is_shown: bool


class RunPage(NamedTuple):
    """One run, for a page about it."""

    instance: Instance
    flow: FlowDefinition
    """The declaration of the run's version."""
    written: Written | None

    def render(self, request: Request, template: str, **values: Any) -> HTMLResponse:
        """Return a page about the run; its template extends `run.html`."""
        row = self.instance.row
        return render(
            request,
            template,
            title=f"{row.key} – {row.flow}",
            live=Live(row.flow, row.partition),
            instance=self.instance,
            row=row,
            detail=self.instance.detail,
            flow=self.flow,
            written=self.written,
            tabs=TABS,
            **values,
        )


async def _run_page(
    *,
    flow: FlowName,
    key: Key,
    use_cases: Injected,
    caller: Asking,
    hiding: Hiding,
    run: Run = "",
    after: Annotated[str, Query(max_length=300)] = "",
) -> RunPage:
    """Read the run; wait, within bounds, for the write of the person that asks."""
    written = None
    if after:
        try:
            await use_cases.queries.reached(position_of(after), WAIT_S_DEFAULT)
            written = Written(after, is_shown=True)
        except UnavailableError:
            written = Written(after, is_shown=False)
    found = await use_cases.queries.instance(flow, key, run)
    instance = msgspec.structs.replace(found, row=hiding.instance(caller, found.row))
    definition = use_cases.flows.table(flow).nearest(instance.detail.version).flow
    return RunPage(instance, definition, written)


OneRun = Annotated[RunPage, Depends(_run_page)]
"""Dependency of a page about one run."""
