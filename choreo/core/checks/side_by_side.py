"""Checks of steps that may run at the same time: nothing fixes their order, so they must not meet in one effect.

An effect is known by two events: the one that a step emits when it has made it, and the one of its compensation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from choreo.core.checks.finding import Finding
from choreo.core.checks.graph import Graph
from choreo.core.definition import FlowDefinition, StepDefinition
from choreo.core.flow_table import FlowTable


def side_by_side(flow: FlowDefinition, graph: Graph) -> Iterator[Finding]:
    """Check pairs of steps that leave an effect, and may run at the same time."""
    with_effect = [step for step in flow.steps if step.name in graph.nodes and step.compensation and not step.children]
    for one, other in combinations(with_effect, 2):
        if other.name not in graph.unordered(one.name):
            continue
        where = f"flow {flow.name}, step {one.name} and step {other.name}"
        if undone := _both(_undone_by(one), _undone_by(other)):
            yield Finding(
                "C308",
                where,
                f"nothing fixes their order, and {undone} undoes the effect of either",
                "Let one follow the other, or give each effect a compensation event of its own.",
            )
        if emitted := _both(one.emits, other.emits):
            yield Finding(
                "C112",
                where,
                f"they may run at the same time, and both leave an effect and emit {emitted}",
                "Give each an event of its own, and start what follows on=all_of(...) of them.",
            )


def shared_undos(flow: FlowDefinition, graph: Graph) -> set[str]:
    """Return the places of events that undo two effects whose order nothing fixes; they have a finding already."""
    pairs = combinations([step for step in flow.steps if step.compensation and step.name in graph.nodes], 2)
    found = set[str]()
    for one, other in pairs:
        undone = _both(_undone_by(one), _undone_by(other))
        if undone and other.name in graph.unordered(one.name):
            found.add(f"flow {flow.name}, event {undone}")
    return found


def late_needs(flow: FlowDefinition, table: FlowTable, graph: Graph) -> Iterator[Finding]:
    """Check that no step needs an event of a part that runs beside it: whether it is there depends on the faster."""
    for step in flow.steps:
        if step.name not in graph.nodes:
            continue
        beside = graph.unordered(step.name)
        for parameter in step.needs:
            makers = [name for name in beside if parameter.type in graph.nodes[name].leads_to]
            all_makers = [*table.successes.get(parameter.type, ()), *makers]
            if (parameter.optional or parameter.many) and makers and set(all_makers) <= set(beside):
                yield Finding(
                    "C235",
                    f"flow {flow.name}, step {step.name}",
                    f"it needs {parameter.type} of {graph.nodes[makers[0]].shown}, which may run at the same time",
                    f"Start it on all_of(...) with {parameter.type}, or drop the argument.",
                )


def _undone_by(step: StepDefinition) -> tuple[str, ...]:
    return step.compensation.emits if step.compensation else ()


def _both(one: tuple[str, ...], other: tuple[str, ...]) -> str:
    """Return an event that both have; "" if there is none."""
    return next((type_ for type_ in one if type_ in other), "")
