"""Checks of search attributes: each event is one of the flow's, and no name hides a field of the start event."""

from __future__ import annotations

from collections.abc import Iterator

from choreo.core.attributes import RESERVED, AttributeDefinition
from choreo.core.checks.finding import Finding
from choreo.core.definition import FlowDefinition
from choreo.core.wording import did_you_mean


def attributes(flow: FlowDefinition) -> Iterator[Finding]:
    """Check the search attributes of a flow."""
    names = [attribute.name for attribute in flow.attributes]
    for attribute in flow.attributes:
        where = f"flow {flow.name}, attribute {attribute.name}"
        if names.count(attribute.name) > 1:
            yield Finding("C521", where, "two attributes have this name", "Give it all its events at one place.")
        if wrong := wrong_name(attribute.name):
            yield Finding("C521", where, wrong, "Give it another name.")
        yield from _sources(flow, attribute, where)
        yield from _hidden(flow, attribute, where)


def wrong_name(name: object) -> str:
    """Return why this cannot be the name of an attribute; empty if it can."""
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii() or len(name) > 100:
        return f"{name!r:.120} is no name: letters, digits and _, not starting with a digit, at most 100"
    return f"{name} is a filter or a column of every list" if name in RESERVED else ""


def _sources(flow: FlowDefinition, attribute: AttributeDefinition, where: str) -> Iterator[Finding]:
    """Check that events of the flow set it, each by a field that it has."""
    types = [source.type for source in attribute.sources]
    if not types:
        yield Finding("C522", where, "no event sets it", "Name an event of the flow.")
    for source in attribute.sources:
        if source.type not in flow.types:
            yield Finding(
                "C522",
                where,
                f"{source.type} is no event of the flow",
                f"{did_you_mean(source.type, flow.types)}Name an event that a step of the flow emits or takes.",
            )
        elif source.field not in (known := flow.events.get(source.type, (source.field,))):
            yield Finding(
                "C522", where, f"{source.type} has no field {source.field}", f"Its fields: {', '.join(known)}."
            )
        if types.count(source.type) > 1:
            yield Finding("C522", where, f"{source.type} sets it twice", "Name one field of each event.")


def _hidden(flow: FlowDefinition, attribute: AttributeDefinition, where: str) -> Iterator[Finding]:
    """Check that an attribute with the name of a field of the start event begins with that field."""
    if attribute.name not in flow.events.get(flow.starts, ()):
        return
    if not any(source.type == flow.starts and source.field == attribute.name for source in attribute.sources):
        yield Finding(
            "C523",
            where,
            f"{flow.starts} has a field of this name, by which lists are filtered",
            f"Give it another name, or let that field begin it: attribute({attribute.name!r}, {flow.starts}).",
        )
