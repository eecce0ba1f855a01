"""Checks of a flow's names, the events' fields, and the rule that each event has one meaning for every reader.

Checks each part alone; other checks follow the events from part to part.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from choreo.core.checks.finding import Finding
from choreo.core.definition import FlowDefinition, WaitDefinition
from choreo.core.facts import PREFIX
from choreo.core.flow_table import FlowTable

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}\Z")
"""A name that fits a topic, a consumer group, a header and a URL; a dot separates service and step."""

NAME_RULE = "letters, digits, - and _, starting with a letter, at most 100"

RESERVED = frozenset({"bridge", "choreo", "projector", "timer", "tracker", "wait"})
"""Consumer groups and prefixes of choreo's own."""

_EVENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")

# The roles of an event. The success of a reaction is a role of its own: the steps that it triggers are reactions too.
_START, _SUCCESS, _REACTION, _OUTSIDE = "the start event", "a success", "a success of a reaction", "the outside event"
_FAILURE, _UNDO, _TIMEOUT, _FLOW = "a failure", "an undo", "a timeout", "the flow's own failure"
_MOVER, _REMINDER = "an event that moves a timer", "a reminder"


def wrong_name(name: object) -> str:
    """Return why this cannot be the name of a flow, service or step; empty if it can."""
    if not isinstance(name, str) or not NAME.match(name):
        return f"{name!r} is no name: {NAME_RULE}"
    return f"{name!r} is kept for choreo itself" if name in RESERVED else ""


def names(flow: FlowDefinition) -> Iterator[Finding]:
    """Check the names of the flow, its services and steps."""
    here = f"flow {flow.name}"
    if wrong := wrong_name(flow.name):
        yield Finding("C101", here, f"the flow's name {wrong}", "Give it another name.")
    if not flow.steps:
        yield Finding("C102", here, "it has no steps", f"Pass services=[...] with a step on {flow.starts}.")
    for step in flow.steps:
        service, _, short = step.name.partition(".")
        wrong = wrong_name(service) or wrong_name(short)
        if wrong:
            yield Finding("C101", f"{here}, step {step.name}", f"the name {wrong}", "Give it another name.")
        elif service != step.service:
            yield Finding(
                "C101",
                f"{here}, step {step.name}",
                f"its service is given as {step.service}",
                "Name a step service.step.",
            )
    for name, count in Counter(step.name for step in flow.steps).items():
        if count > 1:
            yield Finding(
                "C103", f"{here}, step {name}", f"{count} steps have this name", "Give each a name of its own."
            )
    for name, count in Counter(wait.name for wait in flow.waits).items():
        if count > 1:
            yield Finding(
                "C103",
                f"{here}, {name}",
                f"{count} waits have this name",
                "Declare one wait for each event from outside.",
            )


def fields(flow: FlowDefinition, table: FlowTable) -> Iterator[Finding]:
    """Check that every event has a type that fits a header, and carries the flow's key."""
    for type_ in sorted(_roles(flow, table)):
        where = f"flow {flow.name}, event {type_}"
        known = flow.events.get(type_)
        if type_.startswith(PREFIX):
            yield Finding(
                "C104", where, f"names that start with {PREFIX!r} are choreo's own facts", "Give it another name."
            )
        elif not _EVENT.match(type_):
            yield Finding("C104", where, "this is no event type", "Use letters, digits, underscores and dots.")
        elif known is None:
            yield Finding(
                "C105", where, "its fields are not listed in events", "Export the flow again from its declaration."
            )
        elif flow.key not in known:
            yield Finding("C106", where, f"it has no field {flow.key}, the flow's key", f"Add {flow.key} to {type_}.")
    types = [(wait.late, f"{wait.name} times out", "reason") for wait in flow.waits]
    types += [(type_, f"{wait.name} is open", "reason and n") for wait in flow.waits for type_ in wait.says]
    types += [(flow.fails, "a run is undone", "reason")] if flow.fails else []
    for type_, moment, more in types:
        filled = (flow.key, *more.split(" and "))
        extra = [name for name in flow.events.get(type_, ()) if name not in filled]
        if extra:
            yield Finding(
                "C107",
                f"flow {flow.name}, event {type_}",
                f"the tracker publishes it when {moment} and cannot fill in {', '.join(extra)}",
                f"Keep only {flow.key} and, if wanted, {more}.",
            )


def roles(flow: FlowDefinition, table: FlowTable) -> Iterator[Finding]:
    """Check that an event has one meaning: its effect on a run must not depend on its producer."""
    for type_, found in _roles(flow, table).items():
        where = f"flow {flow.name}, event {type_}"
        kinds = {role for role, _ in found}
        meaning = " and ".join(sorted({f"{role} of {owner}" if owner else role for role, owner in found}))
        if len(kinds) > 1:
            yield Finding("C109", where, f"it is {meaning}", _remedy(type_, kinds))
        elif kinds == {_TIMEOUT} and len(found) > 1:
            yield Finding("C110", where, f"it is {meaning}", "Give each wait a fails= or then= event of its own.")
        elif kinds == {_REMINDER} and len(found) > 1:
            yield Finding("C110", where, f"it is {meaning}", "Give each wait, and its escalation, an event of its own.")
        elif kinds == {_OUTSIDE} and len({owner for _, owner in found}) > 1:
            yield Finding(
                "C110", where, f"it is {meaning}", "One event answers one wait: give each wait an event of its own."
            )
        elif kinds == {_UNDO} and len(found) > 1:
            yield Finding(
                "C111",
                where,
                f"it is {meaning}, so that one without choreo's headers cannot be attributed",
                "Give each step an event of its own, or let every producer of it set ce_choreostep.",
            )


def _remedy(type_: str, kinds: set[str]) -> str:
    if _START in kinds:
        return f"Emit another event: {type_} would start another run."
    if _OUTSIDE in kinds:
        return "A wait is for an event from outside; to go on from a step's event declare a step on it."
    if kinds == {_SUCCESS, _FAILURE}:
        return "Give the failure an event of its own; where the flow is to go on from it, name it in emits=."
    return "Give each its own event class."


def _roles(flow: FlowDefinition, table: FlowTable) -> dict[str, list[tuple[str, str]]]:
    """Return type → its roles, each with its owner; an answer of a wait may also move a timer."""
    return {**{type_: [(_MOVER, "")] for type_ in flow.movers_outside}, **_made(flow, table)}


def _made(flow: FlowDefinition, table: FlowTable) -> dict[str, list[tuple[str, str]]]:
    """Return type → its roles, besides those of events from outside that only move a timer."""
    found: dict[str, list[tuple[str, str]]] = {flow.starts: [(_START, "")]}
    for type_ in flow.ends:
        found.setdefault(type_, [])
    if flow.fails:
        found.setdefault(flow.fails, []).append((_FLOW, ""))
    for step in flow.steps:
        for type_ in step.triggers:
            found.setdefault(type_, [])
        owner = f"step {step.name}"
        for type_ in step.emits:
            found.setdefault(type_, []).append((_REACTION if step.name in table.reactions else _SUCCESS, owner))
        for type_ in step.fails:
            found.setdefault(type_, []).append((_FAILURE, owner))
        for type_ in step.compensation.emits if step.compensation else ():
            found.setdefault(type_, []).append((_UNDO, owner))
    for wait in flow.waits:
        found.setdefault(wait.on, [])
        for type_, role in _of_wait(wait):
            found.setdefault(type_, []).append((role, wait.name))
    return found


def _of_wait(wait: WaitDefinition) -> Iterator[tuple[str, str]]:
    yield from ((type_, _OUTSIDE) for type_ in wait.answers)
    yield from ((type_, _TIMEOUT) for type_ in (wait.late,) if type_)
    yield from ((type_, _REMINDER) for type_ in wait.says)
