"""Checks of the flow as a whole: every event has a source, the end can be reached, every effect can be undone.

They expect that each event has one role, which `names` checks first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import combinations

from choreo.core.checks.finding import Finding
from choreo.core.checks.graph import Graph, emitters, reached
from choreo.core.definition import FlowDefinition, StepDefinition, WaitDefinition
from choreo.core.durations import human
from choreo.core.flow_table import FlowTable, circles

_ALIKE = 0.75
"""One letter of a word of four may be wrong; `Sent` and `Wanted` are two words."""
_WORD = re.compile(r"[A-Z]*[^A-Z]+|[A-Z]+")


def sources(flow: FlowDefinition) -> Iterator[Finding]:
    """Check that every awaited event has a source."""
    made = {flow.starts, flow.fails, *emitters(flow)}
    waiting = [(f"step {step.name}", type_, f"on={type_}") for step in flow.steps for type_ in step.triggers]
    waiting += [(wait.name, wait.on, f"on={wait.on}") for wait in flow.waits]
    for part, type_, role in waiting:
        if type_ not in made:
            yield Finding(
                "C201",
                f"flow {flow.name}, {part}",
                f"waits for {type_}, which nothing emits",
                f"{_nearest(type_, made)}Let a step emit {type_}, or change {role}.",
            )
    for type_ in flow.ends if flow.steps else ():
        if type_ not in made:
            yield Finding(
                "C202",
                f"flow {flow.name}",
                f"completes on {type_}, which nothing emits",
                f"{_nearest(type_, made)}Let the last step emit {type_}, or change completes=.",
            )


def ways(flow: FlowDefinition, table: FlowTable, graph: Graph) -> Iterator[Finding]:
    """Check that every step can be reached, every event leads on, and the end is the end of a success."""
    here, made = f"flow {flow.name}", emitters(flow)
    triggers = _consumed(flow)
    # A trigger without a source has a finding of its own (above); findings about its followers would only repeat it.
    can_be = reached(flow, {flow.starts, flow.fails} | (triggers - set(made)))
    for step in flow.steps:
        missing = [type_ for type_ in step.triggers if type_ not in can_be]
        for type_ in missing if step.all_of or len(missing) == len(step.triggers) else ():
            yield Finding(
                "C203",
                f"{here}, step {step.name}",
                f"can never be reached: {type_} comes only from {', '.join(made[type_])}",
                f"Let something that {flow.starts} leads to emit {type_}.",
            )
    for wait in flow.waits:
        if wait.on not in can_be and wait.on in made and wait.on not in wait.answers:
            yield Finding(
                "C203",
                f"{here}, {wait.name}",
                f"can never open: {wait.on} comes only from {', '.join(made[wait.on])}",
                f"Let something that {flow.starts} leads to emit {wait.on}.",
            )
    for type_ in flow.ends:
        if type_ in table.backward:
            yield Finding(
                "C204",
                here,
                f"completes on {type_}, which only a failure brings about",
                "Name the event of the last forward step in completes=.",
            )
        elif type_ in made and type_ not in can_be:
            yield Finding(
                "C204",
                here,
                f"completes on {type_}, which {flow.starts} never leads to",
                f"Let {made[type_][0]} follow from {flow.starts}.",
            )
    for step, type_ in _dead_ends(flow, graph):
        yield Finding(
            "C205",
            f"{here}, step {step.name}",
            f"emits {type_}, to which no step reacts: a run that ends there never completes",
            f"Declare a step on {type_}, or name it in fails= if it is a failure.",
        )


def _dead_ends(flow: FlowDefinition, graph: Graph) -> Iterator[tuple[StepDefinition, str]]:
    """Yield each event that a step emits and to which nothing reacts, though the end does not come beside it."""
    known = {*_consumed(flow), *flow.ends}
    for step in flow.steps:
        for type_ in step.emits if step.name in graph.nodes and not graph.may_end(step.name) else ():
            if type_ not in known and not graph.ends_beside(step, type_):
                yield step, type_


def dead_ends(flow: FlowDefinition, graph: Graph) -> set[str]:
    """Return the events that are reported as dead ends."""
    of_waits = {type_ for wait in flow.waits for type_ in _dead_ends_of(wait, flow, graph)}
    return {type_ for _, type_ in _dead_ends(flow, graph)} | of_waits


def _dead_ends_of(wait: WaitDefinition, flow: FlowDefinition, graph: Graph) -> list[str]:
    """Return the events of a wait with several to which nothing reacts, though the end does not come beside it."""
    if not (wait.also or wait.then) or graph.may_end(wait.name):
        return []
    known = {*_consumed(flow), *flow.ends}
    return [type_ for type_ in wait.leads_to if type_ not in known]


def _consumed(flow: FlowDefinition) -> set[str]:
    """Return the types that start a step, open a wait, or move a timer."""
    opening = {type_ for wait in flow.waits for type_ in (wait.on, wait.moved_by) if type_}
    return opening.union(*(step.triggers for step in flow.steps))


def waits(flow: FlowDefinition, table: FlowTable, graph: Graph) -> Iterator[Finding]:
    """Check that a wait opens on the way forward, and for another event than its own."""
    for wait in flow.waits:
        where = f"flow {flow.name}, {wait.name}"
        if wait.on in table.backward:
            yield Finding(
                "C402",
                where,
                f"opens on {wait.on}, which is a failure or an undo: compensation closes every wait",
                "Open it on an event of the way forward.",
            )
        if wait.on in wait.answers:
            yield Finding(
                "C403", where, f"waits for {wait.on}, the event that opens it", "Name another event in until=."
            )
        for type_ in sorted({type_ for type_ in wait.answers if wait.answers.count(type_) > 1}):
            yield Finding("C404", where, f"names {type_} twice", "Name it once: in until= or in refused=.")
        yield from _time(flow, wait, table)
        if bool(wait.fails) == bool(wait.then) and (wait.fails or not wait.optional):
            yield Finding(
                "C405",
                where,
                "its time-out has both fails= and then=" if wait.fails else "its time-out has no event",
                "Name one: fails= compensates the run, then= goes on.",
            )
        for type_ in _dead_ends_of(wait, flow, graph):
            yield Finding(
                "C205",
                where,
                f"goes on with {type_}, to which no step reacts: a run that comes there never completes",
                f"Declare a step on {type_}, or name it in completes= or refused=.",
            )


def _time(flow: FlowDefinition, wait: WaitDefinition, table: FlowTable) -> Iterator[Finding]:
    """Check the time of a timer, and the event that moves it."""
    where = f"flow {flow.name}, {wait.name}"
    if (wait.at or wait.moved_by) and not wait.is_timer:
        yield Finding("C406", where, "a wait has no moment, and nothing moves it", "Declare a timer beside it.")
    if wait.at and wait.timeout_ms:
        yield Finding("C406", where, "it has both a duration and a moment", "Give after= or at=.")
    for type_ in filter(None, (wait.on, wait.moved_by) if wait.at else ()):
        if wait.at not in flow.events.get(type_, (wait.at,)):
            remedy = f"Add {wait.at} to {type_}, or name another field in at=."
            yield Finding("C406", where, f"{type_} has no field {wait.at}, its moment", remedy)
    if wait.moved_by in (wait.on, wait.late, *wait.answers) and wait.moved_by:
        yield Finding(
            "C407", where, f"{wait.moved_by} moves it and has another meaning in it", "Move it by another event."
        )
    if wait.moved_by in table.backward:
        what = f"{wait.moved_by} moves it, which is a failure or an undo: compensation ends every timer"
        yield Finding("C407", where, what, "Move it by an event of the way forward, or from outside.")
    if wait.moved_by and flow.deadline_ms and not wait.at:
        yield Finding(
            "C409",
            where,
            f"each {wait.moved_by} lets its {human(wait.timeout_ms)} begin anew, and the flow's deadline of "
            f"{human(flow.deadline_ms)} may end the run first",
            "Leave the flow's deadline out, or move the timer less often and suppress this with that reason.",
        )
    if wait.at and flow.deadline_ms:
        what = f"its moment may lie beyond the flow's deadline of {human(flow.deadline_ms)}, which ends the run first"
        yield Finding(
            "C408", where, what, "Leave the flow's deadline out, or make sure that every moment comes before it."
        )


def together(flow: FlowDefinition, graph: Graph) -> Iterator[Finding]:
    """Check waits that one event opens: all must be satisfied before the end.

    If one of two is enough for the end, only one of their events comes.
    """
    for first, second in combinations(flow.waits, 2):
        if not (first.fails and second.fails) or first.optional or second.optional:
            continue  # no time-out of it compensates the run
        if first.on != second.on or not {first.name, second.name} <= graph.nodes.keys():
            continue
        where = f"flow {flow.name}, {first.name} and {second.name}"
        what = f"{first.on} opens both, and a run in which only one of {first.shown} and {second.shown} comes"
        remedy = (
            f"If one of the two comes, declare one wait, until an event with a field that says which; "
            f"if both do, open the second wait on what follows {first.shown}."
        )
        if graph.ends_without(first.name, second.name) and graph.ends_without(second.name, first.name):
            what = f"{what} goes on to {' or '.join(flow.ends)} and is then undone when the other times out"
            yield Finding("C410", where, what, remedy)
        else:
            yield Finding("C411", where, f"{what} is undone when the other times out", remedy)


def cycles(flow: FlowDefinition) -> Iterator[Finding]:
    """Check that a cycle has a bound, and a bound has a cycle."""
    cyclic = circles(flow)
    here, named = f"flow {flow.name}", ", ".join(sorted(cyclic))
    for step in flow.steps:
        for type_ in step.triggers:
            if type_ in (*step.emits, *step.fails):
                yield Finding("C207", f"{here}, step {step.name}", f"{type_} is its own trigger", "Emit another event.")
    if flow.hops_max < 0:
        yield Finding("C210", here, f"max_hops={flow.hops_max}", "Give 0, or the bound of the flow's cycle.")
    elif cyclic and not flow.hops_max:
        yield Finding(
            "C208",
            f"{here}, steps {named}",
            "they lie on a cycle that has no bound",
            "Give Flow(max_hops=...) or break the cycle.",
        )
    elif flow.hops_max and not cyclic and not flow.crosses:
        yield Finding("C209", here, f"max_hops={flow.hops_max}, but no step lies on a cycle", "Leave max_hops out.")


def way_back(flow: FlowDefinition, graph: Graph) -> Iterator[Finding]:
    """Check that a step whose effect may have to be undone has a compensation."""
    for step in flow.steps:
        if step.name not in graph.nodes or not step.effect or step.compensation:
            continue
        others = [graph.nodes[name] for name in sorted(graph.after[step.name] | graph.beside(step.name))]
        failing = [node for node in others if node.fails]
        where = f"flow {flow.name}, step {step.name}"
        remedy = f"Add @{_short(step)}.compensate(...), or effect=False if it leaves nothing to undo."
        if failing and step.emits:
            yield Finding("C301", where, f"has no way back when {failing[0].shown} fails", remedy)
        elif others:
            what = f"has no way back when {others[0].shown} raises or runs out of time, or the run is cancelled"
            yield Finding("C302", where, what, remedy)
        else:
            what = "may raise or run out of time after it has had its effect, and nothing undoes it then"
            yield Finding("C309", where, what, remedy)


def compensations(flow: FlowDefinition, table: FlowTable) -> Iterator[Finding]:
    """Check that every compensation can be requested, and can answer a doubt."""
    for step in flow.steps:
        undo, where = step.compensation, f"flow {flow.name}, step {step.name}"
        if undo is None or step.children:
            continue
        if step.name in table.reactions:
            yield Finding(
                "C303",
                where,
                f"reacts to {' and '.join(step.triggers)}, a failure or an undo, so its compensation is never called",
                "Leave the compensation out.",
            )
            continue
        if not step.effect:
            yield Finding("C304", where, "has effect=False and a compensation", "Leave one of the two out.")
        if not undo.takes_none:
            yield Finding(
                "C305",
                where,
                "its compensation cannot take None, so that a run in which it is in doubt ends stuck",
                f"Hint it as {' | '.join((*step.emits, 'None'))} and bar ctx.undoes at the gateway.",
            )
        if not undo.bars:
            yield Finding(
                "C306",
                where,
                "its gateway bars no keys (bars=False), so that a run in which it is in doubt ends stuck",
                "Use a gateway that can refuse a key, or be ready to resolve such runs by hand.",
            )


def _nearest(type_: str, known: set[str]) -> str:
    """Return the known type of which this may be a misspelling; it compares word by word, not by prefixes."""
    likeness, nearest = max(((_likeness(type_, other), other) for other in sorted(known) if other), default=(0.0, ""))
    return f"Did you mean {nearest}? " if likeness >= _ALIKE else ""


def _likeness(one: str, other: str) -> float:
    """Return the likeness of two names, from 0 to 1.

    It is that of their least alike words, or of the whole names if words are missing.
    """
    words, others = _WORD.findall(one), _WORD.findall(other)
    pairs = list(zip(words, others, strict=True)) if len(words) == len(others) else [(one, other)]
    return min((SequenceMatcher(None, a.lower(), b.lower()).ratio() for a, b in pairs), default=0.0)


def _short(step: StepDefinition) -> str:
    return step.name.partition(".")[2]
