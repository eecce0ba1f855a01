"""Runs in flight by the version of their flow, and whether a deployment would strand or change some of them.

Reads the views, page by page, and on request the log; the surfaces make them readable for people.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from choreo.app.query.queries import Queries
from choreo.app.query.replay import Difference, Kind, Replay
from choreo.app.tracking.views import detail_of
from choreo.core.declare.steps import Step
from choreo.core.serving import stranding
from choreo.core.state import COMPENSATING, PAUSED, RUNNING, STUCK
from choreo.ports.read_model import Filter
from choreo.ports.recording import Recording

OPEN = (RUNNING, PAUSED, COMPENSATING, STUCK)
PAGE = 500
KEYS_SHOWN = 5
"""Keys of each version that are listed: enough to look at some with `choreo show`."""


TELLING = frozenset({"run", "status", "effects", "expected", "waits", "children"})
"""Fields in which an open run must not change by a deployment: a longer time or another cause changes no course."""


class VersionInFlight(msgspec.Struct):
    """A version of a flow: its open runs, and why the present project could not let them go on."""

    flow: str
    version: int
    is_current: bool
    open: int = 0
    keys: list[str] = []
    """Keys of some of them."""
    stranded: list[str] = []
    """Reasons; empty where every open run can go on."""

    @property
    def state(self) -> str:
        """Return the version's state for people."""
        if self.is_current:
            return "current"
        return "in flight" if self.open else "drained"


async def versions_in_flight(queries: Queries, flow: str, steps: Mapping[str, Step]) -> list[VersionInFlight]:
    """Return every version of a flow that is declared, frozen or in flight, oldest first."""
    table = queries.flows.table(flow)
    present = table.flow.version
    known = {number: VersionInFlight(flow, number, number == present) for number in (*table.versions, present)}
    seen: set[tuple[str, str]] = set()
    for status in (*OPEN, *OPEN):  # a run may change its status while the pages are read
        cursor = ""
        while True:
            page = await queries.instances(Filter(flow=flow, status=status), PAGE, cursor)
            for row in page.items:
                if (row.key, row.run) in seen:
                    continue
                seen.add((row.key, row.run))
                number = detail_of(row).version
                one = known.setdefault(number, VersionInFlight(flow, number, number == present))
                one.open += 1
                if len(one.keys) < KEYS_SHOWN:
                    one.keys = [*one.keys, row.key]
            cursor = page.cursor
            if not cursor:
                break
    for number, one in known.items():
        one.stranded = stranding(table, number, steps) if one.open else []
    return [known[number] for number in sorted(known)]


async def changed_runs(replay: Replay, recording: Recording, flow: str) -> list[Difference]:
    """Return the changes of open runs by the present code and flow, from a fold of the whole log."""
    opened = {(row.key, row.run) async for row in recording.views(flow) if row.status in OPEN}
    return [
        each
        async for each in replay.differences()
        if each.kind is Kind.STATE and each.about in TELLING and (each.key, each.run) in opened
    ]
