"""Evidence of `choreo why`: facts as a person reads them, with their place in the log and their time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from choreo.app.query.read_your_writes import token_of
from choreo.app.query.why.facts import GroupFacts, RunFacts, StepFacts
from choreo.app.query.why.words import Cause
from choreo.core.events import Position

CHANGES_SHOWN = 5


class Evidence(msgspec.Struct, frozen=True):
    """A fact that speaks for a cause."""

    name: str
    value: str
    position: str = ""
    """Its place in the log; "" for a fact that is not in the log."""
    at_ms: int = 0


class Finding(NamedTuple):
    """A rule that holds, with the values of its words."""

    cause: Cause
    values: Mapping[str, object]
    evidence: tuple[Evidence, ...] = ()


def name_of(step: StepFacts) -> str:
    """Return the name of a step, or of its undo."""
    return f"the undo of {step.step}" if step.undo else step.step


def named(group: GroupFacts) -> str:
    """Return the owner of the partition, or the group where there is none."""
    owner = group.owner
    if owner is None:
        return f"group {group.name}"
    return f"{owner.name} ({owner.host})" if owner.host else owner.name


def after(reason: str) -> str:
    """Return a reason as the end of a sentence."""
    return f": {reason}" if reason else ""


def place(facts: RunFacts, offset: int) -> str:
    """Return the position of an offset in the partition of the run."""
    return token_of(Position(facts.row.flow, facts.row.partition, offset)) if offset >= 0 else ""


def group_evidence(group: GroupFacts) -> Sequence[Evidence]:
    """Return the members of a group, and its offset in the partition."""
    owner = group.owner
    members = ", ".join(member.name for member in group.members) or "none"
    return (
        Evidence(f"members of {group.name}", members),
        Evidence("owner of the partition", owner.name if owner else "none"),
        Evidence("committed", f"{group.committed} of {group.end}"),
    )


def changes_evidence(group: GroupFacts) -> Sequence[Evidence]:
    """Return the last changes of a group's members."""
    found = []
    for change in group.changes[-CHANGES_SHOWN:]:
        parts = [("joined", change.joined), ("left", change.left), ("moved", [f"partition {n}" for n in change.moved])]
        text = ", ".join(f"{', '.join(names)} {word}" for word, names in parts if names)
        found.append(Evidence(f"change of {group.name}", text, at_ms=change.at_ms))
    return found


def trigger_evidence(facts: RunFacts, step: StepFacts) -> Evidence:
    """Return the record that the step waits on."""
    return Evidence("trigger", name_of(step), place(facts, step.offset), step.since_ms)


def unread_evidence(facts: RunFacts, group: GroupFacts) -> Evidence:
    """Return the first record that a group has not read."""
    return Evidence("first unread record", group.name, place(facts, group.committed), group.unread_ms)


def progress_evidence(step: StepFacts) -> Sequence[Evidence]:
    """Return the newest fact of the service."""
    if not step.progress_ms:
        return (Evidence("last fact of the service", "none among the last records of the partition"),)
    return (Evidence("last fact of the service", step.service, at_ms=step.progress_ms),)
