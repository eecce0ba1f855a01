"""One event being folded into one key's state: the working copy, and the decisions it leads to.

Knows how to find the run an event belongs to and how to say a decision. What an event means stands in forward.py,
backward.py and operator.py.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from choreo.core import facts, ids
from choreo.core.definition import FlowTable
from choreo.core.events import Envelope, Record
from choreo.core.state import TRUNCATED, Entry, Expected, KeyState, Run

_ORPHANS_MAX = 100


class Fold:
    """The state after `record`, while it is being made. `state` is a copy; the run touched is copied on first use."""

    __slots__ = ("decisions", "event", "now_ms", "offset", "state", "table")

    def __init__(self, table: FlowTable, state: KeyState, record: Record) -> None:
        """Move the position and the fold's time; both move with every event, also one that changes nothing."""
        self.table = table
        self.offset = record.offset
        self.now_ms = max(state.now_ms, record.stamp_ms)
        self.state = KeyState(
            record.offset, self.now_ms, state.runs.copy(), state.orphans, state.attributed, state.forgot
        )
        self.event = identified(record)
        self.decisions: list[Envelope] = []

    def touch(self, run: Run) -> Run:
        """A copy of the run that may be changed, in the place of the old one."""
        copy: Run = replace(run, changed=self.offset, changed_ms=self.now_ms)
        runs = self.state.runs
        for index, known in enumerate(runs):
            if known is run:
                runs[index] = copy
        return copy

    def find_run(self) -> Run | None:
        """The run the event belongs to; None makes it an orphan (kept by its offset)."""
        event, state = self.event, self.state
        wanted = event.run or state.attributed.get(event.id, "")
        if wanted:
            run = state.run(wanted) or self._truncated(wanted)
        else:
            run = state.oldest_open
            if run is not None:
                state.attributed = {**state.attributed, event.id: run.id}
        if run is None:
            self.orphan()
        return run

    def _truncated(self, run_id: str) -> Run | None:
        """A run of which the log still holds what followed its start, but not the start: listed, and left alone."""
        if self.state.forgot or not self._follows_a_start():
            return None
        run = Run(run_id, -1, self.now_ms, status=TRUNCATED, cause="its start is not in the log")
        run.ended_ms, run.closed, run.changed, run.changed_ms = self.now_ms, True, self.offset, self.now_ms
        self.state.runs.append(run)
        return run

    def _follows_a_start(self) -> bool:
        """Whether only a run that was started can have brought the event about; the world and operators may err."""
        table, type_ = self.table, self.event.type
        if type_.startswith(facts.PREFIX):
            return type_ not in facts.SAID_BY_OPERATORS
        return type_ in table.successes or type_ in table.failures or type_ in table.undos

    def orphan(self) -> None:
        """Keep the event's offset: it belongs to nothing that is known."""
        self.state.orphans = [*self.state.orphans, self.offset][-_ORPHANS_MAX:]

    def forget_lingered(self) -> None:
        """Drop runs that ended longer ago than the flow lets them linger, once all they decided is in the log."""
        state = self.state
        limit_ms = self.now_ms - self.table.flow.linger_ms
        for run in state.runs:
            if run.ended_ms and run.ended_ms < limit_ms and not run.outbox:
                break
        else:
            return
        state.runs = [run for run in state.runs if not run.ended_ms or run.ended_ms >= limit_ms or run.outbox]
        state.forgot = True
        state.attributed = {id_: run_id for id_, run_id in state.attributed.items() if state.run(run_id)}

    def clock_ms(self, run: Run) -> int:
        """The moment a duration of this run counts from: the time of a paused run stands still."""
        return run.paused_ms or self.now_ms

    def say(self, run: Run, type_: str, id_: str, reason: str, **fields: Any) -> None:
        """Decide a fact: it stays in the run's outbox until it is read back from the log."""
        fact = Envelope(
            id=id_,
            type=type_,
            key=self.event.key,
            flow=self.table.flow.name,
            run=run.id,
            causation=self.event.id,
            version=run.version,
            reason=reason,
            source="choreo/tracker",
            time_ms=self.now_ms,
            traceparent=self.event.traceparent,
            **fields,
        )
        run.outbox = [*run.outbox, fact]
        self.decisions.append(fact)


def identified(record: Record) -> Envelope:
    """The record's event; one without an id is known by its first position."""
    event = record.event
    if event.id:
        return event
    return replace(event, id=ids.foreign(record.topic, record.partition, record.offset))


def wake(item: Expected | Entry) -> dict[str, Any]:
    """What a StepRetryDue tells the host, so that one which knows nothing of the first attempt can make the next."""
    fields: dict[str, Any] = {
        "id": ids.answer("retry-due", item.answers, item.step),
        "step": item.step,
        "trigger": item.trigger,
        "attempt": item.attempt,
        "deadline_ms": item.due_ms,
    }
    if isinstance(item, Entry):
        return fields | {"entry": item.id, "round": item.round, "n": item.nothings, "outcome": item.given}
    return fields | {"outcome": item.offset, "hops": item.hops}


def domain_payload(table: FlowTable, type_: str, key: str, reason: str) -> dict[str, Any]:
    """Content of a domain event that the tracker says itself: the key, and a reason where the class has one."""
    values = {table.flow.key: key}
    if "reason" in table.flow.events.get(type_, ("reason",)):
        values["reason"] = reason
    return {"content_type": "application/json", "data": msgspec.json.encode(values)}
