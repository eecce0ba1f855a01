"""Checks of joins and of needed events: all of them can come, and a needed event is there before the trigger."""

from __future__ import annotations

from collections.abc import Iterator

from choreo.core.checks.finding import Finding, error
from choreo.core.checks.graph import emitters, reached
from choreo.core.definition import FlowDefinition, StepDefinition
from choreo.core.flow_table import FlowTable


def joined(flow: FlowDefinition, table: FlowTable) -> Iterator[Finding]:
    """Check that the events of a join can all come in one run."""
    for step in flow.steps:
        where = f"flow {flow.name}, step {step.name}"
        for type_ in step.all_of:
            if type_ in table.backward:
                what = f"it joins {type_}, which a failure brings about: compensation starts, and no join is completed"
                yield error(where, what, f"Declare a step on {type_} alone.")
        for other in flow.steps:
            both = [type_ for type_ in step.all_of if type_ in other.emits and len(table.successes[type_]) == 1]
            if len(both) > 1 and not other.emits_all and step.name not in table.cyclic:
                yield error(
                    where,
                    f"it joins {' and '.join(both)}, of which step {other.name} emits only one",
                    f"Write on=any_of(...), or let step {other.name} return both (-> tuple[{', '.join(both)}]).",
                )


def needed(flow: FlowDefinition) -> Iterator[Finding]:
    """Check that a needed event has a source, and is there on every way to the trigger unless it may be missing.

    A compensation may run as soon as its step has been triggered.
    """
    made = {flow.starts, flow.fails, *emitters(flow)}
    for step in flow.steps:
        undo = step.compensation.needs if step.compensation else ()
        for place, parameter in (*(("step", each) for each in step.needs), *(("undo of step", each) for each in undo)):
            where, type_ = f"flow {flow.name}, {place} {step.name}", parameter.type
            if type_ not in made:
                what = f"it needs {type_}, which nothing emits"
                yield error(where, what, f"Let a step emit {type_}, or drop the argument.")
            elif not (parameter.optional or parameter.many) and (trigger := _without(flow, step, type_)):
                yield error(
                    where,
                    f"it needs {type_}, and a run can come to {trigger} without it",
                    f"Hint the argument as {type_} | None, or start the step on a later event.",
                )


def _without(flow: FlowDefinition, step: StepDefinition, type_: str) -> str:
    """Return a trigger of the step that a run can reach before it has an event of this type; "" if there is none."""
    if type_ == flow.starts:
        return ""
    seen = reached(flow, {flow.starts, flow.fails}, without=type_)
    if step.all_of:
        return step.all_of[-1] if seen.issuperset(step.all_of) else ""
    return next((each for each in step.triggers if each in seen), "")
