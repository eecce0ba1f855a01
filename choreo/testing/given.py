"""Stories: what the tracker makes of a log, told as given(flow, events).when(event).then(decisions).

Pure and in no time: events are folded by the core with stamps a second apart, `elapsed("24h")` lets the clock run, and
what the tracker says is read back at once, as in a system without lag (`read_back=False` leaves that to the test).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, TypeAlias

import msgspec

from choreo.core import facts
from choreo.core.declare import Flow
from choreo.core.definition import FlowDefinition, FlowTable
from choreo.core.due import due, next_due
from choreo.core.durations import Duration, human, milliseconds
from choreo.core.events import Envelope, Record
from choreo.core.fold import identified
from choreo.core.react import react
from choreo.core.state import UNSETTLED, Entry, KeyState, Run
from choreo.testing.given_teller import Teller, Told

_BEGIN_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z: any moment, the same in every run
_TICK_MS = 1_000


class Elapsed(msgspec.Struct, frozen=True):
    """Time that passes."""

    duration_ms: int


class Twin(msgspec.Struct, frozen=True):
    """The newest event of this type stands in the log once more."""

    type: str


class DomainEvent(Protocol):
    """An object of an event class (choreo.Event)."""

    event_type: str


Happening: TypeAlias = str | Told | Twin | Envelope | DomainEvent
Telling: TypeAlias = Happening | Elapsed
"""What a story is told with: a type, `event(…)`, `foreign(…)`, `twin(…)`, `elapsed(…)`, or an event object."""


def event(type_: str, **fields: Any) -> Told:
    """An event of this type, with header fields (`step=`, `run=`, `reason=`, …) where the test cares for them."""
    return Told(type_, fields)


def foreign(type_: str, **fields: Any) -> Told:
    """An event from a producer that sets only key and type, and what is given here."""
    return Told(type_, fields, foreign=True)


def undo(step: str, **fields: Any) -> Told:
    """The request to undo this step's effect, as `then` expects it."""
    return Told(facts.COMPENSATION_REQUESTED, {"step": step, **fields})


def twin(type_: str) -> Twin:
    """The newest event of this type once more: same id, same type."""
    return Twin(type_)


def elapsed(duration: Duration) -> Elapsed:
    """Time that passes, "24h" or in seconds; what becomes due meanwhile is said at its own moment."""
    return Elapsed(milliseconds(duration, "elapsed"))


def given(flow: Flow | FlowDefinition, *events: Telling, key: str = "", read_back: bool = True) -> Story:
    """A story about one instance of the flow, in which this has happened so far."""
    definition = flow if isinstance(flow, FlowDefinition) else flow.definition
    return Story(definition, key or _key_of(definition, events), read_back=read_back).when(*events)


class Story:
    """One key's log and state while a test tells what happens. Made by `given`."""

    def __init__(self, flow: FlowDefinition, key: str, *, read_back: bool) -> None:
        self.table: FlowTable = FlowTable(flow)
        self.key = key
        self.state: KeyState = KeyState()
        self.log: list[Record] = []
        self.said: list[Envelope] = []
        """What the tracker has said since the last `when`."""
        self.unread: list[Envelope] = []
        """What it said and has not read back."""
        self.now_ms: int = _BEGIN_MS
        self._reads_back = read_back
        self._teller = Teller(self.table, key)

    @property
    def runs(self) -> list[Run]:
        """The key's runs as the tracker has them."""
        return self.state.runs

    def when(self, *tellings: Telling) -> Self:
        """These happen, one after the other."""
        self.said = []
        for telling in tellings:
            if isinstance(telling, Elapsed):
                self._let_pass(self.now_ms + telling.duration_ms)
            else:
                envelope = self._envelope(telling)
                if self.log:
                    self._let_pass(self.now_ms + _TICK_MS)
                self._append(envelope)
        return self

    def read_back(self) -> Self:
        """The tracker reads from the log what it has said; what follows from that is said, and not yet read."""
        self.said = []
        unread, self.unread = self.unread, []
        for fact in unread:
            self._append(fact)
        return self

    def then(
        self,
        *said: str | Told,
        status: str | None = None,
        cause: str | None = None,
        ledger: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        expected: Sequence[str] | None = None,
        waits: Sequence[str] | None = None,
        run: str = "",
    ) -> Self:
        """What holds now. `said`, if any, is all that the tracker has said since the last `when`, in order.

        `ledger`: the state of each step's effect ("open", "requested in doubt", …); `expected`: names of steps whose
        outcome is awaited; `waits`: types awaited from outside. `run`: the id of the run meant, default the first.
        Raises AssertionError with the log so far.
        """
        if said:
            self._check_said(said)
        found = self._run(run)
        effects = [(entry.step, _shown(entry)) for entry in found.ledger]
        wanted = list(ledger.items()) if isinstance(ledger, Mapping) else ledger
        self._check("status", status, found.shown)
        self._check("cause", cause, found.cause)
        self._check("ledger", None if wanted is None else list(wanted), effects)
        self._check("expected", None if expected is None else list(expected), [e.step for e in found.expected])
        self._check("waits", None if waits is None else list(waits), [wait.until for wait in found.waits])
        return self

    def offset_of(self, type_: str) -> int:
        """Where the newest event of this type stands; raises StopIteration if there is none."""
        return next(record.offset for record in reversed(self.log) if record.event.type == type_)

    def then_nothing(self) -> Self:
        """The tracker has said nothing since the last `when`."""
        self._check_said(())
        return self

    def told(self) -> str:
        """The log so far and the state of each run, for people."""
        first_ms = self.log[0].stamp_ms if self.log else self.now_ms
        lines = []
        for record in self.log:
            fact, after = record.event, human(record.stamp_ms - first_ms)
            about = " ".join(filter(None, (fact.step, fact.reason)))
            lines.append(f"{record.offset:5} +{after:<12} {fact.type:<28} {about}".rstrip())
        for run in self.runs:
            ledger = ", ".join(f"{entry.step} {_shown(entry)}" for entry in run.ledger) or "empty"
            awaited = ", ".join([e.step for e in run.expected] + [w.until for w in run.waits]) or "nothing"
            lines.append(f"run {run.id}: {run.shown} ({run.cause or 'no cause'}); awaits {awaited}; ledger: {ledger}")
        return "\n".join(lines)

    def _run(self, run_id: str) -> Run:
        run = self.state.run(run_id) if run_id else next(iter(self.runs), None)
        if run is None:
            raise AssertionError(f"there is no run {run_id}".rstrip() + f"\nthe log so far:\n{self.told()}")
        return run

    def _check(self, what: str, wanted: object, found: object) -> None:
        if wanted is not None and wanted != found:
            raise AssertionError(f"{what}\n  expected {wanted!r}\n  found    {found!r}\nthe log so far:\n{self.told()}")

    def _check_said(self, wanted: Sequence[str | Told]) -> None:
        tellings = [_told(telling) for telling in wanted]
        if len(tellings) != len(self.said) or not all(map(_fits, tellings, self.said)):
            named = {name for telling in tellings for name in telling.fields} | {"step"}
            expected = ", ".join(_named(telling.type, telling.fields) for telling in tellings) or "nothing"
            said = ", ".join(_named(f.type, {n: getattr(f, n) for n in named}) for f in self.said) or "nothing"
            raise AssertionError(f"said\n  expected {expected}\n  found    {said}\nthe log so far:\n{self.told()}")

    def _envelope(self, telling: Happening) -> Envelope:
        if isinstance(telling, Envelope):
            return telling
        if isinstance(telling, Twin):
            return next(identified(record) for record in reversed(self.log) if record.event.type == telling.type)
        return self._teller.envelope(_told(telling), self.log, self.state)

    def _let_pass(self, until_ms: int) -> None:
        """Say what becomes due up to this moment, each at its own, and let the tracker read it."""
        while self._reads_back and 0 < next_due(self.state) <= until_ms:
            self.now_ms = max(self.now_ms, next_due(self.state))
            timers = due(self.table, self.key, self.state, self.now_ms)
            self.said += timers
            self._append(*timers)
        self.now_ms = until_ms
        if not self._reads_back:
            timers = due(self.table, self.key, self.state, until_ms)
            self.said += timers
            self.unread += timers

    def _append(self, *envelopes: Envelope) -> None:
        """These stand in the log next, and after them what the tracker says to them."""
        pending = list(envelopes)
        while pending:
            record = Record(self.table.flow.name, 0, len(self.log), self.now_ms, pending.pop(0))
            self.log.append(record)
            self.state, decisions = react(self.table, self.state, record)
            self.said += decisions
            (pending if self._reads_back else self.unread).extend(decisions)


def _key_of(flow: FlowDefinition, events: Sequence[Telling]) -> str:
    """The key in the first event object, or one made up."""
    keys = (getattr(telling, flow.key, None) for telling in events)
    return str(next((key for key in keys if key is not None), f"{flow.name}-1"))


def _told(telling: str | Told | DomainEvent) -> Told:
    if isinstance(telling, Told):
        return telling
    return Told(telling if isinstance(telling, str) else telling.event_type)


def _shown(entry: Entry) -> str:
    return f"{entry.state} in doubt" if entry.in_doubt and entry.state in UNSETTLED else entry.state


def _fits(told: Told, fact: Envelope) -> bool:
    return told.type == fact.type and all(getattr(fact, name) == value for name, value in told.fields.items())


def _named(type_: str, fields: Mapping[str, object]) -> str:
    shown = ", ".join(f"{name}={value!r}" for name, value in sorted(fields.items()) if value != "")
    return f"{type_}({shown})" if shown else type_
