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
from choreo.core.checks.finding import Finding, error, warning
from choreo.core.conditions import Among, AnyCondition, Compare, Leaf, Otherwise, leaves, text
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
    condition: AnyCondition

    @property
    def shown(self) -> str:
        return f"step {self.step.name}"


def branches(flow: FlowDefinition, table: FlowTable) -> Iterator[Finding]:
    """Return the findings about the conditions of steps."""
    for type_, found in _by_type(flow).items():
        wrong = [finding for branch in found for finding in _fields(flow, branch)]
        yield from wrong
        if wrong:
            continue
        cases = _cases([branch.condition for branch in found])
        if cases is None:
            yield warning(
                f"flow {flow.name}, steps on {type_}",
                f"their conditions are not checked for gaps and overlaps: more than {TRIED_MAX:,} combinations",
                "Compare fewer fields, or one field that says which branch it is.",
            )
            continue
        runs = _verdicts(found, cases)
        yield from _constant(flow, found, runs)
        yield from _overlaps(flow, found, cases, runs)
        if found[0].step.name not in table.reactions:
            yield from _gaps(flow, type_, found, cases, runs)


def exclusive(flow: FlowDefinition) -> frozenset[frozenset[str]]:
    """Return the pairs of steps that never run on the same event."""
    pairs: set[frozenset[str]] = set()
    for found in _by_type(flow).values():
        cases = None if any(list(_fields(flow, each)) for each in found) else _cases([each.condition for each in found])
        if cases is None:
            continue
        runs = _verdicts(found, cases)
        pairs |= {
            frozenset((one, other))
            for one, other in combinations(runs, 2)
            if not any(a and b for a, b in zip(runs[one], runs[other], strict=True))
        }
    return frozenset(pairs)


def _by_type(flow: FlowDefinition) -> dict[str, list[_Branch]]:
    found: dict[str, list[_Branch]] = {}
    for step in flow.steps:
        if step.when is not None:
            found.setdefault(step.on, []).append(_Branch(step, step.when))
    return found


def _verdicts(found: Sequence[_Branch], cases: Sequence[Case]) -> Verdicts:
    """Return the verdict on each case; the tracker and the hosts judge with the same function."""
    conditions = Branches((branch.step.name, branch.condition) for branch in found)
    skipped = [frozenset(conditions.skipped(case)) for case in cases]
    return {branch.step.name: [branch.step.name not in skips for skips in skipped] for branch in found}


def _fields(flow: FlowDefinition, branch: _Branch) -> Iterator[Finding]:
    """Check the fields and values of a condition that was not declared here, but loaded."""
    known, on = flow.events.get(branch.step.on, ()), branch.step.on
    for leaf in leaves(branch.condition):
        where = f"flow {flow.name}, {branch.shown}, when="
        if leaf.field not in known:
            remedy = f"{did_you_mean(leaf.field, known)}Its fields: {', '.join(known)}."
            yield error(where, f"{on} has no field {leaf.field}", remedy)
        elif leaf.type is None:
            yield error(where, f"the type of {on}.{leaf.field} is not given", "Export the flow again.")
        else:
            for value in _named(leaf):
                if not _fits(leaf.type, value):
                    remedy = f"Compare it with {KINDS[leaf.type.kind]}."
                    yield error(where, f"{on}.{leaf.field} is compared with {value!r}", remedy)


def _constant(flow: FlowDefinition, found: Sequence[_Branch], runs: Verdicts) -> Iterator[Finding]:
    """Check that each condition holds for some event, and not for all."""
    for branch in found:
        where, alone = f"flow {flow.name}, {branch.shown}", len(found) == 1
        verdicts = runs[branch.step.name]
        if isinstance(branch.condition, Otherwise):
            on = branch.step.on
            if all(isinstance(other.condition, Otherwise) for other in found):
                what = f"when=otherwise(), and no other step on {on} has a condition, so that it always runs"
                yield warning(where, what, "Leave when= out, or give another step a condition.")
            elif not any(verdicts):
                what = f"when=otherwise() never holds: the other conditions on {on} cover every value"
                yield warning(where, what, "Leave the step out, or narrow one of the others.")
        elif not any(verdicts):
            what = f"it never runs: {text(branch.condition)} holds for no value"
            yield error(where, what, "Correct the comparison; use | where one of two is enough.")
        elif all(verdicts):
            what = f"{text(branch.condition)} holds for every value"
            yield warning(where, what, "Leave when= out." if alone else "Leave when= out, or narrow it.")


def _overlaps(
    flow: FlowDefinition, found: Sequence[_Branch], cases: Sequence[Case], runs: Verdicts
) -> Iterator[Finding]:
    """Check steps that ask the same field: they are meant as alternatives, and no event may run both."""
    for one, other in combinations(found, 2):
        if not _names([one.condition]) & _names([other.condition]):
            continue
        together = map(and_, runs[one.step.name], runs[other.step.name])
        both = next(compress(cases, together), None)
        if both is not None:
            yield warning(
                f"flow {flow.name}, {one.shown} and {other.shown}",
                f"both run on {one.step.on} where {_shown(both, _names([one.condition, other.condition]))}",
                "Narrow one of the two conditions, or let one step do both.",
            )


def _gaps(
    flow: FlowDefinition, type_: str, found: Sequence[_Branch], cases: Sequence[Case], runs: Verdicts
) -> Iterator[Finding]:
    """Check that every event leads on: by a branch, a step without a condition, or a wait."""
    on_all = any(type_ in step.triggers and step.when is None for step in flow.steps)
    if on_all or type_ in flow.ends or any(wait.on == type_ for wait in flow.waits):
        return
    none = next((case for case, *verdicts in zip(cases, *runs.values(), strict=True) if not any(verdicts)), None)
    if none is not None:
        names = ", ".join(branch.step.name for branch in found)
        yield warning(
            f"flow {flow.name}, event {type_}",
            f"none of its steps ({names}) runs where {_shown(none, _names(branch.condition for branch in found))}, "
            "and the run goes no further",
            "Add a step with when=otherwise(), or widen a condition.",
        )


def _names(conditions: Iterable[AnyCondition]) -> set[str]:
    return {leaf.field for condition in conditions for leaf in leaves(condition)}


def _cases(conditions: Sequence[AnyCondition]) -> list[Case] | None:
    """Return the combinations of values to try; None if there are too many."""
    by_field: dict[str, list[Leaf]] = {}
    for condition in conditions:
        for leaf in leaves(condition):
            by_field.setdefault(leaf.field, []).append(leaf)
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
