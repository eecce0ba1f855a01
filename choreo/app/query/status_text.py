"""Describe in sentences the events and actions that a run waits for. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from choreo.app.tracking.views import AwaitedEvent, ChildrenCount, Detail, Effect, ExpectedStep
from choreo.core.definition import is_timer
from choreo.core.events import EARLIEST_MS, LATEST_MS
from choreo.core.state import FAILED, REQUESTED


def moment(time_ms: int) -> str:
    """Return epoch milliseconds as RFC 3339 in UTC; outside the years 1 to 9999 the nearest valid moment."""
    return (
        datetime.fromtimestamp(min(max(time_ms, EARLIEST_MS), LATEST_MS) / 1_000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def duration(value_ms: int | None) -> str:
    """Return a duration for people, such as `1.2 s` or `3 d 4 h`; "–" for none."""
    if value_ms is None:
        return "–"
    sign, value_ms = ("-", -value_ms) if value_ms < 0 else ("", value_ms)
    if value_ms < 1_000:
        return f"{sign}{value_ms} ms"
    seconds = value_ms / 1_000
    if seconds < 60:
        return f"{sign}{seconds:.3g} s"
    minutes, seconds_left = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    days, hours_left = divmod(hours, 24)
    parts = [(days, "d"), (hours_left, "h"), (minutes_left, "min"), (seconds_left, "s")]
    first = next(number for number, (amount, _) in enumerate(parts) if amount)
    return sign + " ".join(f"{amount} {unit}" for amount, unit in parts[first : first + 2] if amount)


def waiting_for(detail: Detail) -> list[str]:
    """Return one sentence for each wait of the run, an operator's tasks first; [] when it has ended."""
    if detail.ended_ms:
        return []
    sentences = []
    if detail.paused_ms:
        sentences.append(f"an operator to resume it: paused since {moment(detail.paused_ms)}")
    sentences += [_failed(effect) for effect in detail.ledger if effect.state == FAILED]
    counts = {(children.step, children.trigger): children for children in detail.children}
    undone = {children.step: children for children in detail.children}
    for effect in detail.ledger:
        if effect.state == REQUESTED:
            sentences.append(_requested(effect) + _children_undone(undone.get(effect.step)))
    for step in detail.expected:
        sentences.append(_expected(step) + _children_ended(counts.get((step.step, step.trigger))))
    sentences += [_awaited(wait) for wait in detail.waits]
    return sentences or ["the tracker to read its own decision from the log"]


def _awaited(wait: AwaitedEvent) -> str:
    if is_timer(wait.name):
        return f"{wait.name}, due at {moment(wait.due_ms)}"
    text = f"{wait.until} from outside"
    text += f", until {moment(wait.due_ms)}" if wait.due_ms else ", unless the run ends before"
    text += f"; reminder {wait.reminded + 1} at {moment(wait.reminder_ms)}" if wait.reminder_ms else ""
    return text + (f"; escalation at {moment(wait.escalation_ms)}" if wait.escalation_ms else "")


def _failed(effect: Effect) -> str:
    return f"an operator to retry or resolve the undo of {effect.step}: {effect.cause}"


def _requested(effect: Effect) -> str:
    text = f"the undo of {effect.step}, round {effect.round}"
    if effect.retry_ms:
        return f"{text}, next attempt at {moment(effect.retry_ms)}"
    return f"{text}, until {moment(effect.due_ms)}" if effect.due_ms else text


def _expected(step: ExpectedStep) -> str:
    if step.held:
        return f"{step.step}, held while paused"
    if step.retry_ms:
        return f"{step.step}, attempt {step.attempt} failed, the next at {moment(step.retry_ms)}"
    return f"{step.step} since {moment(step.since_ms)}, until {moment(step.due_ms)}"


def _children_ended(children: ChildrenCount | None) -> str:
    if children is None:
        return ""
    text = f": {children.ended} of {children.total} children have ended, {children.started - children.ended} are open"
    return f"{text}, {children.failed} have failed" if children.failed else text


def _children_undone(children: ChildrenCount | None) -> str:
    return f": {children.undone} of {children.started} children are undone" if children else ""
