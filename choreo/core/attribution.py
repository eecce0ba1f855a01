"""The owners of an event: its run, the step that made it, the trigger that it answers; one rule for every reader.

The fold, the step hosts, the read model's histories and the operator's actions ask here, each with the runs of the key
that it knows, in the order of their starts. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from choreo.core import ids, recent, retired
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.core.identity import is_foreign


class KnownRun(Protocol):
    """A run as a reader knows it."""

    @property
    def id(self) -> str:
        """Return the id of the run's start event."""
        ...

    @property
    def has_end(self) -> bool:
        """Return whether an end fact of the run was read, even if a late success has opened the run again."""
        ...

    def has_read(self, event: Envelope) -> bool:
        """Return whether the run has read this event before, which names no run."""
        ...


R = TypeVar("R", bound=KnownRun)


def run_of(event: Envelope, runs: Sequence[R], pages: Sequence[retired.Page] = ()) -> R | None:
    """Return the run that an event belongs to; None if it belongs to none of these.

    It is the run that the event names; else the run that has read the event before; else the oldest run without an end.
    `pages` are the memory of retired runs: an event of such a run belongs to no run any more.
    """
    if event.run:
        for run in runs:
            if run.id == event.run:
                return run
        return None
    known = next((run for run in runs if run.has_read(event)), None)
    return known or (None if is_retired(event, pages) else oldest_open(runs))


def is_retired(event: Envelope, pages: Sequence[retired.Page]) -> bool:
    """Return whether an event belongs to a retired run: it names the run, or is a duplicate of one of its events."""
    if not pages:
        return False
    token = retired.run_token(event.run) if event.run else recent.token(event.type, event.id)
    return retired.knows(pages, token)


def oldest_open(runs: Iterable[R]) -> R | None:
    """Return the run of an event that names none: the oldest run without an end."""
    return next((run for run in runs if not run.has_end), None)


def only_emitter(table: FlowTable, type_: str) -> str:
    """Return the only step that emits this event type as an outcome; "" if there is none, or several."""
    emitters = table.successes.get(type_, ()) + table.failures.get(type_, ())
    return emitters[0] if len(emitters) == 1 else ""


def step_of(table: FlowTable, event: Envelope) -> str:
    """Return the step that made an outcome: the declared step that it names, else the only step that emits it."""
    if event.step in table.steps:
        return event.step
    return only_emitter(table, event.type) or event.step


def trigger_names(event: Envelope) -> tuple[str, ...]:
    """Return the ids by which an outcome may name its trigger; a foreign producer names an event of its own source."""
    named = event.causation or event.trigger
    if not named or not is_foreign(event):
        return (named,) if named else ()
    return named, ids.of_source(event.flow, event.source, named, event.key)


def answers(names: tuple[str, ...], trigger: str, raw: str) -> bool:
    """Return whether an outcome that names its trigger by `names` answers this trigger.

    `raw` is the id that a foreign producer gave the trigger, "" where that is `trigger` itself.
    """
    return trigger in names or (len(names) > 1 and raw == names[0])
