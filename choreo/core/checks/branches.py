"""Checks of branches on data: each condition can hold, no value falls between two branches, two meet only on purpose.

Each field is tried with its declared values, or with the values that the conditions name and one between and beyond
each of them: conditions can change their truth nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import combinations, compress, pairwise, product
from operator import and_
from typing import Any, NamedTuple, TypeAlias

from choreo.core.branches import Branches
from choreo.core.checks.finding import Finding
from choreo.core.conditions import Among, AnyCondition, Compare, Leaf, Otherwise, key_of, leaves, on_one, text
from choreo.core.definition import FlowDefinition, StepDefinition
from choreo.core.fields import KINDS, FieldType, UnreadableFieldError, comparable
from choreo.core.flow_table import FlowTable
from choreo.core.wording import did_you_mean

TRIED_MAX = 5_000
"""Combinations of values that are tried on one event: a tenth of a second for some branches."""
_OTHER = "any other text"

Case: TypeAlias = Mapping[str, Any]
"""A value for each field."""

Verdicts: TypeAlias = Mapping[str, list[bool]]
"""Step → whether it runs, case by case."""


class _Branch(NamedTuple):
    step: StepDefinition
    whole: AnyCondition
    condition: AnyCondition
    """The whole one; of a step on any of several types as it is for one of them."""

    @property
    def shown(self) -> str:
        return f"step {self.step.name}"


def branches(flow: FlowDefinition, table: FlowTable) -> Iterator[Finding]:
    """Return the findings about the conditions of steps."""
    wrong = {step.name: list(_fields(flow, step)) for step in flow.steps if step.when is not None}
    for findings in wrong.values():
        yield from findings
    for on, found in _by_events(flow).items():
        if any(wrong[branch.step.name] for branch in found):
            continue
        cases = _cases([branch.condition for branch in found])
        if cases is None:
            yield Finding(
                "C222",
                f"flow {flow.name}, steps on {_together(on)}",
                f"their conditions are not checked for gaps and overlaps: more than {TRIED_MAX:,} combinations",
                "Compare fewer fields, or one field that says which branch it is.",
            )
            continue
        runs = _verdicts(found, cases)
        yield from _constant(flow, on, found, runs)
        yield from _overlaps(flow, on, found, cases, runs)
        if found[0].step.name not in table.reactions:
            yield from _gaps(flow, on, found, cases, runs)


def exclusive(flow: FlowDefinition) -> frozenset[frozenset[str]]:
    """Return the pairs of steps that never run on the same event, or on the same events of a join."""
    pairs: set[frozenset[str]] = set()
    together: set[frozenset[str]] = set()
    for found in _by_events(flow).values():
        wrong = any(list(_fields(flow, each.step)) for each in found)
        cases = None if wrong else _cases([each.condition for each in found])
        runs = _verdicts(found, cases) if cases is not None else {}
        for one, other in combinations([each.step.name for each in found], 2):
            apart = bool(runs) and not any(a and b for a, b in zip(runs[one], runs[other], strict=True))
            (pairs if apart else together).add(frozenset((one, other)))
    return frozenset(pairs - together)


def sets_that_run(flow: FlowDefinition) -> dict[tuple[str, ...], list[list[StepDefinition]]]:
    """Return, for the events on which conditions are judged, the sets of steps of which one set runs.

    The empty set is left out where it is a gap, which is a finding of its own.
    """
    sets: dict[tuple[str, ...], list[list[StepDefinition]]] = {}
    for on, found in _by_events(flow).items():
        wrong = any(list(_fields(flow, branch.step)) for branch in found)
        cases = None if wrong else _cases([branch.condition for branch in found])
        if cases is None:
            sets[on] = [[branch.step] for branch in found]
            continue
        runs = _verdicts(found, cases)
        ways = dict.fromkeys(zip(*(runs[branch.step.name] for branch in found), strict=True))
        chosen = [[branch.step for branch, does in zip(found, way, strict=True) if does] for way in ways]
        sets[on] = [steps for steps in chosen if steps or not _must_lead_on(flow, on)]
    return sets


def _must_lead_on(flow: FlowDefinition, on: Sequence[str]) -> bool:
    """Return whether these events have branches as their only reaction, and do not complete the flow."""
    on_all = any(not set(on).isdisjoint(step.triggers) and step.when is None for step in flow.steps)
    return not (on_all or not set(on).isdisjoint(flow.ends) or any(wait.on in on for wait in flow.waits))


def _by_events(flow: FlowDefinition) -> dict[tuple[str, ...], list[_Branch]]:
    """Return the steps with conditions by the events they are judged on: one type, or the types of a join."""
    found: dict[tuple[str, ...], list[_Branch]] = {}
    for step in flow.steps:
        if step.when is None:
            continue
        if step.all_of:
            found.setdefault(tuple(sorted(step.all_of)), []).append(_Branch(step, step.when, step.when))
        for type_ in () if step.all_of else step.triggers:
            found.setdefault((type_,), []).append(_Branch(step, step.when, on_one(step.when, type_)))
    return found


def _together(on: Sequence[str]) -> str:
    return " and ".join(on)


def _verdicts(found: Sequence[_Branch], cases: Sequence[Case]) -> Verdicts:
    """Return the verdict on each case; the tracker and the hosts judge with the same function."""
    conditions = Branches((branch.step.name, branch.condition) for branch in found)
    skipped = [frozenset(conditions.skipped(case)) for case in cases]
    return {branch.step.name: [branch.step.name not in skips for skips in skipped] for branch in found}


def _fields(flow: FlowDefinition, step: StepDefinition) -> Iterator[Finding]:
    """Check the fields and values of a condition that was not declared here, but loaded."""
    where, on = f"flow {flow.name}, step {step.name}, when=", _together(step.triggers)
    for leaf in leaves(step.when) if step.when is not None else ():
        if leaf.of not in ("", *step.triggers) or (step.all_of and not leaf.of):
            what = f"it compares {key_of(leaf)}, and the step is on {on}"
            yield Finding("C221", where, what, f"Name one of its events: {step.triggers[0]}.{leaf.field}.")
            continue
        for type_ in (leaf.of,) if leaf.of else step.triggers:
            yield from _field(flow, leaf, type_, where)


def _field(flow: FlowDefinition, leaf: Leaf, on: str, where: str) -> Iterator[Finding]:
    known = flow.events.get(on, ())
    if leaf.field not in known:
        remedy = f"{did_you_mean(leaf.field, known)}Its fields: {', '.join(known)}."
        yield Finding("C221", where, f"{on} has no field {leaf.field}", remedy)
    elif leaf.type is None:
        yield Finding("C221", where, f"the type of {on}.{leaf.field} is not given", "Export the flow again.")
    else:
        for value in _named(leaf):
            if not _fits(leaf.type, value):
                remedy = f"Compare it with {KINDS[leaf.type.kind]}."
                yield Finding("C221", where, f"{on}.{leaf.field} is compared with {value!r}", remedy)


def _constant(flow: FlowDefinition, on: Sequence[str], found: Sequence[_Branch], runs: Verdicts) -> Iterator[Finding]:
    """Check that each condition holds for some event, and not for all."""
    for branch in found:
        where, alone = f"flow {flow.name}, {branch.shown}", len(found) == 1
        verdicts = runs[branch.step.name]
        if isinstance(branch.condition, Otherwise):
            if all(isinstance(other.condition, Otherwise) for other in found):
                what = f"when=otherwise(), and no other step on {_together(on)} has a condition, so that it always runs"
                yield Finding("C224", where, what, "Leave when= out, or give another step a condition.")
            elif not any(verdicts):
                what = f"when=otherwise() never holds: the other conditions on {_together(on)} cover every value"
                yield Finding("C225", where, what, "Leave the step out, or narrow one of the others.")
        elif not any(verdicts):
            never = f"it never runs on {on[0]}" if branch.step.any_of else "it never runs"
            remedy = f"Leave {on[0]} out of on=, or correct" if branch.step.any_of else "Correct"
            what = f"{never}: {text(branch.whole)} holds for no value"
            yield Finding("C223", where, what, f"{remedy} the comparison; use | where one of two is enough.")
        elif all(verdicts) and branch.condition == branch.whole:
            what = f"{text(branch.condition)} holds for every value"
            yield Finding("C224", where, what, "Leave when= out." if alone else "Leave when= out, or narrow it.")


def _overlaps(
    flow: FlowDefinition, on: Sequence[str], found: Sequence[_Branch], cases: Sequence[Case], runs: Verdicts
) -> Iterator[Finding]:
    """Check steps that ask the same field: they are meant as alternatives, and no event may run both."""
    for one, other in combinations(found, 2):
        if not _names([one.condition]) & _names([other.condition]):
            continue
        together = map(and_, runs[one.step.name], runs[other.step.name])
        both = next(compress(cases, together), None)
        if both is not None:
            yield Finding(
                "C226",
                f"flow {flow.name}, {one.shown} and {other.shown}",
                f"both run on {_together(on)} where {_shown(both, _names([one.condition, other.condition]))}",
                "Narrow one of the two conditions, or let one step do both.",
            )


def _gaps(
    flow: FlowDefinition, on: Sequence[str], found: Sequence[_Branch], cases: Sequence[Case], runs: Verdicts
) -> Iterator[Finding]:
    """Check that every event leads on: by a branch, a step without a condition, or a wait."""
    if not _must_lead_on(flow, on):
        return
    none = next((case for case, *verdicts in zip(cases, *runs.values(), strict=True) if not any(verdicts)), None)
    if none is not None:
        names = ", ".join(branch.step.name for branch in found)
        yield Finding(
            "C227",
            f"flow {flow.name}, event{'s' if len(on) > 1 else ''} {_together(on)}",
            f"none of its steps ({names}) runs where {_shown(none, _names(branch.condition for branch in found))}, "
            "and the run goes no further",
            "Add a step with when=otherwise(), or widen a condition.",
        )


def _names(conditions: Iterable[AnyCondition]) -> set[str]:
    return {key_of(leaf) for condition in conditions for leaf in leaves(condition)}


def _cases(conditions: Sequence[AnyCondition]) -> list[Case] | None:
    """Return the combinations of values to try; None if there are too many."""
    by_field: dict[str, list[Leaf]] = {}
    for condition in conditions:
        for leaf in leaves(condition):
            by_field.setdefault(key_of(leaf), []).append(leaf)
    tried = {name: _tried(found) for name, found in by_field.items()}
    number = 1
    for values in tried.values():
        number *= len(values)
    if number > TRIED_MAX:
        return None
    return [dict(zip(tried, values, strict=True)) for values in product(*tried.values())]


def _tried(found: Sequence[Leaf]) -> list[Any]:
    """Return the values of one field that tell all its comparisons apart."""
    declared = found[0].type
    if declared is None:
        return [None]
    nothing = [None] if declared.optional else []
    if declared.values:
        return [*declared.values, *nothing]
    if declared.kind == "truth":
        return [True, False, *nothing]
    named = sorted({comparable(declared.kind, value) for leaf in found for value in _named(leaf)})
    if declared.kind == "text":
        return [*named, _OTHER, *nothing]
    return [*_around(declared, named), *nothing]


def _around(declared: FieldType, named: Sequence[Any]) -> list[Any]:
    """Return these values of an ordered kind, with one between each two and one beyond each end."""
    if not named:
        return [datetime(2026, 1, 1, tzinfo=UTC) if declared.kind == "time" else Decimal(0)]
    whole = declared.whole or declared.kind == "day"
    unit: Any = Decimal(1) if declared.kind == "number" else timedelta(days=1)
    values = [*_moved(named[0], -unit), *named, *_moved(named[-1], unit)]
    for low, high in pairwise(named):
        values += [low + unit] if whole else [low + (high - low) / 2]
    return sorted(set(values))


def _moved(value: Any, by: Any) -> list[Any]:
    """Return the value beside this one; none at the end of the calendar."""
    try:
        return [value + by]
    except OverflowError:
        return []


def _named(leaf: Leaf) -> tuple[Any, ...]:
    if isinstance(leaf, Compare):
        return (leaf.value,)
    return leaf.values if isinstance(leaf, Among) else ()


def _fits(declared: FieldType, value: object) -> bool:
    try:
        comparable(declared.kind, value)
    except UnreadableFieldError:
        return False
    return not declared.values or value in declared.values


def _shown(case: Case, names: Iterable[str]) -> str:
    """Return the values of a case for people."""
    shown = [f"{name} is {_value(case[name])}" for name in sorted(names)]
    return " and ".join(shown) if shown else "any field has any value"


def _value(value: object) -> str:
    if isinstance(value, str) and value != _OTHER:
        return f'"{value}"'
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, date) else str(value)
