"""What stands in a partition ahead of the committed position when a host takes it: the log is the first inbox.

Reads headers only. A job whose outcome stands there is done; one that was put off after its record waits for the
tracker's call.
"""

from __future__ import annotations

from collections.abc import Iterable

from choreo.app.duties import Duties
from choreo.app.jobs import Job
from choreo.core import facts, ids
from choreo.core.definition import FlowTable
from choreo.core.events import Envelope, Record
from choreo.core.fold import identified, is_foreign

_PUT_OFF = frozenset({facts.STEP_ATTEMPT_FAILED, facts.STEP_HELD})
_Key = tuple[str, str]


class Seen:
    """Outcomes of a service's steps that stand in the log from the committed position on, of one partition."""

    def __init__(self, duties: Duties, table: FlowTable) -> None:
        """Knows the types that say an outcome of these duties."""
        self._duties = duties
        self._table = table
        self._outcomes: dict[_Key, set[str]] = {}
        self._put_off: dict[_Key, int] = {}

    def read(self, records: Iterable[Record]) -> None:
        """Take note of what these records say of the service's steps."""
        for record in records:
            event = record.event
            if event.type in self._duties.outcome_types:
                step = event.step or self._only_emitter(event.type)
                if event.causation and step in self._duties.forward:
                    for trigger in _named(event):
                        self._outcomes.setdefault((trigger, step), set()).add(identified(record).id)
            elif event.type in _PUT_OFF and event.step in self._duties.forward:
                about = event.entry or event.trigger
                self._put_off[about, event.step] = record.offset

    def outcome_of(self, job: Job) -> set[str] | None:
        """Ids of the outcome that stands in the log; None if there is none."""
        return None if job.redriven else self._outcomes.get((job.event.id, job.duty.step))

    def put_off(self, job: Job) -> bool:
        """Whether the job was put off after the record that called for it."""
        about = job.event.entry if job.duty.undo else job.event.id
        return job.source.offset < self._put_off.get((about, job.duty.step), -1)

    def _only_emitter(self, type_: str) -> str:
        emitters = self._table.successes.get(type_, ()) + self._table.failures.get(type_, ())
        return emitters[0] if len(emitters) == 1 else ""


def _named(event: Envelope) -> Iterable[str]:
    """Return the ids by which the outcome's trigger may be known: a foreign producer names its own event's id."""
    own = ids.of_source(event.source, event.causation, event.key) if is_foreign(event) else ""
    return (event.causation, own) if own else (event.causation,)


def missing(recorded: Iterable[Envelope], seen: set[str]) -> tuple[Envelope, ...]:
    """Events of a recorded outcome that do not stand in the log: a crash came between them."""
    return tuple(event for event in recorded if event.id not in seen)
