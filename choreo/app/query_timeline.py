"""An instance's history as a person tells it: what happened when, how long each step took, what was undone.

Pure: rows in, rows out. The sentences stand in one table; a domain event's follows from its role in the flow.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from choreo.app.failures import Failure
from choreo.app.query_history import HistoryRow
from choreo.core import facts
from choreo.core.definition import FlowTable


class TimelineRow(msgspec.Struct, frozen=True):
    """One line of an instance's story."""

    at_ms: int
    """Since the instance started."""
    stamp_ms: int
    offset: int
    kind: str
    """start, done, failed, retry, held, outside, timer, turn, undo, stuck, end or operator."""
    text: str
    step: str
    type: str
    run: str
    took_ms: int | None = None
    """From what made it happen to this, for outcomes and undos."""
    undo: bool = False
    """Whether it belongs to the way back."""
    failure: Failure | None = None
    """What an attempt raised, in a fact that says it has failed."""


# Fact → its kind and what it means; `reason` is added where there is one.
_FACTS: dict[str, tuple[str, str]] = {
    facts.STEP_COMPLETED: ("done", "{step} done"),
    facts.STEP_FAILED: ("failed", "{step} failed for good"),
    facts.STEP_ATTEMPT_FAILED: ("retry", "{step}: attempt {attempt} failed, another will follow"),
    facts.STEP_SKIPPED: ("failed", "{step} skipped"),
    facts.STEP_HELD: ("held", "{step} held: the run is paused"),
    facts.TRIGGER_IGNORED: ("held", "{step} ignored a second trigger"),
    facts.NOTHING_TO_UNDO: ("undo", "{step} had left nothing to undo"),
    facts.UNDO_FAILED: ("stuck", "the undo of {step} failed"),
    facts.FLOW_TURNED: ("turn", "the flow turned back"),
    facts.COMPENSATION_REQUESTED: ("undo", "undo of {step} asked for, round {round}"),
    facts.STEP_RETRY_DUE: ("retry", "{step} woken for another attempt"),
    facts.STEP_DEADLINE_PASSED: ("timer", "{step} gave no outcome by its deadline"),
    facts.UNDO_DEADLINE_PASSED: ("timer", "the undo of {step} gave no answer by its deadline"),
    facts.FLOW_DEADLINE_PASSED: ("timer", "the flow's deadline passed"),
    facts.FLOW_COMPLETED: ("end", "completed"),
    facts.FLOW_COMPENSATED: ("end", "compensated: everything it did is undone"),
    facts.FLOW_STUCK: ("stuck", "stuck: an operator is needed"),
    facts.CANCEL_REFUSED: ("operator", "the cancel was refused"),
    facts.CANCEL_REQUESTED: ("operator", "an operator cancelled it"),
    facts.FLOW_PAUSED: ("operator", "an operator paused it"),
    facts.FLOW_RESUMED: ("operator", "an operator resumed it"),
    facts.FLOW_TERMINATED: ("end", "an operator terminated it"),
    facts.UNDO_RETRY_REQUESTED: ("operator", "an operator asked to retry the undo of {step}"),
    facts.UNDO_RESOLVED: ("operator", "an operator resolved the undo of {step} by hand"),
    facts.REDRIVEN: ("operator", "an operator redrove a dead letter to {step}"),
}

_BACKWARD = frozenset(
    {
        facts.NOTHING_TO_UNDO,
        facts.UNDO_FAILED,
        facts.COMPENSATION_REQUESTED,
        facts.UNDO_DEADLINE_PASSED,
        facts.UNDO_RETRY_REQUESTED,
        facts.UNDO_RESOLVED,
    }
)
# Their reason is the turn's, or follows from what was said a line before.
_SAID_BEFORE = frozenset({facts.COMPENSATION_REQUESTED, facts.FLOW_COMPENSATED, facts.FLOW_COMPLETED})
_TIMED = frozenset({"done", "failed"})
_FAILURES = frozenset({facts.STEP_FAILED, facts.STEP_ATTEMPT_FAILED, facts.UNDO_FAILED})


def timeline(table: FlowTable, rows: Iterable[HistoryRow]) -> list[TimelineRow]:
    """The story in these rows of one run; twins are left out."""
    stamps: dict[str, int] = {}
    started_ms = -1
    story = []
    for row in rows:
        if row.twin:
            continue
        started_ms = row.stamp_ms if started_ms < 0 else started_ms
        stamps.setdefault(row.id, row.stamp_ms)
        kind, text, step = _told(table, row)
        undo = row.type in table.undos or row.type in _BACKWARD
        answers = kind in _TIMED or (undo and bool(row.causation) and row.type != facts.COMPENSATION_REQUESTED)
        since_ms = stamps.get(row.causation) if answers else None
        story.append(
            TimelineRow(
                at_ms=row.stamp_ms - started_ms,
                stamp_ms=row.stamp_ms,
                offset=row.offset,
                kind=kind,
                text=text,
                step=step,
                type=row.type,
                run=row.run,
                took_ms=None if since_ms is None else row.stamp_ms - since_ms,
                failure=_failure(row),
                undo=undo or (row.entry != "" and row.type in (facts.STEP_RETRY_DUE, facts.STEP_ATTEMPT_FAILED)),
            )
        )
    return story


def _told(table: FlowTable, row: HistoryRow) -> tuple[str, str, str]:
    """(kind, sentence, step) of a row."""
    reason = "" if row.type in _SAID_BEFORE else row.reason or str(row.fields.get("reason") or "")
    if row.type in _FACTS:
        kind, template = _FACTS[row.type]
        text = template.format(step=row.step, attempt=row.attempt, round=row.round)
        return kind, _because(text, reason), row.step
    kind, text, step = _domain(table, row)
    return kind, _because(text, reason), step


def _domain(table: FlowTable, row: HistoryRow) -> tuple[str, str, str]:
    type_ = row.type
    if type_ == table.flow.starts:
        return "start", f"{type_} started it", ""
    if type_ in table.wait_failures:
        wait = table.wait_failures[type_]
        return "timer", f"{wait.until} did not come within {table.shown(wait.timeout_ms)}: {type_}", row.step
    for kind, verb, makers in (
        ("undo", "undone", table.undos.get(type_, ())),
        ("failed", "failed", table.failures.get(type_, ())),
        ("done", "done", table.successes.get(type_, ())),
    ):
        if makers:
            step = row.step or (makers[0] if len(makers) == 1 else "a step")
            return kind, f"{step} {verb}: {type_}", step
    if type_ in table.satisfies:
        return "outside", f"{type_} came from outside", ""
    return "end" if type_ == table.flow.fails else "outside", f"{type_} said", row.step


def _failure(row: HistoryRow) -> Failure | None:
    """What an attempt raised; None where that is not told, or another program wrote the fact."""
    try:
        return msgspec.convert(row.fields, Failure) if row.type in _FAILURES and row.fields else None
    except msgspec.ValidationError:
        return None


def _because(text: str, reason: str) -> str:
    return f"{text}: {reason}" if reason else text
