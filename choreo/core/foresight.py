"""Foresee the consequences of one record: fold it, and the decisions that follow, on a copy of a key's state. Pure.

It is the fold itself, with an assumption about the world: nothing else comes, and each compensation that can be asked
answers. Steps under way are named; a second course settles them without an effect, to foresee the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from choreo.core import facts, ids
from choreo.core.events import Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.react import react
from choreo.core.state import FAILED, REQUESTED, KeyState, LedgerEntry, PendingStep, Run

_RECORDS_MAX = 100_000
"""Records of a course: a run's undos are a few facts each, so that a longer one is a fault of the fold."""


class Undo(NamedTuple):
    """A compensation that will be requested, or that cannot be."""

    step: str
    entry: str
    in_doubt: bool
    cause: str
    """The reason why it cannot be requested; "" where it will be."""
    asked: bool = False
    """Whether it is under way already."""


class Foresight(NamedTuple):
    """The consequences of a record."""

    after: KeyState
    """The state once the record is folded."""
    decided: list[Envelope]
    """The facts that the tracker publishes for this record at once."""
    course: list[Envelope]
    """The facts of the tracker from there on, in their order, as long as nothing else is needed."""
    undos: list[Undo]
    """The compensations of the run in the order of their requests; those that cannot be requested where they fail."""
    under_way: list[PendingStep]
    """Steps of the run that have no outcome when the course rests."""
    end: str
    """Status in which a run that compensates comes to rest, if no step under way leaves an effect; "" for others."""


def foresee(
    table: FlowTable, state: KeyState, event: Envelope, stamp_ms: int, fields: Mapping[str, Any] | None = None
) -> Foresight:
    """Return the consequences of an event of a known run that would be the key's next record, with this timestamp.

    `fields`: those of its payload, where the flow decides by them. Raises VersionError where the run's version is not
    known.
    """
    course = _Course(table, state, event, max(stamp_ms, state.now_ms))
    decided = course.append(event, fields)
    after = course.state
    course.play()
    run = course.run
    under_way = list(run.expected) if run else []
    published = list(course.published)
    if run is not None and run.compensating and not run.ended and not run.paused_ms:
        for pending in under_way:
            course.append(_left_nothing(run, event, pending))
        course.play()
    last = course.run
    # A pause holds the end back: the decisions follow the resume.
    rests = last is not None and (last.ended or (last.compensating and not last.paused_ms))
    return Foresight(after, decided, published, course.undos, under_way, last.status if last and rests else "")


def fragile(table: FlowTable, run: Run | None) -> list[str]:
    """Return the steps under way that leave the run stuck if they end in doubt: their compensation cannot ask."""
    if run is None:
        return []
    table = table.of(run.version)
    found = []
    for pending in run.expected:
        step = table.steps.get(pending.step)
        undo = step.compensation if step else None
        if step is not None and step.effect and undo is not None and not (undo.takes_none and undo.bars):
            found.append(pending.step)
    return found


class _Course:
    """The key's state while records are added to it."""

    def __init__(self, table: FlowTable, state: KeyState, event: Envelope, stamp_ms: int) -> None:
        self.state: KeyState = state
        self.published: list[Envelope] = []
        self.undos: list[Undo] = []
        self._table = table
        self._run = event.run
        self._key = event.key
        self._stamp_ms = stamp_ms
        self._known: set[tuple[str, str]] = set()
        self._left = _RECORDS_MAX

    @property
    def run(self) -> Run | None:
        return self.state.run(self._run)

    def append(self, event: Envelope, fields: Mapping[str, Any] | None = None) -> list[Envelope]:
        """Fold one more record; return the decisions."""
        if not self._left:
            message = f"the course of run {self._run} does not end after {_RECORDS_MAX} records"
            raise ValueError(message)
        self._left -= 1
        before = self.run
        record = Record(self._table.flow.name, 0, self.state.position + 1, self._stamp_ms, event, fields=fields)
        self.state, decided = react(self._table, self.state, record)
        self._note_refused(before, self.run)
        return decided

    def play(self) -> None:
        """Let the tracker read its decisions, and each compensation that it requests answer, until nothing follows."""
        while True:
            fact = self._next()
            run = self.run
            asked = run and next((entry for entry in run.ledger if entry.state == REQUESTED), None)
            if fact is not None:
                self._known.add((fact.id, fact.type))
                self.published.append(fact)
                self.append(fact)
            elif run is not None and asked and not run.ended and not run.paused_ms:
                request = (ids.of_round("undo-request", asked.id, asked.round), facts.COMPENSATION_REQUESTED)
                self.undos.append(Undo(asked.step, asked.id, asked.in_doubt, "", asked=request not in self._known))
                self.append(self._answer(run, asked))
            else:
                return

    def _next(self) -> Envelope | None:
        decided = (fact for run in self.state.runs for fact in run.outbox)
        return next((fact for fact in decided if (fact.id, fact.type) not in self._known), None)

    def _answer(self, run: Run, entry: LedgerEntry) -> Envelope:
        """Return the success of the requested compensation; that of a step with children is the tracker's own fact."""
        table = self._table.of(run.version)
        step = table.steps.get(entry.step)
        emits = step.compensation.emits if step and step.compensation else ()
        type_ = facts.CHILDREN_COMPENSATED if entry.step in table.families or not emits else emits[0]
        return Envelope(
            id=ids.undo(entry.id),
            type=type_,
            key=self._key,
            flow=table.flow.name,
            run=run.id,
            step=entry.step,
            entry=entry.id,
            round=entry.round,
            causation=ids.of_round("undo-request", entry.id, entry.round),
            version=run.version,
        )

    def _note_refused(self, before: Run | None, after: Run | None) -> None:
        """Note the entries that failed in the fold itself: their compensation cannot be requested."""
        if after is None or before is after:
            return
        known = {entry.id: entry.state for entry in before.ledger} if before else {}
        self.undos += [
            Undo(entry.step, entry.id, entry.in_doubt, entry.cause)
            for entry in _by_age(after.ledger)
            if entry.state == FAILED and known.get(entry.id) != FAILED
        ]


def _by_age(ledger: list[LedgerEntry]) -> list[LedgerEntry]:
    """Return the entries in the order of their undoing: the newest first."""
    return sorted(ledger, key=lambda entry: -entry.opened)


def _left_nothing(run: Run, event: Envelope, pending: PendingStep) -> Envelope:
    """Return the outcome of a step that did not begin."""
    return Envelope(
        id=ids.outcome(pending.trigger, pending.step),
        type=facts.STEP_SKIPPED,
        key=event.key,
        flow=event.flow,
        run=run.id,
        step=pending.step,
        causation=pending.trigger,
        version=run.version,
        certain=True,
    )
