"""An instance's history for people: each event with its time, how long each step took, the undone effects.

Pure: rows in, rows out. The sentences stand in one table; a domain event's follows from its role in the flow.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from choreo.app.failures import Failure
from choreo.app.query.history import HistoryRow
from choreo.core import facts
from choreo.core.access import Actor
from choreo.core.flow_table import FlowTable


class TimelineRow(msgspec.Struct, frozen=True):
    """One line of an instance's timeline."""

    at_ms: int
    """Milliseconds since the instance started."""
    stamp_ms: int
    offset: int
    kind: str
    """start, done, failed, retry, held, outside, timer, compensation, undo, stuck, end, children or operator."""
    text: str
    step: str
    type: str
    run: str
    took_ms: int | None = None
    """Milliseconds from its trigger to this event, for outcomes and undos."""
    compensation: bool = False
    """Whether the event belongs to the compensation."""
    failure: Failure | None = None
    """The error of the attempt, in a fact about a failure."""
    actor: str = ""
    """The author of an operator's fact."""
    method: str = ""
    """How the author was established."""


# Fact → its kind and its sentence; `reason` is added where there is one.
_FACTS: dict[str, tuple[str, str]] = {
    facts.STEP_COMPLETED: ("done", "{step} done"),
    facts.STEP_FAILED: ("failed", "{step} failed for good"),
    facts.STEP_ATTEMPT_FAILED: ("retry", "{step}: attempt {attempt} failed, another will follow"),
    facts.STEP_SKIPPED: ("failed", "{step} skipped"),
    facts.STEP_HELD: ("held", "{step} held: the run is paused"),
    facts.TRIGGER_IGNORED: ("held", "{step} ignored a second trigger"),
    facts.NOTHING_TO_COMPENSATE: ("undo", "{step} had left nothing to undo"),
    facts.COMPENSATION_FAILED: ("stuck", "the undo of {step} failed"),
    facts.COMPENSATION_STARTED: ("compensation", "compensation started"),
    facts.COMPENSATION_REQUESTED: ("undo", "undo of {step} requested, round {round}"),
    facts.STEP_RETRY_DUE: ("retry", "{step} woken for another attempt"),
    facts.STEP_DEADLINE_PASSED: ("timer", "{step} gave no outcome by its deadline"),
    facts.COMPENSATION_DEADLINE_PASSED: ("timer", "the undo of {step} gave no answer by its deadline"),
    facts.FLOW_DEADLINE_PASSED: ("timer", "the flow's deadline passed"),
    facts.WAIT_CLOSED: ("end", "{step} is closed: it is optional"),
    facts.FLOW_COMPLETED: ("end", "completed"),
    facts.FLOW_COMPENSATED: ("end", "compensated: everything it did is undone"),
    facts.FLOW_STUCK: ("stuck", "stuck: an operator is needed"),
    facts.CANCEL_REFUSED: ("operator", "the cancel was refused"),
    facts.CANCEL_REQUESTED: ("operator", "an operator cancelled it"),
    facts.FLOW_PAUSED: ("operator", "an operator paused it"),
    facts.FLOW_RESUMED: ("operator", "an operator resumed it"),
    facts.FLOW_TERMINATED: ("end", "an operator terminated it"),
    facts.COMPENSATION_RETRY_REQUESTED: ("operator", "an operator asked to retry the undo of {step}"),
    facts.COMPENSATION_RESOLVED: ("operator", "an operator resolved the undo of {step} by hand"),
    facts.REDRIVEN: ("operator", "an operator redrove a dead letter to {step}"),
    facts.CHILDREN_PLANNED: ("children", "{step} planned a batch of children"),
    facts.CHILDREN_DUE: ("children", "{step}: a batch of children may start"),
    facts.CHILDREN_COMPENSATION_REQUESTED: ("undo", "{step}: a batch of children is to be undone"),
    facts.CHILDREN_PAUSED: ("operator", "{step}: a batch of children is paused too"),
    facts.CHILDREN_RESUMED: ("operator", "{step}: a batch of children is resumed too"),
    facts.CHILDREN_TERMINATED: ("operator", "{step}: a batch of children is terminated too"),
    facts.CHILDREN_COMPENSATED: ("undo", "the children of {step} are undone"),
    facts.CHILD_ENDED: ("children", "{step}: a child ended"),
    facts.PARENT_COMPENSATION_REQUESTED: ("undo", "its parent undoes it"),
    facts.PARENT_PAUSED: ("operator", "its parent is paused"),
    facts.PARENT_RESUMED: ("operator", "its parent is resumed"),
    facts.PARENT_TERMINATED: ("operator", "its parent was terminated"),
}

_BACKWARD = frozenset(
    {
        facts.NOTHING_TO_COMPENSATE,
        facts.COMPENSATION_FAILED,
        facts.COMPENSATION_REQUESTED,
        facts.COMPENSATION_DEADLINE_PASSED,
        facts.COMPENSATION_RETRY_REQUESTED,
        facts.COMPENSATION_RESOLVED,
        facts.CHILDREN_COMPENSATION_REQUESTED,
        facts.CHILDREN_COMPENSATED,
        facts.PARENT_COMPENSATION_REQUESTED,
    }
)
# Their reason is the compensation's, or repeats the line before.
_REASON_SHOWN_BEFORE = frozenset({facts.COMPENSATION_REQUESTED, facts.FLOW_COMPENSATED, facts.FLOW_COMPLETED})
_TIMED = frozenset({"done", "failed"})
_FAILURES = frozenset({facts.STEP_FAILED, facts.STEP_ATTEMPT_FAILED, facts.COMPENSATION_FAILED})


def timeline(table: FlowTable, rows: Iterable[HistoryRow]) -> list[TimelineRow]:
    """Return the timeline of one run's rows; duplicates are left out."""
    stamps: dict[str, int] = {}
    started_ms = -1
    story = []
    for row in rows:
        if row.duplicate:
            continue
        started_ms = row.stamp_ms if started_ms < 0 else started_ms
        stamps.setdefault(row.id, row.stamp_ms)
        kind, text, step = _row_of(table, row)
        compensation = row.type in table.compensations or row.type in _BACKWARD
        answers = kind in _TIMED or (compensation and bool(row.causation) and row.type != facts.COMPENSATION_REQUESTED)
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
                actor=row.actor,
                method=row.method,
                compensation=compensation
                or (row.entry != "" and row.type in (facts.STEP_RETRY_DUE, facts.STEP_ATTEMPT_FAILED)),
            )
        )
    return story


def _row_of(table: FlowTable, row: HistoryRow) -> tuple[str, str, str]:
    """Return (kind, sentence, step) of a row."""
    reason = "" if row.type in _REASON_SHOWN_BEFORE else row.reason or str(row.fields.get("reason") or "")
    if row.type in _FACTS:
        kind, template = _FACTS[row.type]
        if row.type == facts.CHILD_ENDED and not row.step:
            template = "its end was told to its parent"
        text = template.format(step=row.step, attempt=row.attempt, round=row.round)
        text += f" by {Actor(row.actor, row.method).shown}" if row.actor else ""
        return kind, _because(text, reason), row.step
    kind, text, step = _domain(table, row)
    return kind, _because(text, reason), step


def _by_time(table: FlowTable, type_: str) -> str:
    """Return the sentence about a time-out, a timer, a reminder or an escalation."""
    wait = table.timeouts.get(type_) or table.reminders[type_]
    if type_ in wait.says:
        what = "a reminder" if type_ == wait.remind else "the escalation"
        return f"{what} of {wait.name}: {type_}"
    if not wait.is_timer:
        return f"{wait.shown} did not come within {table.shown(wait.timeout_ms)}: {type_}"
    over = "has come to its moment" if wait.at else f"is over after {table.shown(wait.timeout_ms)}"
    return f"{wait.name} {over}: {type_}"


def _domain(table: FlowTable, row: HistoryRow) -> tuple[str, str, str]:
    type_ = row.type
    if type_ == table.flow.starts:
        return "start", f"{type_} started it", ""
    if type_ in table.timeouts or type_ in table.reminders:
        return "timer", _by_time(table, type_), row.step
    for kind, verb, makers in (
        ("undo", "undone", table.compensations.get(type_, ())),
        ("failed", "failed", table.failures.get(type_, ())),
        ("done", "done", table.successes.get(type_, ())),
    ):
        if makers:
            step = row.step or (makers[0] if len(makers) == 1 else "a step")
            return kind, f"{step} {verb}: {type_}", step
    if type_ in table.outside:
        return "outside", f"{type_} came from outside", ""
    return "end" if type_ == table.flow.fails else "outside", f"{type_} published", row.step


def _failure(row: HistoryRow) -> Failure | None:
    """Return the error of an attempt; None where there is none, or where another program wrote the fact."""
    try:
        return msgspec.convert(row.fields, Failure) if row.type in _FAILURES and row.fields else None
    except msgspec.ValidationError:
        return None


def _because(text: str, reason: str) -> str:
    return f"{text}: {reason}" if reason else text
