"""A flow is checked whole before it runs: each mistake is a sentence that names the step and the remedy.

Works on the plain definition, so that a flow loaded from JSON is held to the same rules.
"""

from __future__ import annotations

from collections.abc import Iterator

from choreo.core import checks_flow, checks_times, checks_words
from choreo.core.checks_finding import Finding, Level
from choreo.core.checks_graph import Graph
from choreo.core.definition import FlowDefinition, FlowTable
from choreo.core.errors import DeclarationError

__all__ = ["Finding", "Level", "check", "require", "require_name"]


def check(flow: FlowDefinition) -> list[Finding]:
    """Everything wrong with the flow, errors first."""
    found = list(dict.fromkeys(_all(flow)))
    return sorted(found, key=lambda finding: finding.level != "error")


def require(flow: FlowDefinition) -> None:
    """Raise DeclarationError with every error the checks found; warnings pass."""
    errors = [finding for finding in check(flow) if finding.level == "error"]
    if len(errors) == 1:
        raise DeclarationError(errors[0].what, where=errors[0].where, remedy=errors[0].remedy)
    if errors:
        listed = "\n".join(f"  - {finding.sentence}" for finding in errors)
        raise DeclarationError(f"{len(errors)} mistakes\n{listed}", where=f"flow {flow.name}")


def require_name(name: object, what: str) -> None:
    """Raise DeclarationError unless this can be the name of a flow, service or step."""
    if wrong := checks_words.wrong_name(name):
        raise DeclarationError(wrong, where=what, remedy="Give it another name.")


def _all(flow: FlowDefinition) -> Iterator[Finding]:
    yield from checks_words.names(flow)
    yield from checks_words.fields(flow)
    yield from checks_times.attempts(flow)
    yield from checks_flow.sources(flow)
    conflicts = list(checks_words.roles(flow))
    yield from conflicts
    if any(finding.level == "error" for finding in conflicts):
        return  # What is forward and what is backward is not known, so that the rest would be noise.
    table = FlowTable(flow)
    graph = Graph(flow, table)
    yield from checks_flow.ways(flow, table, graph)
    yield from checks_flow.waits(flow, table)
    yield from checks_flow.together(flow, graph)
    yield from checks_flow.cycles(flow, table)
    yield from checks_flow.way_back(flow, graph)
    yield from checks_flow.compensations(flow, table)
    yield from checks_times.whole(flow, graph)
