"""Runs in flight by the version of their flow, and whether a deployment would strand or change some of them.

Reads the views, page by page, and on request the log; the surfaces make them readable for people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from choreo.app.query.queries import Queries
from choreo.app.query.replay import Difference, Kind, Replay
from choreo.app.tracking.views import Detail, detail_of
from choreo.core.checks.finding import Finding
from choreo.core.declare.steps import Step
from choreo.core.flow_table import FlowTable
from choreo.core.serving import stranding_findings
from choreo.core.state import COMPENSATING, PAUSED, REQUESTED, RUNNING, STUCK
from choreo.core.state import OPEN as OPEN_EFFECT
from choreo.core.wording import counted
from choreo.ports.read_model import Filter, InstanceView
from choreo.ports.recording import Recording

OPEN = (RUNNING, PAUSED, COMPENSATING, STUCK)
PAGE = 500
KEYS_SHOWN = 5
"""Keys of each version that are listed: enough to look at some with `choreo show`."""


TELLING = frozenset({"run", "status", "effects", "expected", "waits", "children"})
"""Fields in which an open run must not change by a deployment: a longer time or another cause changes no course."""

KEEP = "Keep it, or raise version= of the flow and keep the old steps beside the new ones."


class Missing(NamedTuple):
    """A part of the declaration that an open run needs and the present code lacks."""

    code: str
    what: str


class VersionInFlight(msgspec.Struct):
    """A version of a flow: its open runs, and why the present project could not let them go on."""

    flow: str
    version: int
    is_current: bool
    open: int = 0
    keys: list[str] = []
    """Keys of some of them."""
    builds: dict[str, int] = {}
    """Open runs by their build; "": those without one."""
    findings: list[Finding] = []
    """Reasons with their codes; empty where every open run can go on."""

    @property
    def stranded(self) -> list[str]:
        """Return the reasons, each a part of a sentence."""
        return [finding.what for finding in self.findings]

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
    missing: dict[int, Counter[Missing]] = {}
    now_ms = queries.now_ms
    for status in (*OPEN, *OPEN):  # a run may change its status while the pages are read
        cursor = ""
        while True:
            page = await queries.instances(Filter(flow=flow, status=status), PAGE, cursor)
            for row in page.items:
                if (row.key, row.run) in seen:
                    continue
                seen.add((row.key, row.run))
                detail = detail_of(row)
                number = detail.version
                one = known.setdefault(number, VersionInFlight(flow, number, number == present))
                one.open += 1
                one.builds[detail.build] = one.builds.get(detail.build, 0) + 1
                if not table.is_versioned:  # frozen declarations are compared whole
                    missing.setdefault(number, Counter()).update(set(_missing(table, row, detail, now_ms)))
                if len(one.keys) < KEYS_SHOWN:
                    one.keys = [*one.keys, row.key]
            cursor = page.cursor
            if not cursor:
                break
    for number, one in known.items():
        if one.open:
            one.findings = stranding_findings(table, number, steps)
            where = f"flow {flow}, version {number}"
            one.findings += [
                Finding(each.code, where, f"{each.what}: {counted(runs, 'open run')}", KEEP)
                for each, runs in missing.get(number, Counter[Missing]()).items()
            ]
    return [known[number] for number in sorted(known)]


async def changed_runs(replay: Replay, recording: Recording, flow: str) -> list[Difference]:
    """Return the changes of open runs by the present code and flow, from a fold of the whole log."""
    opened = {(row.key, row.run) async for row in recording.views(flow) if row.status in OPEN}
    return [
        each
        async for each in replay.differences()
        if each.kind is Kind.STATE and each.about in TELLING and (each.key, each.run) in opened
    ]


def _missing(table: FlowTable, row: InstanceView, detail: Detail, now_ms: int) -> Iterator[Missing]:
    """Yield the parts that an open run needs and a declaration without frozen versions lacks."""
    waits = {wait.name: wait for wait in table.flow.waits}
    for step in detail.expected:
        if step.step not in table.steps:
            yield Missing("C812", f"step {step.step}, which is expected, is declared no more")
    for effect in detail.ledger:
        known = table.steps.get(effect.step)
        if effect.state in (OPEN_EFFECT, REQUESTED) and (known is None or not (known.compensation or known.children)):
            gone = "is declared no more" if known is None else "has no compensation any more"
            yield Missing("C812" if known is None else "C813", f"step {effect.step}, which has an effect, {gone}")
    for wait in detail.waits:
        declared = waits.get(wait.name)
        if declared is None:
            yield Missing("C812", f"{wait.name}, which is open, is declared no more")
        elif declared.timeout_ms and _is_past(wait.since_ms + declared.timeout_ms, wait.due_ms, detail, now_ms):
            yield Missing("C813", f"{wait.name}, which is open, has a shorter timeout, and a rebuild would end it")
    deadline_ms = row.started_ms + table.flow.deadline_ms
    if table.flow.deadline_ms and _is_past(deadline_ms, detail.due_ms, detail, now_ms):
        yield Missing("C813", "the flow has a shorter deadline, and a rebuild would compensate what is past it")


def _is_past(declared_ms: int, due_ms: int, detail: Detail, now_ms: int) -> bool:
    """Return whether a time is past by the present declaration, and not by the run's. A pause moves times."""
    return not detail.pause_n and declared_ms <= now_ms < due_ms
