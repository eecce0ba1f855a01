"""Joins, waits and children by a flow's declaration: each join is complete, one answer counts, children follow.

A join's step answers once (the auditor counts each event), and after one event of each branch. Of a wait's answers and
its time-out the first in the log counts: nothing may be done on another of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tests.audit.reading import Fact
from tests.audit.shape import CHILDREN_UNDONE, Shape, Wait

_ANSWERS_ALL = ("choreo.TriggerIgnored", "choreo.StepSkipped")
"""Facts that are caused by an event and act on nothing."""


def violations(run: Sequence[Fact], shape: Shape) -> Iterator[str]:
    """Check one run's facts, in order and without duplicates."""
    first: dict[str, int] = {}
    for fact in run:
        first.setdefault(fact.type, fact.offset)
    for fact in run:
        step = shape.steps.get(shape.successes.get(fact.type, ""))
        if step is not None and step.is_join and not fact.is_foreign:
            for branch in step.on:
                if first.get(branch, fact.offset) >= fact.offset:
                    yield f"{fact.where} joins {', '.join(step.on)}, and there was no {branch} before it"
    for wait in shape.waits:
        yield from _one_answer(run, wait)


def _one_answer(run: Sequence[Fact], wait: Wait) -> Iterator[str]:
    """Check that nothing was done on an answer after the one that counts, or on a time-out after an answer."""
    told = [fact for fact in run if fact.type in (*wait.answers, *wait.refusals, wait.late)]
    others = {fact.id: fact for fact in told[1:] if fact.type != told[0].type}
    for fact in run:
        if fact.causation in others and fact.type not in _ANSWERS_ALL:
            yield f"{fact.where} was done on {others[fact.causation].where}, and {told[0].where} was first"


def of_children(
    shape: Shape, parents: Mapping[str, Sequence[Fact]], children: Mapping[str, Sequence[Fact]], ends: Mapping[str, str]
) -> Iterator[str]:
    """Check the children of every step that starts some; `ends` has the end of each run of both flows."""
    for name, step in shape.steps.items():
        if not step.starts:
            continue
        places: defaultdict[str, defaultdict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
        for run, facts in children.items():
            of = facts[0].parent
            if of and of[3] == name:
                places[of[2]][int(of[5])].append(run)
        for parent in places.keys() - parents.keys():
            yield f"{name}: children of the run {parent}, which is not in the log"
        for parent, facts in parents.items():
            yield from _of_one(name, step.successes, facts, places[parent], children, ends)


def _of_one(
    name: str,
    joined: Sequence[str],
    parent: Sequence[Fact],
    places: Mapping[int, Sequence[str]],
    children: Mapping[str, Sequence[Fact]],
    ends: Mapping[str, str],
) -> Iterator[str]:
    end = ends[parent[0].id]
    which = f"{parent[0].key}, run {parent[0].id}, {name}"
    for place, runs in places.items():
        if len(runs) > 1:
            yield f"{which}: child {place} was started {len(runs)} times"
        for run in runs:
            if end in ("completed", "compensated") and ends[run] != end:
                yield f"{which}: it is {end}, and its child {children[run][0].key} is {ends[run]}"
    if sorted(places) != list(range(len(places))):
        yield f"{which}: of its children only {sorted(places)} were started"
    if not places and any(fact.type in joined for fact in parent):
        yield f"{which}: its children are joined, and none was started"
    started = [children[run] for runs in places.values() for run in runs]
    for fact in parent:
        if fact.type == CHILDREN_UNDONE and fact.step == name:
            for child in (child for child in started if not _is_undone_by(child, fact.stamp_ms)):
                yield f"{which}: {fact.where} stands before its child {child[0].key} was undone"


def _is_undone_by(child: Sequence[Fact], stamp_ms: int) -> bool:
    return any(fact.type == "choreo.FlowCompensated" and fact.stamp_ms <= stamp_ms for fact in child)
