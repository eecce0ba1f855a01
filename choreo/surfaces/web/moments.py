"""One run at a position of its log, for pages with `?at=`: folded from the log up to it; without it the present."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from fastapi import Depends

from choreo.app.query.queries import Instance
from choreo.app.query.timeline import TimelineRow, timeline
from choreo.surfaces.rest.parameters import At, FlowName, Key
from choreo.surfaces.rest.past import past_of
from choreo.surfaces.rest.use_cases import Asking, Hiding, Injected
from choreo.surfaces.web.run_page import OneRun

EVENTS_MAX = 2_000
"""Events of a run that are read for a picture of its present state: some 50 ms."""


class Moment(NamedTuple):
    """A run at a position."""

    instance: Instance
    rows: list[TimelineRow]
    at: str
    """The position that was asked for; "" for the present."""
    earlier: int
    """Offset of the event before; -1: there is none."""
    later: int
    """Offset of the event after; -1: this is the last one."""
    is_whole: bool
    """Whether every event was read."""


async def _moment(
    flow: FlowName,
    key: Key,
    page: OneRun,
    use_cases: Injected,
    caller: Asking,
    hiding: Hiding,
    at: At = "",
) -> Moment:
    """Return the run as it was; raises DecodeError on a text that is no position, NotFoundError before its start."""
    run = page.instance.row.run
    history = await use_cases.queries.history(flow, key, run=run, limit=EVENTS_MAX + 1)
    table = use_cases.flows.table(flow).nearest(page.instance.detail.version)
    offsets = [row.offset for row in history]
    if not at:
        rows = timeline(table, history[:EVENTS_MAX])
        earlier = offsets[-2] if len(offsets) > 1 else -1
        return Moment(page.instance, rows, "", earlier, -1, len(history) <= EVENTS_MAX)
    past = await past_of(use_cases, caller, hiding, flow, key, run, at)
    earlier = max((offset for offset in offsets if offset < past.timeline[-1].offset), default=-1)
    later = min((offset for offset in offsets if offset > past.offset), default=-1)
    return Moment(past.instance, past.timeline, at, earlier, later, is_whole=True)


OneMoment = Annotated[Moment, Depends(_moment)]
"""Dependency of a page about one run at a position."""
