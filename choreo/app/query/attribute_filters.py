"""Filters by attributes: from a person's text to comparisons of keys, checked against the declared flow.

A field of the start event that is not declared as a search attribute is compared as text, for equality only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from choreo.app.query.flows import Flows
from choreo.core.attributes import KINDS_SHOWN, OPERATORS, OUTCOME, AttributeDefinition, key_of
from choreo.core.definition import FlowDefinition
from choreo.core.errors import DecodeError
from choreo.core.wording import did_you_mean
from choreo.ports.read_model import Condition, Filter

CONDITIONS_MAX = 16
"""Comparisons of one filter: each is a lookup in an index, and storage takes some 60 at most."""

FORMS = "NAME=VALUE, NAME^=PREFIX, or NAME with <, <=, > or >= and a number or time"


class FilterError(DecodeError):
    """A filter that no run of the flow can meet: an unknown name, a value or a comparison of another type."""


_FORM = re.compile(r"(?P<name>[^=<>^]+)(?P<operator>\^=|<=|>=|=|<|>)(?P<value>.*)\Z", re.DOTALL)


def condition_of(text: str) -> Condition | None:
    """Return the comparison in a person's text, such as `amount>=100`; None if it has none."""
    found = _FORM.match(text)
    return Condition(found["name"], found["operator"], found["value"]) if found else None


def checked(flows: Flows, wanted: Filter) -> Filter:
    """Return the filter with its conditions as stores compare them; raises FilterError on one that cannot match.

    Without a flow the project's only one counts; of several flows each field is compared as text, for equality.
    """
    asked = [*(Condition(name, "=", text) for name, text in wanted.attributes.items()), *wanted.conditions]
    if len(asked) > CONDITIONS_MAX:
        raise DecodeError(
            f"the filter has {len(asked)} attributes, {CONDITIONS_MAX} at most",
            where="filter",
            remedy="Filter by those that leave the fewest, and search the answer.",
        )
    if not asked:
        return wanted
    names = [wanted.flow] if wanted.flow else list(flows.names)
    if len(names) == 1:
        plain, conditions = _of_flow(flows, names[0], asked)
    else:
        plain, conditions = _of_several(flows, names, asked), ()
    return msgspec.structs.replace(wanted, attributes=plain, conditions=conditions)


def _of_flow(flows: Flows, name: str, asked: Iterable[Condition]) -> tuple[dict[str, str], tuple[Condition, ...]]:
    """Return the texts of start fields, and the comparisons of search attributes."""
    definition = flows.definition(name)
    declared = _declared(definition)
    start: Any = flows.classes[name].get(definition.starts)
    text_of = getattr(start, "filter_text", lambda _, text: text)
    outcomes = [outcome for version in (definition, *definition.frozen) for outcome in version.outcomes.values()]
    plain: dict[str, str] = {}
    conditions: list[Condition] = []
    for condition in asked:
        attribute = declared.get(condition.name)
        if attribute is not None:
            conditions.append(_typed(attribute, condition, outcomes))
            continue
        _require_known(definition, condition)
        text = text_of(condition.name, condition.key)
        if plain.setdefault(condition.name, text) != text:
            conditions.append(condition)  # no run has two values, and no run has a key of a plain field
    return plain, tuple(conditions)


def _declared(definition: FlowDefinition) -> dict[str, AttributeDefinition]:
    """Return the search attributes, the outcome among them where the flow has several."""
    declared = {attribute.name: attribute for attribute in definition.attributes}
    return declared | ({OUTCOME: AttributeDefinition(OUTCOME, "text", ())} if definition.outcomes else {})


def _of_several(flows: Flows, names: Sequence[str], asked: Iterable[Condition]) -> dict[str, str]:
    declared = {attribute for name in names for attribute in _declared(flows.definition(name))}
    for condition in asked:
        if condition.name in declared or condition.operator != "=":
            raise FilterError(
                f"{condition.name:.100}{condition.operator}… is a filter of one flow, and there are {len(names)}",
                where="filter",
                remedy=f"Name the flow: {', '.join(names)}.",
            )
    return {condition.name: condition.key for condition in asked}


def _typed(attribute: AttributeDefinition, condition: Condition, outcomes: Sequence[str]) -> Condition:
    """Return the comparison with its key; raises FilterError on a comparison or a value that its kind does not have."""
    name, known = condition.name, OPERATORS[attribute.kind]
    if condition.operator not in known:
        raise FilterError(
            f"{name} is {KINDS_SHOWN[attribute.kind]}, and {condition.operator} is no comparison of it",
            where=f"filter {name}",
            remedy=f"Compare it with {', '.join(known)}.",
        )
    if name == OUTCOME and condition.operator == "=" and condition.key not in outcomes:
        raise FilterError(
            f"{condition.key!r:.80} is no outcome of this flow",
            where=f"filter {name}",
            remedy=f"{did_you_mean(condition.key, outcomes)}Its outcomes: {', '.join(outcomes)}.",
        )
    try:
        return Condition(name, condition.operator, key_of(attribute.kind, condition.key))
    except ValueError as error:
        raise FilterError(
            str(error),
            where=f"filter {name}",
            remedy="Write it such as in the example; in a URL, a + is %2B.",
        ) from error


def _require_known(definition: FlowDefinition, condition: Condition) -> None:
    """Raise FilterError unless it is the equality of a start field, of any version of the flow."""
    versions = (definition, *definition.frozen)
    known = [name for version in versions for name in version.events.get(version.starts, ())]
    if condition.name not in known and known:
        names = _names(definition, known)
        raise FilterError(
            f"flow {definition.name} has no attribute {condition.name:.100}",
            where=f"filter {condition.name:.100}",
            remedy=f"{did_you_mean(condition.name, names)}Known: {', '.join(f'{n}{k}' for n, k in names.items())}.",
        )
    if condition.operator != "=":
        raise FilterError(
            f"{condition.name} is a plain field of {definition.starts}, which is filtered with = only",
            where=f"filter {condition.name:.100}",
            remedy=f'Declare it: {definition.name}.attribute("{condition.name}", {definition.starts}).',
        )


def _names(definition: FlowDefinition, plain: Iterable[str]) -> Mapping[str, str]:
    """Return the names to filter by, search attributes first, each with its kind where it has one."""
    declared = {name: f" ({attribute.kind})" for name, attribute in _declared(definition).items()}
    return {**declared, **{name: "" for name in plain if name not in declared}}
