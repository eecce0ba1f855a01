"""Give each part of a flow's picture its state in one run: not reached, under way, done, in doubt, undone. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import NamedTuple

from choreo.app.query.timeline import TimelineRow
from choreo.app.tracking.views import Detail
from choreo.core.definition import FlowDefinition
from choreo.core.state import COMPLETED, FAILED, NOTHING, REQUESTED, RESOLVED, UNDONE


class Part(NamedTuple):
    """The state of one part."""

    state: str
    """`ahead`, `active`, `done`, `doubt`, `undoing`, `undone` or `failed`: also its class in the style sheet."""
    words: str


AHEAD = Part("ahead", "not reached")
_EFFECTS = {
    REQUESTED: Part("undoing", "is being undone"),
    UNDONE: Part("undone", "undone"),
    NOTHING: Part("undone", "had left nothing to undo"),
    RESOLVED: Part("undone", "resolved by hand"),
    FAILED: Part("failed", "its undo failed"),
}


def parts_of(flow: FlowDefinition, detail: Detail, rows: Iterable[TimelineRow]) -> dict[str, Part]:
    """Return the state of each part by its name in the picture; parts that are not reached are left out."""
    found: dict[str, Part] = {}
    for row in rows:
        found[f"event {row.type}"] = Part("done", "seen")
        if row.kind in ("done", "failed") and row.step:
            found[f"step {row.step}"] = Part("done", "done") if row.kind == "done" else Part("failed", "failed")
    for effect in detail.ledger:
        known = _EFFECTS.get(effect.state)
        if known is None:
            known = Part("doubt", "in doubt") if effect.in_doubt else Part("done", "done, its effect is open")
        found[f"step {effect.step}"] = known
    for step in detail.expected:
        words = f"under way, attempt {step.attempt} failed" if step.attempt else "under way"
        found[f"step {step.step}"] = Part("active", "held while paused" if step.held else words)
    found |= _waits(flow, detail, found)
    if detail.status == COMPLETED:
        found["completed"] = Part("done", "completed")
    if detail.compensating:
        ended = Part("undone", "compensated")
        found["compensation"] = ended if detail.ended_ms else Part("undoing", f"compensation: {detail.status}")
    return found


def _waits(flow: FlowDefinition, detail: Detail, seen: Container[str]) -> dict[str, Part]:
    found: dict[str, Part] = {}
    for wait in flow.waits:
        if any(each.name == wait.name for each in detail.waits):
            found[wait.name] = Part("active", "waits")
        elif any(f"event {type_}" in seen for type_ in wait.answers):
            found[wait.name] = Part("done", "satisfied")
    return found
