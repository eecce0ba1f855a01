"""Promise 4: the effects of a run, and whether they were undone as promised: all of it, once, newest first.

A reading of the log of its own: every step of the flow has one effect a run, for it runs under one key, and so one
entry, certain or in doubt. A request is judged at the position of the event it was decided on, its causation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.audit.reading import Fact
from tests.audit.shape import GENERAL_FAILURES, Shape

OPEN, REQUESTED, UNDONE, NOTHING, FAILED = "open", "requested", "undone", "nothing to undo", "failed"
SETTLED = (UNDONE, NOTHING)

_REQUEST = "choreo.CompensationRequested"
_PLANNED = "choreo.ChildrenPlanned"
"""The starts of a step's children: from here on there may be an effect."""
_BROKEN_UNDOS = ("choreo.CompensationFailed", "choreo.CompensationDeadlinePassed")
_RETRY = "choreo.CompensationRetryRequested"

Attempted = tuple[str, str]
"""A step and the id of a trigger of it."""


@dataclass
class LedgerEntry:
    """An effect, or the doubt whether there is one."""

    opened: int
    certain: bool
    trigger: str
    """Of the outcome, or the doubt, that opened it."""
    state: str = OPEN
    round: int = 0
    undo_id: str = ""

    @property
    def is_open_doubt(self) -> bool:
        """Return whether nobody knows of an effect, and nobody asks."""
        return not self.certain and self.state == OPEN


class Ledger:
    """One run's entries, while its facts are read in the order of the log."""

    def __init__(self, facts: Sequence[Fact], shape: Shape) -> None:
        """Start the ledger of a run; `facts` are the run's, without duplicates."""
        self._shape = shape
        self.entries: dict[str, LedgerEntry] = {}
        """By their steps."""
        self.settled_at = -1
        """Offset at which the last entry was closed."""
        self._facts = facts
        self._decided: dict[str, list[Fact]] = {}
        for fact in facts:
            if fact.type == _REQUEST:
                self._decided.setdefault(fact.causation, []).append(fact)
        self._steps = {fact.entry: fact.step for fact in facts if fact.type == _REQUEST}
        self._answered: set[Attempted] = set()
        self._spared: set[Attempted] = set()
        """Attempts that certainly left nothing, so far: a repetition that is not certain leaves a doubt."""
        self._firsts: dict[str, str] = {}
        """By step the trigger at work; a second one is from a foreign program."""
        for fact in reversed(facts):
            self._firsts |= {n: fact.id for n, s in shape.steps.items() if fact.type in s.on and not s.is_join}

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
        pending = [step for step, entry in self.entries.items() if entry.state == REQUESTED]
        opened = [(entry.opened, step) for step, entry in self.entries.items() if entry.state == OPEN]
        if pending:
            return f"while the undo of {', '.join(pending)} was not answered"
        if request.step not in self.entries or self.entries[request.step].state != OPEN:
            return f"though {request.step} had nothing open"
        newest = max(opened)[1]
        return f"though {newest} was the newest open" if newest != request.step else ""

    def _request(self, request: Fact, breach: str) -> Iterator[str]:
        if breach:
            yield f"{request.where} asks to undo {request.step} {breach}"
        entry = self.entries.get(request.step)
        if entry is not None and entry.state == OPEN:
            entry.state, entry.round = REQUESTED, request.round

    def _read(self, fact: Fact) -> Iterator[str]:
        shape = self._shape
        if fact.type == _PLANNED:
            self._succeeded((fact.step, fact.causation), fact)
        elif fact.type in shape.successes and shape.steps[shape.successes[fact.type]].undos:
            self._succeeded((shape.successes[fact.type], fact.causation), fact)
        elif fact.type in shape.failures or fact.type in GENERAL_FAILURES:
            self._failed((shape.failures.get(fact.type, fact.step), fact.causation), fact)
        elif fact.type == "choreo.StepDeadlinePassed":
            if (fact.step, fact.trigger) not in self._answered:
                self._doubt((fact.step, fact.trigger), fact)
        elif fact.type == _RETRY:
            self._retried(fact)
        elif fact.type in shape.undos or fact.type == "choreo.NothingToCompensate" or fact.type in _BROKEN_UNDOS:
            yield from self._answer(fact)

    def _succeeded(self, attempted: Attempted, fact: Fact) -> None:
        self._answered.add(attempted)
        entry = self.entries.setdefault(attempted[0], LedgerEntry(fact.offset, certain=True, trigger=attempted[1]))
        if not entry.certain:
            entry.certain = True
            if entry.state == NOTHING:
                entry.state = OPEN

    def _failed(self, attempted: Attempted, fact: Fact) -> None:
        step, trigger = attempted
        its_turn = (step, self._firsts.get(step, trigger))
        if attempted != its_turn and its_turn not in self._answered:
            return  # a foreign trigger, given up: no statement about the one that is under way
        first = attempted not in self._answered or attempted in self._spared
        self._answered.add(attempted)
        entry = self.entries.get(step)
        if fact.certain and first:
            self._spared.add(attempted)
        if not fact.certain and first:
            self._spared.discard(attempted)
            self._doubt(attempted, fact)
        elif fact.certain and entry is not None and entry.trigger == trigger and entry.is_open_doubt:
            entry.state = NOTHING
            self.settled_at = fact.offset

    def _doubt(self, attempted: Attempted, fact: Fact) -> None:
        self._answered.add(attempted)
        step = self._shape.steps.get(attempted[0])
        if step is not None and step.undos:
            self.entries.setdefault(attempted[0], LedgerEntry(fact.offset, certain=False, trigger=attempted[1]))

    def _retried(self, fact: Fact) -> None:
        """Reopen the entry after an operator's retry: it is to be undone like any other."""
        entry = self.entries.get(self._steps.get(fact.entry, ""))
        if entry is not None and entry.state == FAILED:
            entry.state = OPEN

    def _answer(self, fact: Fact) -> Iterator[str]:
        step = self._steps.get(fact.entry, "")
        entry = self.entries.get(step)
        if entry is None:
            yield f"{fact.where} undoes what nobody asked to undo"
        elif fact.type in self._shape.undos:
            if entry.undo_id not in ("", fact.id):
                yield f"{fact.where}: {step} was undone before, under another id"
            entry.state, entry.undo_id, self.settled_at = UNDONE, fact.id, fact.offset
        elif fact.type in _BROKEN_UNDOS:
            if entry.state == REQUESTED and entry.round == fact.round:
                entry.state = FAILED
        elif entry.state == REQUESTED and entry.round == fact.round:
            # Nothing was there; but if a success was read meanwhile, there is something by now.
            entry.state = OPEN if entry.certain else NOTHING
            self.settled_at = fact.offset
