"""Checks of the flow as a whole: every event has a source, the end can be reached, every effect can be undone.

Takes it for granted that each event has one role (checks_words says so first).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import combinations

from choreo.core.checks_finding import Finding, error, warning
from choreo.core.checks_graph import Graph, emitters, reached
from choreo.core.definition import FlowDefinition, FlowTable, StepDefinition

_ALIKE = 0.75
"""Of a word of four letters one may be wrong; `Sent` and `Wanted` are two words."""
_WORD = re.compile(r"[A-Z]*[^A-Z]+|[A-Z]+")


def sources(flow: FlowDefinition) -> Iterator[Finding]:
    """Every event that something waits for comes from somewhere."""
    made = {flow.starts, flow.fails, *emitters(flow)}
    waiting = [(f"step {step.name}", step.on, f"on={step.on}") for step in flow.steps]
    waiting += [(wait.name, wait.on, f"on={wait.on}") for wait in flow.waits]
    for who, type_, role in waiting:
        if type_ not in made:
            yield error(
                f"flow {flow.name}, {who}",
                f"waits for {type_}, which nobody emits",
                f"{_nearest(type_, made)}Let a step emit {type_}, or change {role}.",
            )
    if flow.completes not in made:
        yield error(
            f"flow {flow.name}",
            f"completes on {flow.completes}, which nobody emits",
            f"{_nearest(flow.completes, made)}Let the last step emit {flow.completes}, or change completes=.",
        )


def ways(flow: FlowDefinition, table: FlowTable, graph: Graph) -> Iterator[Finding]:
    """Every step can be reached, every event leads on, and the end is the end of a success."""
    here, made = f"flow {flow.name}", emitters(flow)
    triggers = {*(step.on for step in flow.steps), *(wait.on for wait in flow.waits)}
    # A trigger that nobody emits is a mistake of its own (above); what lies beyond it would only repeat it.
    can_be = reached(flow, {flow.starts, flow.fails} | (triggers - set(made)))
    for step in flow.steps:
        if step.on not in can_be:
            yield error(
                f"{here}, step {step.name}",
                f"can never be reached: {step.on} comes only from {', '.join(made[step.on])}",
                f"Let something that {flow.starts} leads to emit {step.on}.",
            )
    if flow.completes in table.backward:
        yield error(
            here,
            f"completes on {flow.completes}, which only a failure brings about",
            "Name the event of the last forward step in completes=.",
        )
    elif flow.completes in made and flow.completes not in can_be:
        yield error(
            here,
            f"completes on {flow.completes}, which {flow.starts} never leads to",
            f"Let {made[flow.completes][0]} follow from {flow.starts}.",
        )
    for step in flow.steps:
        for type_ in step.emits if step.name in graph.nodes and not graph.may_end(step.name) else ():
            if type_ not in triggers and type_ != flow.completes:
                yield warning(
                    f"{here}, step {step.name}",
                    f"emits {type_}, to which nobody reacts: a run that ends there never completes",
                    f"Declare a step on {type_}, or name it in fails= if it is a failure.",
                )


def waits(flow: FlowDefinition, table: FlowTable) -> Iterator[Finding]:
    """A wait opens on the way forward, and for another event than its own."""
    for wait in flow.waits:
        where = f"flow {flow.name}, {wait.name}"
        if wait.on in table.backward:
            yield error(
                where,
                f"opens on {wait.on}, which is a failure or an undo: the turn closes every wait",
                "Open it on an event of the way forward.",
            )
        if wait.on == wait.until:
            yield error(where, f"waits for {wait.until}, the event that opens it", "Name another event in until=.")


def together(flow: FlowDefinition, graph: Graph) -> Iterator[Finding]:
    """Waits that one event opens must all be satisfied; where one of two would do for the end, only one comes."""
    for first, second in combinations(flow.waits, 2):
        if first.on != second.on or not {first.name, second.name} <= graph.nodes.keys():
            continue
        where = f"flow {flow.name}, {first.name} and {second.name}"
        what = f"{first.on} opens both, and a run in which only one of {first.until} and {second.until} comes"
        remedy = (
            f"If one of the two comes, declare one wait, until an event with a field that says which; "
            f"if both do, open the second wait on what follows {first.until}."
        )
        if graph.ends_without(first.name, second.name) and graph.ends_without(second.name, first.name):
            what = f"{what} goes on to {flow.completes} and is then undone when the other times out"
            yield error(where, what, remedy)
        else:
            yield warning(where, f"{what} is undone when the other times out", remedy)


def cycles(flow: FlowDefinition, table: FlowTable) -> Iterator[Finding]:
    """A cycle has a bound, and a bound has a cycle."""
    here, named = f"flow {flow.name}", ", ".join(sorted(table.cyclic))
    for step in flow.steps:
        if step.on in (*step.emits, *step.fails):
            yield error(f"{here}, step {step.name}", f"{step.on} is its own trigger", "Emit another event.")
    if flow.hops_max < 0:
        yield error(here, f"max_hops={flow.hops_max}", "Give 0, or the bound of the flow's cycle.")
    elif table.cyclic and not flow.hops_max:
        yield error(
            f"{here}, steps {named}",
            "they lie on a cycle that has no bound",
            "Give Flow(max_hops=...) or break the cycle.",
        )
    elif flow.hops_max and not table.cyclic:
        yield warning(here, f"max_hops={flow.hops_max}, but no step lies on a cycle", "Leave max_hops out.")


def way_back(flow: FlowDefinition, graph: Graph) -> Iterator[Finding]:
    """A step whose effect may have to be undone has a compensation."""
    for step in flow.steps:
        if step.name not in graph.nodes or not step.effect or step.compensation:
            continue
        others = [graph.nodes[name] for name in sorted(graph.after[step.name] | graph.beside(step.name))]
        failing = [node for node in others if node.fails]
        where = f"flow {flow.name}, step {step.name}"
        remedy = f"Add @{_short(step)}.compensate(...), or effect=False if it leaves nothing to undo."
        if failing and step.emits:
            yield error(where, f"has no way back when {failing[0].shown} fails", remedy)
        elif others:
            what = f"has no way back when {others[0].shown} raises or runs out of time, or the run is cancelled"
            yield warning(where, what, remedy)


def compensations(flow: FlowDefinition, table: FlowTable) -> Iterator[Finding]:
    """Every compensation can be called for, and can answer a doubt."""
    for step in flow.steps:
        undo, where = step.compensation, f"flow {flow.name}, step {step.name}"
        if undo is None:
            continue
        if step.name in table.reactions:
            yield warning(
                where,
                f"reacts to {step.on}, a failure or an undo, so its compensation is never called",
                "Leave the compensation out.",
            )
            continue
        if not step.effect:
            yield warning(where, "has effect=False and a compensation", "Leave one of the two out.")
        if not undo.takes_none:
            yield warning(
                where,
                "its compensation cannot take None, so that a run in which it is in doubt ends stuck",
                f"Hint it as {' | '.join((*step.emits, 'None'))} and bar ctx.undoes at the gateway.",
            )
        if not undo.bars:
            yield warning(
                where,
                "its gateway bars no keys (bars=False), so that a run in which it is in doubt ends stuck",
                "Use a gateway that can refuse a key, or be ready to resolve such runs by hand.",
            )


def _nearest(type_: str, known: set[str]) -> str:
    """Name the known type of which this may be a misspelling: word by word, for a prefix is no likeness."""
    likeness, nearest = max(((_likeness(type_, other), other) for other in sorted(known) if other), default=(0.0, ""))
    return f"Did you mean {nearest}? " if likeness >= _ALIKE else ""


def _likeness(one: str, other: str) -> float:
    """Return how alike two names are, from 0 to 1: their least alike words, or the whole where words are missing."""
    words, others = _WORD.findall(one), _WORD.findall(other)
    pairs = list(zip(words, others, strict=True)) if len(words) == len(others) else [(one, other)]
    return min((SequenceMatcher(None, a.lower(), b.lower()).ratio() for a, b in pairs), default=0.0)


def _short(step: StepDefinition) -> str:
    return step.name.partition(".")[2]
