"""Checks of the events that flows carry to each other: each arrives, and no circle of flows is without a bound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from choreo.core.bridge import on_circle, starts
from choreo.core.checks.finding import Finding
from choreo.core.definition import CarryDefinition, FlowDefinition


def own(flow: FlowDefinition) -> Iterator[Finding]:
    """Check that each carried event is one of the flow's, and no timer's."""
    timeouts = {type_ for wait in flow.waits for type_ in (wait.late, *wait.says)}
    for carry in flow.carries:
        where = f"flow {flow.name}, carries {carry.on}"
        if carry.on not in flow.events:
            yield Finding("C501", where, f"{carry.on} is no event of the flow", "Carry an event that the flow has.")
        elif carry.on in timeouts:
            yield Finding(
                "C502",
                where,
                "the tracker publishes it when a wait is over, and once more after each pause",
                f"Carry an event of a step on {carry.on}" + (f", or {flow.fails}." if flow.fails else "."),
            )


def between(flows: Mapping[str, FlowDefinition]) -> Iterator[Finding]:
    """Check that each carried event can be used where it is carried to, and that circles of flows have bounds."""
    for flow in flows.values():
        for carry in flow.carries:
            yield from _arrives(flows, flow, carry)
    yield from _circles(flows)


def _arrives(flows: Mapping[str, FlowDefinition], flow: FlowDefinition, carry: CarryDefinition) -> Iterator[Finding]:
    where, target = f"flow {flow.name}, carries {carry.on} to {carry.to}", flows.get(carry.to)
    if target is None:
        yield Finding(
            "C503",
            where,
            f"there is no flow {carry.to} in this project",
            f"Name it in the project's flows, beside {', '.join(sorted(flows))}.",
        )
        return
    taken = [target.starts, *sorted({type_ for wait in target.waits for type_ in wait.answers}), *target.movers_outside]
    for type_ in carry.says:
        if type_ not in taken:
            yield Finding(
                "C504",
                where,
                f"{type_} is no event that flow {target.name} takes from outside",
                f"It takes {' or '.join(taken)}; let makes= return one of them, or declare a wait until={type_} there.",
            )
        elif target.key not in target.events.get(type_, (target.key,)):
            yield Finding(
                "C505",
                where,
                f"{type_} has no field {target.key}, the key of flow {target.name}",
                f"Add the field, or pass makes=, a function that returns an event with {target.key}.",
            )


def _circles(flows: Mapping[str, FlowDefinition]) -> Iterator[Finding]:
    """Check that some flow of each circle has `max_hops`; a circle is reported once, at its first flow."""
    reported = set[str]()
    unbound = {name: flow for name, flow in flows.items() if not flow.hops_max}
    for name, flow in unbound.items():
        if name in reported:
            continue
        if any(on_circle(unbound, flow, carry) for carry in flow.carries):
            circle = _circle(unbound, name)
            reported.update(circle)
            yield Finding(
                "C506",
                f"flow {name}",
                f"it starts itself again and again: {' → '.join([*circle, name])} is a circle that has no bound",
                "Give Flow(max_hops=...) to one of them: hops are counted from flow to flow.",
            )


def _circle(flows: Mapping[str, FlowDefinition], name: str) -> list[str]:
    """Return the flows of a shortest circle from this one, in order."""
    ways, front = {name: [name]}, [name]
    while front:
        later = []
        for one in front:
            for to in starts(flows, flows[one]):
                if to == name:
                    return ways[one]
                if to not in ways:
                    ways[to] = [*ways[one], to]
                    later.append(to)
        front = later
    return [name]
