"""What a clock makes true: the timer facts of a state.

Pure, and changes nothing: what is due stays due until its fact is read back from the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any, TypeAlias

from msgspec.structs import replace

from choreo.core import facts, ids
from choreo.core.definition import FlowTable
from choreo.core.events import Envelope
from choreo.core.fold import domain_payload, wake
from choreo.core.state import Entry, Expected, KeyState, OpenWait, Run

Item: TypeAlias = Run | Expected | OpenWait | Entry


def due(table: FlowTable, key: str, state: KeyState, now_ms: int) -> list[Envelope]:
    """The timer facts that are due at `now_ms`, each with a derived id and its due time; [] if none."""
    found: list[Envelope] = []
    for run in _ticking(state):
        moments = [(due_ms, _end_of(table, key, item, due_ms)) for due_ms, item in _ends(run) if due_ms <= now_ms]
        moments += [(due_ms, _retry(run, item)) for due_ms, item in _retries(run) if due_ms <= now_ms]
        for due_ms, about in sorted(moments, key=itemgetter(0)):
            fact = Envelope(key=key, flow=table.flow.name, run=run.id, version=run.version, due_ms=due_ms, **about)
            found.append(replace(fact, source="choreo/tracker", time_ms=due_ms))
    return found


def next_due(state: KeyState) -> int:
    """The earliest moment at which something is due, in epoch milliseconds; 0 if nothing is awaited."""
    moments = [due_ms for run in _ticking(state) for due_ms, _ in (*_ends(run), *_retries(run))]
    return min(moments, default=0)


def _ticking(state: KeyState) -> list[Run]:
    """The runs whose timers run: none of one that is paused, has ended or decided to complete."""
    return [run for run in state.runs if not (run.ended_ms or run.paused_ms or run.completing)]


def _ends(run: Run) -> Iterator[tuple[int, Item]]:
    """When the time given to what is open is over."""
    if run.due_ms and not run.turned:
        yield run.due_ms, run
    for expected in run.expected:
        yield expected.due_ms, expected
    for wait in run.waits:
        yield wait.due_ms, wait
    for entry in run.ledger:
        if entry.due_ms:
            yield entry.due_ms, entry


def _retries(run: Run) -> Iterator[tuple[int, Expected | Entry]]:
    """When a step or an undo is to be tried again."""
    for expected in run.expected:
        if expected.retry_ms:
            yield expected.retry_ms, expected
    for entry in run.ledger:
        if entry.retry_ms:
            yield entry.retry_ms, entry


def _retry(run: Run, item: Expected | Entry) -> dict[str, Any]:
    """The next attempt may be made."""
    return {"type": facts.STEP_RETRY_DUE, "reason": "the wait for the next attempt is over", **wake(run, item)}


def _end_of(table: FlowTable, key: str, item: Item, due_ms: int) -> dict[str, Any]:
    """The time that was given has passed."""
    if isinstance(item, Run):
        return {"type": facts.FLOW_DEADLINE_PASSED, "id": ids.timer("flow", item.id, due_ms)}
    if isinstance(item, OpenWait):
        return _end_of_wait(table, key, item)
    about = {"step": item.step, "trigger": item.trigger}
    if isinstance(item, Expected):
        return {
            "type": facts.STEP_DEADLINE_PASSED,
            "id": ids.timer("step", f"{item.trigger}/{item.step}", due_ms),
            **about,
        }
    return {
        "type": facts.UNDO_DEADLINE_PASSED,
        "id": ids.timer("undo", f"{item.id}/{item.round}", due_ms),
        "entry": item.id,
        "round": item.round,
        **about,
    }


def _end_of_wait(table: FlowTable, key: str, item: OpenWait) -> dict[str, Any]:
    """The wait's own `fails` event; of a wait that is declared no longer, a deadline."""
    fails = next((wait.fails for wait in table.flow.waits if wait.name == item.name), "")
    reason = f"{item.until} did not come in time"
    return {
        "type": fails or facts.STEP_DEADLINE_PASSED,
        "id": ids.timer("wait", f"{item.trigger}/{item.name}", item.due_ms),
        "step": item.name,
        "trigger": item.trigger,
        "reason": reason,
        **(domain_payload(table, fails, key, reason) if fails else {}),
    }
