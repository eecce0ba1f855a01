"""Compare two states of a run, field by field, in words. Pure.

The fields are those that `choreo show` prints; how a state came about is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from choreo.app.query.status_text import moment
from choreo.app.tracking.views import AwaitedEvent, Detail, Effect, ExpectedStep, detail_of
from choreo.core.errors import StorageError
from choreo.ports.read_model import InstanceView

NOTHING = "none"


class Changed(NamedTuple):
    """A field in which two states differ, with both values in words."""

    field: str
    before: str
    after: str


def compared(before: InstanceView, after: InstanceView) -> list[Changed]:
    """Return the fields that differ. Of a row that another version of choreo wrote, only status and cause are known."""
    one, other = fields_of(before), fields_of(after)
    return [Changed(field, one[field], other[field]) for field in one if field in other and one[field] != other[field]]


def fields_of(row: InstanceView) -> dict[str, str]:
    """Return the state of a run, each field in words."""
    fields = {"status": row.status, "cause": row.cause or NOTHING}
    try:
        detail = detail_of(row)
    except StorageError:
        return fields
    return fields | {
        "version": str(detail.version),
        "build": detail.build or NOTHING,
        "outcome": detail.outcome or NOTHING,
        "effects": _listed(_effect(effect) for effect in detail.ledger),
        "expected": _listed(_expected(step) for step in detail.expected),
        "waits": _listed(_awaited(wait) for wait in detail.waits),
        "timers": _listed(f"{about} at {moment(due_ms)}" for due_ms, about in detail.timers),
        "children": _listed(_children(detail)),
        "attributes": _listed(f"{name}={value}" for name, value in sorted(row.attributes.items())),
        "ended": moment(detail.ended_ms) if detail.ended_ms else NOTHING,
    }


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(texts) or NOTHING


def _effect(effect: Effect) -> str:
    doubt = " in doubt" if effect.in_doubt else ""
    round_ = f", round {effect.round}" if effect.round else ""
    return f"{effect.step} {effect.state}{doubt}{round_}"


def _expected(step: ExpectedStep) -> str:
    attempt = f", attempt {step.attempt} failed" if step.attempt else ""
    return f"{step.step}{attempt}{', held' if step.held else ''}"


def _awaited(wait: AwaitedEvent) -> str:
    reminded = f", reminded {wait.reminded} times" if wait.reminded else ""
    return f"{wait.until or wait.name}{reminded}"


def _children(detail: Detail) -> list[str]:
    return [
        f"{each.step} {each.ended} of {each.total} ended, {each.failed} failed, {each.undone} undone"
        for each in detail.children
    ]
