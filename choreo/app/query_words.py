"""What a run waits for, in sentences: the answer to the one question everybody asks. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from choreo.app.views import Detail, Effect, ExpectedStep
from choreo.core.events import EARLIEST_MS, LATEST_MS
from choreo.core.state import FAILED, REQUESTED


def moment(time_ms: int) -> str:
    """Epoch milliseconds as RFC 3339 in UTC; beyond the years 1 to 9999 the nearest moment that can be written."""
    return (
        datetime.fromtimestamp(min(max(time_ms, EARLIEST_MS), LATEST_MS) / 1_000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def waiting_for(detail: Detail) -> list[str]:
    """One sentence for each thing the run waits for, what a person must do first; [] when it has ended."""
    if detail.ended_ms:
        return []
    sentences = []
    if detail.paused_ms:
        sentences.append(f"an operator to resume it: paused since {moment(detail.paused_ms)}")
    sentences += [_failed(effect) for effect in detail.ledger if effect.state == FAILED]
    sentences += [_requested(effect) for effect in detail.ledger if effect.state == REQUESTED]
    sentences += [_expected(step) for step in detail.expected]
    sentences += [f"{wait.until} from outside, until {moment(wait.due_ms)}" for wait in detail.waits]
    return sentences or ["the tracker to read back what it has decided"]


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
