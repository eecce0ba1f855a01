"""Published outcomes: the outcomes that stand in a partition after the committed offset when a host is assigned it.

The log is the first inbox. Reads headers only. A job whose outcome stands there is done; one that was deferred after
its record waits until the tracker asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from choreo.app.steps.handlers import Handlers
from choreo.app.steps.jobs import Job
from choreo.core import facts
from choreo.core.attribution import answers, step_of, trigger_names
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.identity import identified

_DEFERRALS = frozenset({facts.STEP_ATTEMPT_FAILED, facts.STEP_HELD})
_Key = tuple[str, str]


class _Outcome(NamedTuple):
    """An outcome in the log: its id, and the names that it has for its trigger."""

    id: str
    names: tuple[str, ...]


class PublishedOutcomes:
    """The outcomes of a service's steps in one partition, from the committed offset on."""

    def __init__(self, handlers: Handlers, table: FlowTable) -> None:
        """Start empty; `handlers` names the event types that are outcomes."""
        self._handlers = handlers
        self._table = table
        self._outcomes: dict[tuple[str, str, str], list[_Outcome]] = {}
        """By key, step and a name of the trigger."""
        self._deferred: dict[_Key, int] = {}

    def read(self, records: Iterable[Record]) -> None:
        """Remember the outcomes and deferrals among these records."""
        for record in records:
            event = record.event
            if event.type in self._handlers.outcome_types:
                step = step_of(self._table.nearest(event.version), event)
                if step in self._handlers.names:
                    names = trigger_names(event)
                    for name in names:
                        outcome = _Outcome(identified(record).id, names)
                        self._outcomes.setdefault((event.key, step, name), []).append(outcome)
            elif event.type in _DEFERRALS and event.step in self._handlers.names:
                about = event.entry or event.trigger
                self._deferred[about, event.step] = record.offset

    def outcome_of(self, job: Job) -> set[str] | None:
        """Return the ids of the outcome that stands in the log; None if there is none."""
        trigger, raw = job.event.id, job.record.event.id
        known = self._outcomes.get((job.event.key, job.spec.step, trigger), [])
        if raw and raw != trigger:
            known = known + self._outcomes.get((job.event.key, job.spec.step, raw), [])
        found = {outcome.id for outcome in known if answers(outcome.names, trigger, raw)}
        return found if found and not job.redriven else None

    def deferred(self, job: Job) -> bool:
        """Return whether the job was deferred after the record that asked for it."""
        about = job.event.entry if job.spec.undo else job.event.id
        return job.source.offset < self._deferred.get((about, job.spec.step), -1)


def missing(recorded: Iterable[Envelope], published: set[str]) -> tuple[Envelope, ...]:
    """Return the events of a recorded outcome that do not stand in the log: a crash came between them."""
    return tuple(event for event in recorded if event.id not in published)
