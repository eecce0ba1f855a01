"""Checks of child flows: the join's events, the place of the step in its flow, and flows that start each other.

`children` sees one flow; `between` sees all flows of a project.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from choreo.core.bridge import reached
from choreo.core.checks.finding import Finding
from choreo.core.definition import FlowDefinition
from choreo.core.durations import human
from choreo.core.family import RESULT_FIELDS
from choreo.core.flow_table import FlowTable


def children(flow: FlowDefinition, table: FlowTable) -> Iterator[Finding]:
    """Check each step that starts children within its own flow."""
    for step in flow.steps:
        rule, where = step.children, f"flow {flow.name}, step {step.name}"
        if rule is None:
            continue
        if rule.flow == flow.name:
            yield Finding(
                "C506", where, "starts runs of its own flow, without an end", "Let another flow be the child."
            )
        if step.name in table.reactions:
            yield Finding(
                "C511",
                where,
                f"starts children on {step.on}, a failure or an undo: nothing waits for them, and nothing undoes them",
                "Start them on an event of the way forward.",
            )
        if not 1 <= len(step.emits) <= 2:
            what = f"a join has {len(step.emits)} events"
            yield Finding(
                "C512", where, what, "Name the event of a join, and where wanted the one that goes on without it."
            )
        if len(step.emits) == 2 and step.fails:
            what = f"{step.emits[1]} goes on where the children are not joined, and {step.fails[0]} compensates"
            yield Finding("C512", where, what, "Leave one of the two out.")
        if rule.first and rule.tolerated:
            yield Finding(
                "C512",
                where,
                f"joins {rule.first} children and tolerates {rule.tolerated} failures",
                "The first n fail only when too few are left: leave the tolerance out.",
            )
        if step.compensation is None or step.compensation.emits:
            yield Finding("C512", where, "its children undo themselves", "Leave its compensation out.")
        yield from _join_events(flow, where, (*step.emits, *step.fails))


def _join_events(flow: FlowDefinition, where: str, types: tuple[str, ...]) -> Iterator[Finding]:
    for type_ in types:
        extra = [name for name in flow.events.get(type_, ()) if name not in (flow.key, *RESULT_FIELDS)]
        if extra:
            yield Finding(
                "C107",
                where,
                f"the tracker makes {type_} when its children are joined and cannot fill in {', '.join(extra)}",
                f"Keep only {flow.key} and, where wanted, {', '.join(RESULT_FIELDS)}.",
            )


def between(flows: Mapping[str, FlowDefinition]) -> Iterator[Finding]:
    """Check the child flows against the flows of the project."""
    for flow in flows.values():
        for step in flow.steps:
            if step.children is None:
                continue
            where, child = f"flow {flow.name}, step {step.name}", flows.get(step.children.flow)
            if child is None:
                yield Finding(
                    "C503",
                    where,
                    f"starts runs of flow {step.children.flow}, which this project does not have",
                    "Add it to the project's flows.",
                )
                continue
            if child.name != flow.name and flow.name in reached(child.name, partial(_children, flows)):
                yield Finding(
                    "C506",
                    where,
                    f"starts runs of flow {child.name}, which start runs of {flow.name} again, without an end",
                    "Break the circle of child flows.",
                )
            if child.deadline_ms and step.deadline_ms < child.deadline_ms:
                yield Finding(
                    "C513",
                    where,
                    f"its deadline of {human(step.deadline_ms)} is shorter than that of one child, "
                    f"{human(child.deadline_ms)}",
                    "Raise deadline= of the step, or lower that of the child flow.",
                )
            if flow.deadline_ms > child.linger_ms:
                yield Finding(
                    "C514",
                    where,
                    f"a child is forgotten {human(child.linger_ms)} after its end, and its parent may undo it for "
                    f"{human(flow.deadline_ms)}",
                    f"Raise linger= of flow {child.name}.",
                )


def _children(flows: Mapping[str, FlowDefinition], name: str) -> list[str]:
    """Return the flows of the project whose runs are started by runs of this one."""
    return [step.children.flow for step in flows[name].steps if step.children and step.children.flow in flows]
