"""One event being folded into one key's state: the working copy, and the decisions it leads to.

Knows how to find the run an event belongs to and how to say a decision. What an event means stands in forward.py,
backward.py and operator.py.
"""

from __future__ import annotations

from typing import Any

import msgspec

from choreo.core import ids
from choreo.core.definition import FlowTable
from choreo.core.events import Envelope, Record
from choreo.core.state import TRUNCATED, KeyState, Run

_ORPHANS_MAX = 100


class Fold:
    """The state after `record`, while it is being made. `state` is a copy; the run touched is copied on first use."""

    __slots__ = ("decisions", "event", "now_ms", "offset", "state", "table")

    def __init__(self, table: FlowTable, state: KeyState, record: Record) -> None:
        """Move the position and the fold's time; both move with every event, also one that changes nothing."""
        self.table = table
        self.offset = record.offset
        self.now_ms = max(state.now_ms, record.stamp_ms)
        self.state = KeyState(record.offset, self.now_ms, state.runs.copy(), state.orphans)
        self.event = identified(record)
        self.decisions: list[Envelope] = []

    def touch(self, run: Run) -> Run:
        """A copy of the run that may be changed, in the place of the old one."""
        copy = run.copied()
        copy.changed, copy.changed_ms = self.offset, self.now_ms
        runs = self.state.runs
        for index, known in enumerate(runs):
            if known is run:
                runs[index] = copy
        return copy

    def find_run(self) -> Run | None:
        """The run the event belongs to; None makes it an orphan (kept by its offset)."""
        wanted = self.event.run
        if not wanted:
            run = self.state.oldest_open
        else:
            run = self.state.run(wanted)
            if run is None:
                run = Run(
                    wanted, -1, self.now_ms, status=TRUNCATED, cause="its start is not in the log", ended_ms=self.now_ms
                )
                self.state.runs.append(run)
        if run is None:
            self.orphan()
        return run

    def orphan(self) -> None:
        """Keep the event's offset: it belongs to nothing that is known."""
        self.state.orphans = [*self.state.orphans, self.offset][-_ORPHANS_MAX:]

    def forget_lingered(self) -> None:
        """Drop runs that ended longer ago than the flow lets them linger."""
        limit = self.now_ms - self.table.flow.linger_ms
        runs = self.state.runs
        if any(run.ended_ms and run.ended_ms < limit and not run.outbox for run in runs):
            self.state.runs = [run for run in runs if not run.ended_ms or run.ended_ms >= limit or run.outbox]

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
            **fields,
        )
        run.outbox.append(fact)
        self.decisions.append(fact)


def identified(record: Record) -> Envelope:
    """The record's event; one without an id is known by its first position."""
    event = record.event
    if event.id:
        return event
    return msgspec.structs.replace(event, id=ids.foreign(record.topic, record.partition, record.offset))


def domain_payload(table: FlowTable, type_: str, key: str, reason: str) -> dict[str, Any]:
    """Content of a domain event that the tracker says itself: the key, and a reason where the class has one."""
    values = {table.flow.key: key}
    if "reason" in table.flow.events.get(type_, ("reason",)):
        values["reason"] = reason
    return {"content_type": "application/json", "data": msgspec.json.encode(values)}
