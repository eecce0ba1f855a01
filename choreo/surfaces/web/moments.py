"""One run at a position of its log, for pages with `?at=`: folded from the log up to it; without it the present."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
from fastapi import Depends, Query

from choreo.app.query.queries import Instance
from choreo.app.query.timeline import TimelineRow, timeline
from choreo.core.errors import NotFoundError
from choreo.surfaces.rest.parameters import FlowName, Key
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
    at: Annotated[str, Query(max_length=300)] = "",
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
    if use_cases.pasts is None:
        raise NotFoundError("this process folds no past", where="at", remedy="Leave it out to see the present.")
    past = await use_cases.pasts.at(flow, key, await use_cases.pasts.until(at, flow, key), run)
    row = hiding.instance(caller, past.instance.row)
    instance = msgspec.structs.replace(past.instance, row=row)
    earlier = max((offset for offset in offsets if offset < past.timeline[-1].offset), default=-1)
    later = min((offset for offset in offsets if offset > past.offset), default=-1)
    return Moment(instance, past.timeline, at, earlier, later, is_whole=True)


OneMoment = Annotated[Moment, Depends(_moment)]
"""Dependency of a page about one run at a position."""
