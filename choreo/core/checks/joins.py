"""Checks of joins and of needed events: all of them can come, and a needed event is there before the trigger."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from choreo.core.checks.choices import Choices
from choreo.core.checks.finding import Finding
from choreo.core.checks.graph import emitters, reached
from choreo.core.definition import FlowDefinition, ParameterDefinition, StepDefinition
from choreo.core.flow_table import FlowTable


def joined(flow: FlowDefinition, table: FlowTable, choices: Choices) -> Iterator[Finding]:
    """Check that the events of a join can all come in one run."""
    for step in flow.steps:
        where = f"flow {flow.name}, step {step.name}"
        for type_ in step.all_of:
            if type_ in table.backward:
                what = f"it joins {type_}, which a failure brings about: compensation starts, and no join is completed"
                yield Finding("C231", where, what, f"Declare a step on {type_} alone.")
        if step.name in table.cyclic:
            continue
        alone = False
        for other in flow.steps:
            both = [type_ for type_ in step.all_of if type_ in other.emits and len(table.successes[type_]) == 1]
            if len(both) > 1 and not (other.emits_all or other.emits_some):
                alone = True
                yield Finding(
                    "C232",
                    where,
                    f"it joins {' and '.join(both)}, of which step {other.name} emits only one",
                    f"Write on=any_of(...), or let step {other.name} return both (-> tuple[{', '.join(both)}]).",
                )
        if not alone:
            yield from _apart(step, where, choices)


def _apart(step: StepDefinition, where: str, choices: Choices) -> Iterator[Finding]:
    """Check that no two events of a join need choices that exclude each other."""
    for one, other in combinations(step.all_of, 2):
        if apart := choices.exclude(choices.of(one), choices.of(other)):
            yield Finding(
                "C232",
                where,
                f"it joins {one} and {other}, which never come in one run: one needs {apart[0].shown}, the other "
                f"{apart[1].shown}",
                "Write on=any_of(...), or join events of ways that can both be taken.",
            )
            return


def never_there(flow: FlowDefinition, table: FlowTable, choices: Choices) -> Iterator[Finding]:
    """Check that an optional argument can have a value: its event comes in some run before the handler starts."""
    after = {type_ for step in flow.steps if step.compensation for type_ in step.compensation.emits}
    after |= {type_ for step in flow.steps if step.name in table.reactions for type_ in step.emits}
    after |= {flow.fails} - {""}
    for step in flow.steps:
        where, optional = f"flow {flow.name}, step {step.name}", [each for each in step.needs if _may_lack(each)]
        for parameter in optional if step.name not in table.reactions else ():
            type_ = parameter.type
            apart = choices.exclude(choices.trigger(step) or (), choices.of(type_))
            if type_ in after:
                why = "it comes only once the run is compensating, and the step does not start then"
            elif apart and step.name not in table.cyclic:
                why = f"it needs {apart[1].shown}, and the step {apart[0].shown}"
            else:
                continue
            yield Finding("C236", where, f"{type_} is never there: {why}", "Drop the argument.")
        undo = step.compensation.needs if step.compensation else ()
        for parameter in undo:
            if _may_lack(parameter) and parameter.type in after:
                yield Finding(
                    "C307",
                    where,
                    f"its compensation needs {parameter.type}, which comes after compensation has begun, so that it "
                    "is never there",
                    "Drop the argument: later effects are undone before this one.",
                )


def _may_lack(parameter: ParameterDefinition) -> bool:
    return parameter.optional or parameter.many


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
                yield Finding("C233", where, what, f"Let a step emit {type_}, or drop the argument.")
            elif not (parameter.optional or parameter.many) and (trigger := _without(flow, step, type_)):
                yield Finding(
                    "C234",
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
