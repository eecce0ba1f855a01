"""What a clock makes true: the timer facts of a state. Pure; `due` changes nothing, what is due stays due until read back."""

from __future__ import annotations

from collections.abc import Iterator

from choreo.core import facts, ids
from choreo.core.definition import FlowTable
from choreo.core.events import Envelope
from choreo.core.fold import domain_payload
from choreo.core.state import REQUESTED, Entry, Expected, KeyState, OpenWait, Run


def due(table: FlowTable, key: str, state: KeyState, now_ms: int) -> list[Envelope]:
    """The timer facts that are due at `now_ms`, each with a derived id and its due time; [] if none."""
    return [
        _fact(table, key, run, item, due_ms, retry=retry)
        for run in state.runs
        for due_ms, item, retry in _timers(run)
        if due_ms <= now_ms
    ]


def next_due(state: KeyState) -> int:
    """The earliest moment at which something is due, in epoch milliseconds; 0 if nothing is awaited."""
    return min((due_ms for run in state.runs for due_ms, _, _ in _timers(run)), default=0)


def _timers(run: Run) -> Iterator[tuple[int, Run | Expected | OpenWait | Entry, bool]]:
    """Every timer of the run: when, what it is about, whether it is a retry. None run while it is paused or completing."""
    if run.ended_ms or run.paused_ms or run.completing:
        return
    if run.due_ms and not run.turned:
        yield run.due_ms, run, False
    for expected in run.expected:
        yield expected.due_ms, expected, False
        if expected.retry_ms:
            yield expected.retry_ms, expected, True
    for wait in run.waits:
        yield wait.due_ms, wait, False
    for entry in run.ledger:
        if entry.state == REQUESTED and entry.due_ms:
            yield entry.due_ms, entry, False
            if entry.retry_ms:
                yield entry.retry_ms, entry, True


def _fact(
    table: FlowTable, key: str, run: Run, item: Run | Expected | OpenWait | Entry, due_ms: int, *, retry: bool
) -> Envelope:
    common = {
        "key": key,
        "flow": table.flow.name,
        "run": run.id,
        "version": run.version,
        "due_ms": due_ms,
        "source": "choreo/tracker",
        "time_ms": due_ms,
    }
    if isinstance(item, Run):
        about = {"type": facts.FLOW_DEADLINE_PASSED, "id": ids.timer("flow", run.id, due_ms)}
    elif isinstance(item, OpenWait):
        wait = next(w for w in table.flow.waits if w.name == item.name)
        reason = f"{item.until} did not come in time"
        about = {
            "type": wait.fails,
            "id": ids.timer("wait", f"{item.trigger}/{item.name}", due_ms),
            "step": item.name,
            "trigger": item.trigger,
            "reason": reason,
            **domain_payload(table, wait.fails, key, reason),
        }
    elif retry:
        about = {
            "type": facts.STEP_RETRY_DUE,
            "id": ids.answer("retry-due", item.answers, item.step),
            "step": item.step,
            "trigger": item.trigger,
            "reason": "the wait for the next attempt is over",
            **({"entry": item.id, "round": item.round} if isinstance(item, Entry) else {"attempt": item.attempt}),
        }
    elif isinstance(item, Entry):
        about = {
            "type": facts.UNDO_DEADLINE_PASSED,
            "id": ids.timer("undo", f"{item.id}/{item.round}", due_ms),
            "step": item.step,
            "trigger": item.trigger,
            "entry": item.id,
            "round": item.round,
        }
    else:
        about = {
            "type": facts.STEP_DEADLINE_PASSED,
            "id": ids.timer("step", f"{item.trigger}/{item.step}", due_ms),
            "step": item.step,
            "trigger": item.trigger,
        }
    return Envelope(**common, **about)
