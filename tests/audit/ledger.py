"""Promise 4: what a run left in the world, and whether it was undone as promised: all of it, once, newest first.

A reading of the log of its own: an entry is (step, trigger), whether its effect is certain or in doubt. A request is
judged at the position of the event it was decided on, which stands in its causation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.audit.reading import Fact
from tests.audit.shape import FAILURES, GENERAL_FAILURES, STEPS, SUCCESSES, UNDOS

OPEN, REQUESTED, UNDONE, NOTHING, FAILED = "open", "requested", "undone", "nothing to undo", "failed"
SETTLED = (UNDONE, NOTHING)

_REQUEST = "choreo.CompensationRequested"
_BROKEN_UNDOS = ("choreo.UndoFailed", "choreo.UndoDeadlinePassed")
_RETRY = "choreo.UndoRetryRequested"

Place = tuple[str, str]
"""A step and the id of its trigger."""


@dataclass
class Entry:
    """An effect, or the doubt whether there is one."""

    opened: int
    certain: bool
    state: str = OPEN
    round: int = 0
    undo_id: str = ""


class Ledger:
    """One run's entries, while its facts are read in the order of the log."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        """`facts` are those of the run, without twins."""
        self.entries: dict[Place, Entry] = {}
        self.settled_at = -1
        """Offset at which the last entry was closed."""
        self._facts = facts
        self._decided: dict[str, list[Fact]] = {}
        for fact in facts:
            if fact.type == _REQUEST:
                self._decided.setdefault(fact.causation, []).append(fact)
        self._places = {fact.entry: (fact.step, fact.trigger) for fact in facts if fact.type == _REQUEST}
        self._answered: set[Place] = set()

    def violations(self) -> Iterator[str]:
        """Read all facts; every breach as a sentence."""
        last = {fact.id: fact.offset for fact in self._facts}
        for fact in self._facts:
            yield from self._read(fact)
            # An id may stand for two types (a failure, then a late success): judge at the one that explains it.
            for request in self._decided.get(fact.id, [])[:]:
                breach = self._breach(request)
                if not breach or fact.offset == last[fact.id]:
                    self._decided[fact.id].remove(request)
                    yield from self._request(request, breach)
        for orphans in self._decided.values():
            for request in orphans:
                yield f"{request.where} was decided on {request.causation}, which is no event of the run"

    def _breach(self, request: Fact) -> str:
        place = (request.step, request.trigger)
        pending = [step for (step, _), entry in self.entries.items() if entry.state == REQUESTED]
        opened = [(entry.opened, place) for place, entry in self.entries.items() if entry.state == OPEN]
        if pending:
            return f"while the undo of {', '.join(pending)} was not answered"
        if place not in self.entries or self.entries[place].state != OPEN:
            return f"though {request.step} had nothing open"
        newest = max(opened)[1]
        return f"though {newest[0]} was the newest open" if newest != place else ""

    def _request(self, request: Fact, breach: str) -> Iterator[str]:
        if breach:
            yield f"{request.where} asks to undo {request.step} {breach}"
        entry = self.entries.get((request.step, request.trigger))
        if entry is not None and entry.state == OPEN:
            entry.state, entry.round = REQUESTED, request.round

    def _read(self, fact: Fact) -> Iterator[str]:
        if fact.type in SUCCESSES and STEPS[SUCCESSES[fact.type]].undo:
            self._succeeded((SUCCESSES[fact.type], fact.causation), fact)
        elif fact.type in FAILURES or fact.type in GENERAL_FAILURES:
            self._failed((FAILURES.get(fact.type, fact.step), fact.causation), fact)
        elif fact.type == "choreo.StepDeadlinePassed":
            if (fact.step, fact.trigger) not in self._answered:
                self._doubt((fact.step, fact.trigger), fact)
        elif fact.type == _RETRY:
            self._retried(fact)
        elif fact.type in UNDOS or fact.type == "choreo.NothingToUndo" or fact.type in _BROKEN_UNDOS:
            yield from self._answer(fact)

    def _succeeded(self, place: Place, fact: Fact) -> None:
        self._answered.add(place)
        entry = self.entries.setdefault(place, Entry(fact.offset, certain=True))
        if not entry.certain:
            entry.certain = True
            if entry.state == NOTHING:
                entry.state = OPEN

    def _failed(self, place: Place, fact: Fact) -> None:
        first = place not in self._answered
        self._answered.add(place)
        entry = self.entries.get(place)
        if not fact.certain and first:
            self._doubt(place, fact)
        elif fact.certain and entry is not None and not entry.certain and entry.state == OPEN:
            entry.state = NOTHING
            self.settled_at = fact.offset

    def _doubt(self, place: Place, fact: Fact) -> None:
        self._answered.add(place)
        step = STEPS.get(place[0])
        if step is not None and step.undo:
            self.entries.setdefault(place, Entry(fact.offset, certain=False))

    def _retried(self, fact: Fact) -> None:
        """An operator asks for it once more: it is to be undone like any other."""
        entry = self.entries.get(self._places.get(fact.entry, ("", "")))
        if entry is not None and entry.state == FAILED:
            entry.state = OPEN

    def _answer(self, fact: Fact) -> Iterator[str]:
        place = self._places.get(fact.entry)
        entry = self.entries.get(place) if place else None
        if entry is None:
            yield f"{fact.where} undoes what nobody asked to undo"
        elif fact.type in UNDOS:
            if entry.undo_id not in ("", fact.id):
                yield f"{fact.where}: {place[0] if place else ''} was undone before, under another id"
            entry.state, entry.undo_id, self.settled_at = UNDONE, fact.id, fact.offset
        elif fact.type in _BROKEN_UNDOS:
            if entry.state == REQUESTED and entry.round == fact.round:
                entry.state = FAILED
        elif entry.state == REQUESTED and entry.round == fact.round:
            # Nothing was there; but if a success was read meanwhile, there is something by now.
            entry.state = OPEN if entry.certain else NOTHING
            self.settled_at = fact.offset
