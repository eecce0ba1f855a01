"""One event that is folded into the state of one key: the working copy, and the decisions that follow.

Finds the run of an event and makes the decided facts. The meaning of an event stands in forward.py, compensation.py and
operator_actions.py.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from choreo.core import facts, ids, retired
from choreo.core.attribution import is_retired, run_of
from choreo.core.baggage import Carried, carried_of, fields_of, traced_by
from choreo.core.events import TRACKER_JSON, Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.identity import identified, is_foreign
from choreo.core.state import TRUNCATED, KeyState, LedgerEntry, PendingStep, Run

_ORPHANS_MAX = 100
TRACKER = "choreo/tracker"
"""Source of the tracker's events."""


class Fold:
    """The state after `record`, in the making. `state` is a copy; the run is copied when it first changes."""

    __slots__ = ("decisions", "event", "foreign", "headers", "now_ms", "offset", "raw_id", "record", "state", "table")

    def __init__(self, table: FlowTable, state: KeyState, record: Record) -> None:
        """Move the position and the fold's time; both move with every event, also one that changes nothing else."""
        self.table: FlowTable = table
        self.record: Record = record
        self.offset: int = record.offset
        self.now_ms: int = max(state.now_ms, record.stamp_ms)
        self.state: KeyState = KeyState(
            record.offset, self.now_ms, state.runs.copy(), state.orphans, state.forgot, state.retired
        )
        event = record.event
        self.foreign: bool = is_foreign(event)
        self.event: Envelope = identified(record) if self.foreign or not event.id else event
        self.raw_id: str = "" if self.event is event else event.id
        self.headers: Carried | None = carried_of(event)
        self.decisions: list[Envelope] = []

    def touch(self, run: Run) -> Run:
        """Return a copy of the run that may be changed, in the place of the old one."""
        copy: Run = replace(run, changed=self.offset, changed_ms=self.now_ms)
        runs = self.state.runs
        for index, known in enumerate(runs):
            if known is run:
                runs[index] = copy
        return copy

    def find_run(self) -> Run | None:
        """Return the run of the event; None makes the event an orphan, unless its run is retired."""
        event, state = self.event, self.state
        run = run_of(event, state.runs, state.retired)
        if run is None and event.run:
            if is_retired(event, state.retired):
                return None
            run = self._truncated(event.run)
        if run is None and (event.run or not is_retired(event, state.retired)):
            self.orphan()
        return run

    def _truncated(self, run_id: str) -> Run | None:
        """Return a run whose start is missing from the log while later events are there.

        It is listed, and stays as it is.
        """
        if self.state.forgot or not self._follows_a_start():
            return None
        run = Run(run_id, -1, self.now_ms, status=TRUNCATED, cause="its start is not in the log")
        run.ended_ms, run.closed, run.changed, run.changed_ms = self.now_ms, True, self.offset, self.now_ms
        self.state.runs.append(run)
        return run

    def _follows_a_start(self) -> bool:
        """Return whether only a started run can have caused the event; outside producers and operators may err."""
        table, type_ = self.table, self.event.type
        if type_.startswith(facts.PREFIX):
            return type_ not in facts.PUBLISHED_BY_OPERATORS
        return type_ in table.successes or type_ in table.failures or type_ in table.compensations

    def orphan(self) -> None:
        """Keep the event's offset: the event belongs to no known run."""
        self.state.orphans = [*self.state.orphans, self.offset][-_ORPHANS_MAX:]

    def forget_lingered(self) -> None:
        """Drop runs whose linger time is over, once all their decisions are in the log."""
        state = self.state
        limit_ms = self.now_ms - self.table.flow.linger_ms
        if state.retired and state.retired[0].until_ms < limit_ms:
            state.retired, state.forgot = retired.remaining(state.retired, limit_ms), True
        for run in state.runs:
            if run.ended_ms and run.ended_ms < limit_ms and not run.outbox:
                break
        else:
            return
        state.runs = [run for run in state.runs if not run.ended_ms or run.ended_ms >= limit_ms or run.outbox]
        state.forgot = True

    def knows_run(self, run: str) -> bool:
        """Return whether a run with this id has started within the linger time."""
        state = self.state
        if state.run(run) is not None:
            return True
        return bool(state.retired) and retired.knows(state.retired, retired.run_token(run))

    def retire(self) -> None:
        """Replace the oldest runs that nothing can change any more by their tokens."""
        state = self.state
        if len(state.runs) <= retired.KEPT_MAX:
            return
        over = [run for run in state.runs if run.over]
        ended = {run.id: run for run in over[: max(0, len(over) - retired.KEPT_MAX)]}
        for run in ended.values():
            state.retired = retired.added(state.retired, run.id, run.ended_ms, run.recent)
        if ended:
            state.runs = [run for run in state.runs if run.id not in ended]

    def clock_ms(self, run: Run) -> int:
        """Return the time from which a duration of this run counts: the time of a paused run stands still."""
        return run.paused_ms or self.now_ms

    def carried(self, run: Run) -> Carried | None:
        """Return the run's headers, with the trace of the folded event if that has one."""
        return traced_by(run.carried or self.headers, self.headers)

    def emit(self, run: Run, type_: str, id_: str, reason: str, *, causation: str = "", **fields: Any) -> None:
        """Decide a fact: it stays in the run's outbox until it is read from the log. Its cause is the folded event.

        It carries the run's headers.
        """
        carried = self.carried(run)
        if carried is not None:
            fields = fields_of(carried) | fields
        fact = Envelope(
            id=id_,
            type=type_,
            key=self.event.key,
            flow=self.table.flow.name,
            run=run.id,
            causation=causation or self.event.id,
            version=run.version,
            build=run.build,
            reason=reason[:REASON_CHARS_MAX],
            source=TRACKER,
            time_ms=self.now_ms,
            **fields,
        )
        run.outbox = [*run.outbox, fact]
        self.decisions.append(fact)


REASON_CHARS_MAX = 2_000
"""Longest reason in a fact, which may quote one of a person or a program: every fact fits into the log."""


def wake(run: Run, item: PendingStep | LedgerEntry) -> dict[str, Any]:
    """Return the fields of a StepRetryDue: all that a host needs if it knows nothing of the first attempt."""
    fields: dict[str, Any] = {
        "id": ids.answer("retry-due", item.answers, item.step),
        "step": item.step,
        "trigger": item.trigger,
        "attempt": item.attempt,
        "deadline_ms": item.due_ms,
        "n": run.pause_n,
        **fields_of(item.carried or (run.carried if isinstance(item, LedgerEntry) else None)),
    }
    if isinstance(item, LedgerEntry):
        about = {"entry": item.id, "round": item.round, "nothings": item.asked_n, "outcome": item.asked_outcome}
        return fields | about
    return fields | {"outcome": item.offset, "hops": item.hops}


def domain_payload(table: FlowTable, type_: str, key: str, reason: str, n: int = 0) -> dict[str, Any]:
    """Return the content of a domain event of the tracker: the key, and a reason and a number if the class has them."""
    known = table.flow.events.get(type_, ("reason",))
    values: dict[str, str | int] = {table.flow.key: key}
    if "reason" in known:
        values["reason"] = reason[:REASON_CHARS_MAX]
    if n and "n" in known:
        values["n"] = n
    return {"content_type": TRACKER_JSON, "data": msgspec.json.encode(values)}
