"""Check the whole flow before it runs: each finding is a sentence that names the step and the remedy.

Works on the plain definition, so that the same rules apply to a flow loaded from JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from choreo.core.checks import attributes, carries, children, joins, names, paths, reminders, side_by_side, times
from choreo.core.checks import branches as checks_branches
from choreo.core.checks import flow as checks_flow
from choreo.core.checks.choices import Choices
from choreo.core.checks.finding import Finding, Level
from choreo.core.checks.graph import Graph
from choreo.core.definition import FlowDefinition
from choreo.core.errors import DeclarationError
from choreo.core.flow_table import FlowTable

__all__ = ["Finding", "Level", "check", "raise_errors", "require", "require_name"]


def check(flow: FlowDefinition) -> list[Finding]:
    """Return every finding about the flow, errors first."""
    found = list(dict.fromkeys(_all(flow)))
    return sorted(found, key=lambda finding: finding.level != "error")


def require(flow: FlowDefinition) -> None:
    """Raise DeclarationError with every error of the checks; warnings do not raise."""
    raise_errors(check(flow), f"flow {flow.name}")


def raise_errors(findings: Iterable[Finding], where: str) -> None:
    """Raise DeclarationError with every error among the findings, if there is one."""
    errors = [finding for finding in findings if finding.level == "error"]
    if len(errors) == 1:
        raise DeclarationError(errors[0].what, where=errors[0].where, remedy=errors[0].remedy, code=errors[0].code)
    if errors:
        listed = "\n".join(f"  - {finding.sentence}" for finding in errors)
        raise DeclarationError(f"{len(errors)} mistakes\n{listed}", where=where)


def require_name(name: object, what: str) -> None:
    """Raise DeclarationError unless this can be the name of a flow, service or step."""
    if wrong := names.wrong_name(name):
        raise DeclarationError(wrong, where=what, remedy="Give it another name.", code="C101")


def _all(flow: FlowDefinition) -> Iterator[Finding]:
    table = FlowTable(flow)
    yield from names.names(flow)
    yield from names.fields(flow, table)
    yield from times.attempts(flow)
    yield from carries.own(flow)
    yield from attributes.attributes(flow)
    unsaid = list(checks_flow.sources(flow))
    yield from unsaid
    yield from checks_branches.branches(flow, table)
    conflicts = list(names.roles(flow, table))
    if any(finding.level == "error" for finding in conflicts):
        yield from conflicts
        return  # Without the roles of all events, further findings would be noise.
    graph, choices = Graph(flow, table), Choices(flow, table)
    yield from (each for each in conflicts if each.where not in side_by_side.shared_undos(flow, graph))
    unreached = list(checks_flow.ways(flow, table, graph))
    yield from unreached
    if all(finding.level == "warning" for finding in (*unsaid, *unreached)):
        yield from paths.paths(flow, table, checks_flow.dead_ends(flow, graph))
    yield from joins.joined(flow, table, choices)
    yield from joins.needed(flow)
    yield from joins.never_there(flow, table, choices)
    yield from side_by_side.side_by_side(flow, graph)
    yield from side_by_side.late_needs(flow, table, graph)
    yield from checks_flow.waits(flow, table, graph)
    yield from reminders.reminders(flow)
    yield from reminders.optional(flow)
    yield from checks_flow.together(flow, graph)
    yield from checks_flow.cycles(flow)
    yield from checks_flow.way_back(flow, graph)
    yield from checks_flow.compensations(flow, table)
    yield from children.children(flow, table)
    yield from times.whole(flow, graph)
