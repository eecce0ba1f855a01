"""One event being folded into one key's state: the working copy, and the decisions it leads to.

Knows how to find the run an event belongs to and how to say a decision. What an event means stands in forward.py,
backward.py and operator.py.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from choreo.core import facts, ids, recent
from choreo.core.definition import FlowTable
from choreo.core.events import TRACKER_JSON, Envelope, Record
from choreo.core.state import TRUNCATED, Entry, Expected, KeyState, Run

_ORPHANS_MAX = 100


class Fold:
    """The state after `record`, while it is being made. `state` is a copy; the run touched is copied on first use."""

    __slots__ = ("decisions", "event", "foreign", "now_ms", "offset", "raw_id", "state", "table")

    def __init__(self, table: FlowTable, state: KeyState, record: Record) -> None:
        """Move the position and the fold's time; both move with every event, also one that changes nothing."""
        self.table: FlowTable = table
        self.offset: int = record.offset
        self.now_ms: int = max(state.now_ms, record.stamp_ms)
        self.state: KeyState = KeyState(record.offset, self.now_ms, state.runs.copy(), state.orphans, state.forgot)
        self.event: Envelope = identified(record)
        self.foreign: bool = is_foreign(self.event)
        self.raw_id: str = record.event.id if record.event.id != self.event.id else ""
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
        if event.run:
            run = state.run(event.run) or self._truncated(event.run)
        else:
            run = self._first_given_to() or state.oldest_open
        if run is None:
            self.orphan()
        return run

    def _first_given_to(self) -> Run | None:
        """Return the run that read this event, which names none, before."""
        known = [run for run in self.state.runs if run.recent]
        if not known:
            return None
        token = recent.token(self.event.type, self.event.id)
        return next((run for run in known if recent.knows(run.recent, token)), None)

    def is_duplicate(self, run: Run) -> bool:
        """Return whether the run has read this event before; remember one that nothing else would recognise.

        An event that names what caused it is recognised by what it changed. So are choreo's own facts about runs.
        """
        event = self.event
        about_run = event.type.startswith(facts.PREFIX) and not event.step
        if event.run and (event.causation or event.trigger or event.entry or event.due_ms or about_run):
            return False
        if event.run and event.type in self.table.satisfies:
            return False  # the gates keep a memory of these
        token = recent.token(event.type, event.id)
        if recent.knows(run.recent, token):
            return True
        run.recent = recent.with_new(run.recent, token)
        return False

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


OWN_SOURCES = "choreo/"
"""The source of what choreo writes begins with this. Events without a source are its own too."""


def is_foreign(event: Envelope) -> bool:
    """Return whether a producer that is no part of choreo made the event."""
    return bool(event.source) and not event.source.startswith(OWN_SOURCES)


def identified(record: Record) -> Envelope:
    """Return the record's event with the id by which it is known; one without an id is known by its first position.

    A foreign id counts only within its source and key (CloudEvents 1.0, `id`), so an id is derived from all three. The
    run that a foreign producer names is one that it started, unless choreo has made its id.
    """
    event = record.event
    if not event.id:
        return replace(event, id=ids.foreign(record.topic, record.partition, record.offset), run=_known_run(event))
    if not is_foreign(event) or ids.is_of_source(event.id):
        return event
    return replace(event, id=ids.of_source(event.source, event.id, event.key), run=_known_run(event))


def _known_run(event: Envelope) -> str:
    run = event.run
    if not run or not is_foreign(event) or ids.is_derived(run):
        return run
    return ids.of_source(event.source, run, event.key)


def wake(run: Run, item: Expected | Entry) -> dict[str, Any]:
    """Return the fields of a StepRetryDue: all that a host needs which knows nothing of the first attempt."""
    fields: dict[str, Any] = {
        "id": ids.answer("retry-due", item.answers, item.step),
        "step": item.step,
        "trigger": item.trigger,
        "attempt": item.attempt,
        "deadline_ms": item.due_ms,
        "n": run.pause_n,
    }
    if isinstance(item, Entry):
        about = {"entry": item.id, "round": item.round, "nothings": item.asked_n, "outcome": item.given}
        return fields | about
    return fields | {"outcome": item.offset, "hops": item.hops}


def domain_payload(table: FlowTable, type_: str, key: str, reason: str) -> dict[str, Any]:
    """Content of a domain event that the tracker says itself: the key, and a reason where the class has one."""
    values = {table.flow.key: key}
    if "reason" in table.flow.events.get(type_, ("reason",)):
        values["reason"] = reason
    return {"content_type": TRACKER_JSON, "data": msgspec.json.encode(values)}
