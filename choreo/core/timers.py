"""The timer facts of a state, which become true by time alone.

Pure, and changes nothing: a fact stays due until it is read from the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any, TypeAlias

from choreo.core import facts, ids
from choreo.core.baggage import fields_of
from choreo.core.definition import is_timer
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.core.fold import TRACKER, domain_payload, wake
from choreo.core.state import KeyState, LedgerEntry, OpenWait, PendingStep, Run

Item: TypeAlias = Run | PendingStep | OpenWait | LedgerEntry


def due(table: FlowTable, key: str, state: KeyState, now_ms: int) -> list[Envelope]:
    """Return the timer facts that are due at `now_ms`, each with a derived id and its due time; [] if none.

    A run of a version that is not frozen here stays as it is: its facts are due once it is.
    """
    found: list[Envelope] = []
    whole = table
    for run in filter(_ticks, state.runs):
        if not whole.knows(run.version):
            continue
        table = whole.of(run.version)
        moments = [(due_ms, _end_of(table, key, item, due_ms)) for due_ms, item in _ends(run) if due_ms <= now_ms]
        moments += [(due_ms, _retry(run, item)) for due_ms, item in _retries(run) if due_ms <= now_ms]
        moments += [said for wait in run.waits if _asks(wait) for said in _said(table, key, wait, now_ms)]
        for due_ms, about in sorted(moments, key=itemgetter(0)):
            of_run: dict[str, Any] = {"key": key, "flow": table.flow.name, "run": run.id}
            of_run |= {"version": run.version, "build": run.build}
            when = {"due_ms": due_ms, "pauses": run.pause_n, "source": TRACKER, "time_ms": due_ms}
            found.append(Envelope(**(of_run | when | fields_of(run.carried) | about)))
    return found


def next_due(state: KeyState) -> int:
    """Return the earliest time at which something is due, in epoch milliseconds; 0 if nothing is awaited."""
    return min(filter(None, map(next_due_of, state.runs)), default=0)


def next_due_of(run: Run) -> int:
    """Return the earliest time at which a timer of the run is due, in epoch milliseconds; 0 if it has none."""
    if not _ticks(run):
        return 0
    moments = [due_ms for due_ms, _ in _ends(run)] + [due_ms for due_ms, _ in _retries(run)]
    for wait in run.waits:
        if _asks(wait):
            moments += wait.reminder_ms, wait.escalation_ms
    return min(filter(None, moments), default=0)


def _ticks(run: Run) -> bool:
    """Return whether the run's timers run: not while it is paused, once it has ended or decided to complete."""
    return not (run.ended_ms or run.paused_ms or run.completing)


def _ends(run: Run) -> list[tuple[int, Item]]:
    """Return the end of the time of each open item."""
    moments: list[tuple[int, Item]] = [(run.due_ms, run)] if run.due_ms and not run.compensating else []
    moments += [(item.due_ms, item) for item in run.expected]
    if run.waits:
        moments += [(wait.due_ms, wait) for wait in run.waits if wait.due_ms]
    if run.ledger:
        moments += [(entry.due_ms, entry) for entry in run.ledger if entry.due_ms]
    return moments


def _retries(run: Run) -> list[tuple[int, PendingStep | LedgerEntry]]:
    """Return the time of the next attempt of each step or compensation."""
    return [(item.retry_ms, item) for items in (run.expected, run.ledger) for item in items if item.retry_ms]


def _retry(run: Run, item: PendingStep | LedgerEntry) -> dict[str, Any]:
    """Return the fields of the fact that the next attempt may begin."""
    return {"type": facts.STEP_RETRY_DUE, "reason": "the wait for the next attempt is over", **wake(run, item)}


def _end_of(table: FlowTable, key: str, item: Item, due_ms: int) -> dict[str, Any]:
    """Return the fields of the fact that the item's time has passed."""
    if isinstance(item, Run):
        return {"type": facts.FLOW_DEADLINE_PASSED, "id": ids.timer("flow", item.id, due_ms)}
    if isinstance(item, OpenWait):
        return _end_of_wait(table, key, item)
    about = {"step": item.step, "trigger": item.trigger}
    if isinstance(item, PendingStep):
        return {
            "type": facts.STEP_DEADLINE_PASSED,
            "id": ids.timer("step", f"{item.trigger}/{item.step}", due_ms),
            **about,
        }
    return {
        "type": facts.COMPENSATION_DEADLINE_PASSED,
        "id": ids.timer("undo", f"{item.id}/{item.round}", due_ms),
        "entry": item.id,
        "round": item.round,
        **about,
    }


def _asks(wait: OpenWait) -> bool:
    """Return whether a reminder or an escalation of the wait is still to come."""
    return bool(wait.reminder_ms or wait.escalation_ms) and not wait.closing


def _said(table: FlowTable, key: str, item: OpenWait, now_ms: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the reminders and the escalation that are due, also several at once after the tracker was away."""
    wait = table.waits.get(item.name)
    if wait is None:
        return
    due_ms, n = item.reminder_ms, item.reminded + 1
    while wait.remind and due_ms and due_ms <= now_ms and n <= wait.reminds_max:
        yield due_ms, _reminder(table, key, item, wait.remind, due_ms, n)
        due_ms, n = due_ms + wait.remind_ms, n + 1
    if wait.escalate and item.escalation_ms and item.escalation_ms <= now_ms:
        yield item.escalation_ms, _reminder(table, key, item, wait.escalate, item.escalation_ms, 1)


def _reminder(table: FlowTable, key: str, item: OpenWait, type_: str, due_ms: int, n: int) -> dict[str, Any]:
    reason = f"{item.until} has not come yet"
    return {
        "type": type_,
        "id": ids.timer("said", f"{item.trigger}/{item.name}/{type_}", due_ms),
        "step": item.name,
        "trigger": item.trigger,
        "reason": reason,
        "hops": item.hops + 1,
        "n": n,
        **domain_payload(table, type_, key, reason, n),
    }


def _end_of_wait(table: FlowTable, key: str, item: OpenWait) -> dict[str, Any]:
    """Return the fields of the wait's `fails` event; a deadline's if the wait is not declared any more."""
    wait = table.waits.get(item.name)
    late = wait.late if wait is not None else ""
    reason = "its time is over" if is_timer(item.name) else f"{item.until} did not come in time"
    return {
        "type": late or facts.STEP_DEADLINE_PASSED,
        "id": ids.timer("wait", f"{item.trigger}/{item.name}", item.due_ms),
        "step": item.name,
        "trigger": item.trigger,
        "reason": reason,
        "hops": item.hops + 1 if late else 0,
        **(domain_payload(table, late, key, reason) if late else {}),
    }
