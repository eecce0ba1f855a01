"""Scenarios of the tracker: given(flow, events).when(event).then(decisions).

Pure and without waiting: the core folds events with stamps a second apart, `elapsed("24h")` lets time pass, and the
tracker's decisions are read from the log at once, as in a system without lag (`read_back=False` leaves that
to the test).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self, TypeAlias

import msgspec
from msgspec.structs import replace

from choreo.core import facts
from choreo.core.attributes import shown, with_values
from choreo.core.crossing import Ended, Plan, encode
from choreo.core.declare.flow import Flow
from choreo.core.definition import FlowDefinition
from choreo.core.durations import Duration, human, milliseconds
from choreo.core.errors import DeclarationError
from choreo.core.events import TRACKER_JSON, Envelope, Record
from choreo.core.flow_table import FlowTable
from choreo.core.identity import identified
from choreo.core.react import react
from choreo.core.state import UNSETTLED, KeyState, LedgerEntry, Run
from choreo.core.timers import due, next_due
from choreo.testing.given_events import EventFactory, EventSpec

_BEGIN_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z: any moment, the same in every run
_TICK_MS = 1_000


class Elapsed(msgspec.Struct, frozen=True):
    """Time that passes."""

    duration_ms: int


class Duplicate(msgspec.Struct, frozen=True):
    """A second copy of the newest event of this type in the log."""

    type: str


class DomainEvent(Protocol):
    """An object of an event class (choreo.Event)."""

    event_type: ClassVar[str]


Happening: TypeAlias = str | EventSpec | Duplicate | Envelope | DomainEvent
EventLike: TypeAlias = Happening | Elapsed
"""An event in a scenario: a type, `event(…)`, `foreign(…)`, `duplicate(…)`, `elapsed(…)`, or an event object."""


def event(type_: str, *, values: Mapping[str, Any] | None = None, **fields: Any) -> EventSpec:
    """Return an event of this type, with the header fields (`step=`, `run=`, `reason=`, …) that matter to the test.

    `values` are the event's own fields, which the conditions of the flow read; an event object has them itself.
    """
    return EventSpec(type_, fields, values)


def foreign(type_: str, *, values: Mapping[str, Any] | None = None, **fields: Any) -> EventSpec:
    """Return an event from a producer that sets only key and type, and the fields given here."""
    return EventSpec(type_, fields, values, foreign=True)


def undo(step: str, **fields: Any) -> EventSpec:
    """Return the request to undo this step's effect, as `then` expects it."""
    return EventSpec(facts.COMPENSATION_REQUESTED, {"step": step, **fields})


def duplicate(type_: str) -> Duplicate:
    """Return a copy of the newest event of this type: same id, same type."""
    return Duplicate(type_)


def children(step: str, total: int) -> EventSpec:
    """Return the answer of a step's handler that yielded the starts of so many children, as one batch."""
    plan = Plan("", "", 1, total, max(total, 1), "", [])
    return EventSpec(facts.CHILDREN_PLANNED, {"step": step, "n": 0, "data": encode(plan)})


def child_ended(step: str, place: int, outcome: str = "completed", *, reason: str = "") -> EventSpec:
    """Return the end of a child of this step: the one at `place` in the handler's result, counted from 0."""
    ended = Ended(f"child-{place}", outcome)
    return EventSpec(facts.CHILD_ENDED, {"step": step, "n": place, "data": encode(ended), "reason": reason})


def elapsed(duration: Duration) -> Elapsed:
    """Return time that passes, "24h" or in seconds; timers that become due are published at their own moments."""
    return Elapsed(milliseconds(duration, "elapsed"))


def given(flow: Flow | FlowDefinition, *events: EventLike, key: str = "", read_back: bool = True) -> Scenario:
    """Return a scenario of one instance of the flow, with its events so far."""
    definition = flow if isinstance(flow, FlowDefinition) else flow.definition
    return Scenario(definition, key or _key_of(definition, events), read_back=read_back).when(*events)


class Scenario:
    """One key's log and state in a scenario. Made by `given`."""

    def __init__(self, flow: FlowDefinition, key: str, *, read_back: bool) -> None:
        self.table: FlowTable = FlowTable(flow)
        self.key = key
        self.state: KeyState = KeyState()
        self.log: list[Record] = []
        self.published: list[Envelope] = []
        """The events that the tracker has published since the last `when`."""
        self.unread: list[Envelope] = []
        """The events that the tracker has published and not yet read."""
        self.now_ms: int = _BEGIN_MS
        self._reads_back = read_back
        self._values: dict[str, Mapping[str, Any]] = {}
        """Fields of the events that the test gives, by event id."""
        self._attributes: dict[str, Mapping[str, str]] = {}
        """Search attributes by run; an event whose fields the test does not give leaves them as they were."""
        self._factory = EventFactory(self.table, key)

    @property
    def runs(self) -> list[Run]:
        """Return the key's runs in the tracker's state."""
        return self.state.runs

    def when(self, *specs: EventLike) -> Self:
        """Append these events one after the other, and let the tracker react."""
        self.published = []
        for spec in specs:
            if isinstance(spec, Elapsed):
                self._let_pass(self.now_ms + spec.duration_ms)
            else:
                envelope = self.envelope(spec)
                values = _values_of(spec)
                if values is not None:
                    self._values[envelope.id] = values
                if self.log:
                    self._let_pass(self.now_ms + _TICK_MS)
                self._append(envelope)
        return self

    def declared_anew(self, flow: FlowDefinition) -> Self:
        """Continue under another declaration of the flow, as after a deployment."""
        self.table = FlowTable(flow)
        self._factory = EventFactory(self.table, self.key)
        return self

    def read_back(self) -> Self:
        """Let the tracker read its events from the log; later events are published, and not yet read."""
        self.published = []
        unread, self.unread = self.unread, []
        for fact in unread:
            self._append(fact)
        return self

    def then(
        self,
        *published: str | EventSpec,
        status: str | None = None,
        cause: str | None = None,
        ledger: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        expected: Sequence[str] | None = None,
        waits: Sequence[str] | None = None,
        attributes: Mapping[str, object] | None = None,
        run: str = "",
    ) -> Self:
        """Assert the present state. `published`, if any: all events of the tracker since the last `when`, in order.

        `ledger`: the state of each step's effect ("open", "requested in doubt", …); `expected`: names of steps with
        an outcome to come; `waits`: types awaited from outside; `attributes`: search attributes and their values,
        None for no value. `run`: the id of the run, default the first. Raises AssertionError with the log so far.
        """
        if published:
            self._check_published(published)
        found = self._run(run)
        effects = [(entry.step, _shown(entry)) for entry in found.ledger]
        wanted = list(ledger.items()) if isinstance(ledger, Mapping) else ledger
        self._check("status", status, found.shown)
        self._check("cause", cause, found.cause)
        self._check("ledger", None if wanted is None else list(wanted), effects)
        self._check("expected", None if expected is None else list(expected), [e.step for e in found.expected])
        self._check("waits", None if waits is None else list(waits), [wait.until for wait in found.waits])
        values = self._attributes.get(found.id, {})
        texts = {name: None if value is None else shown(value) for name, value in (attributes or {}).items()}
        self._check("attributes", texts, {name: values.get(name) for name in texts})
        return self

    def offset_of(self, type_: str) -> int:
        """Return the offset of the newest event of this type; raises StopIteration if there is none."""
        return next(record.offset for record in reversed(self.log) if record.event.type == type_)

    def then_nothing(self) -> Self:
        """Assert that the tracker has published nothing since the last `when`."""
        self._check_published(())
        return self

    def log_text(self) -> str:
        """Return the log so far and the state of each run, for people."""
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
            raise AssertionError(f"there is no run {run_id}".rstrip() + f"\nthe log so far:\n{self.log_text()}")
        return run

    def _check(self, what: str, wanted: object, found: object) -> None:
        if wanted is not None and wanted != found:
            raise AssertionError(
                f"{what}\n  expected {wanted!r}\n  found    {found!r}\nthe log so far:\n{self.log_text()}"
            )

    def _check_published(self, wanted: Sequence[str | EventSpec]) -> None:
        specs = [_spec_of(spec) for spec in wanted]
        if len(specs) != len(self.published) or not all(map(_fits, specs, self.published)):
            named = {name for spec in specs for name in spec.fields} | {"step"}
            expected = ", ".join(_named(spec.type, spec.fields) for spec in specs) or "nothing"
            published = (
                ", ".join(_named(f.type, {n: getattr(f, n) for n in named}) for f in self.published) or "nothing"
            )
            raise AssertionError(
                f"published\n  expected {expected}\n  found    {published}\nthe log so far:\n{self.log_text()}"
            )

    def envelope(self, spec: Happening) -> Envelope:
        """Return the event as it would stand in the log next."""
        if isinstance(spec, Envelope):
            return spec
        if isinstance(spec, Duplicate):
            return next(identified(record) for record in reversed(self.log) if record.event.type == spec.type)
        return self._factory.envelope(_spec_of(spec), self.log, self.state)

    def _record(self, envelope: Envelope) -> Record:
        """Return the next record; an event that decides a branch has its fields."""
        record = Record(self.table.flow.name, 0, len(self.log), self.now_ms, envelope)
        tables = (self.table, *self.table.versions.values())
        if not any(envelope.type in table.decoded for table in tables):
            return record
        values = self._values.get(envelope.id)
        if values is None and envelope.content_type == TRACKER_JSON:
            values = msgspec.json.decode(envelope.data)
        if values is None:
            raise DeclarationError(
                f"{envelope.type} {self._needs(envelope.type)}, and the scenario does not give its fields",
                where=f"given({self.table.flow.name}, …)",
                remedy=f'Give an object of its class, or event("{envelope.type}", values={{…}}).',
            )
        return replace(record, fields=values)

    def _needs(self, type_: str) -> str:
        return "decides which step runs" if self.table.decided_by(type_) else "sets the moment of a timer"

    def _set_attributes(self, before: KeyState, event: Envelope) -> None:
        values = self._values.get(event.id)
        if values is None and event.content_type == TRACKER_JSON:
            values = msgspec.json.decode(event.data)
        run = self.state.attributed_since(before) if values and event.type in self.table.attributes else ""
        if run and values:
            known = self._attributes.get(run, {})
            self._attributes[run] = with_values(known, self.table.attributes[event.type], values)

    def _let_pass(self, until_ms: int) -> None:
        """Publish the timers due up to this moment, each at its own, and let the tracker read them."""
        while self._reads_back and 0 < next_due(self.state) <= until_ms:
            self.now_ms = max(self.now_ms, next_due(self.state))
            timers = due(self.table, self.key, self.state, self.now_ms)
            if not timers:
                break  # a reminder of a wait that is not declared any more
            self.published += timers
            self._append(*timers)
        self.now_ms = until_ms
        if not self._reads_back:
            timers = due(self.table, self.key, self.state, until_ms)
            self.published += timers
            self.unread += timers

    def _append(self, *envelopes: Envelope) -> None:
        """Append these events, and after them the tracker's reactions."""
        pending = list(envelopes)
        while pending:
            record = self._record(pending.pop(0))
            self.log.append(record)
            before = self.state
            self.state, decisions = react(self.table, before, record)
            self._set_attributes(before, record.event)
            self.published += decisions
            (pending if self._reads_back else self.unread).extend(decisions)


def _key_of(flow: FlowDefinition, events: Sequence[EventLike]) -> str:
    """Return the key in the first event object, or a made-up one."""
    keys = (getattr(spec, flow.key, None) for spec in events)
    return str(next((key for key in keys if key is not None), f"{flow.name}-1"))


def _spec_of(spec: str | EventSpec | DomainEvent) -> EventSpec:
    if isinstance(spec, EventSpec):
        return spec
    return EventSpec(spec if isinstance(spec, str) else spec.event_type)


def _values_of(spec: Happening) -> Mapping[str, Any] | None:
    """Return the event's own fields: of an event object, or those that the test gives."""
    if isinstance(spec, EventSpec):
        return spec.values
    names: Iterable[str] = getattr(type(spec), "event_fields", tuple)()
    return {name: getattr(spec, name) for name in names} or None


def _shown(entry: LedgerEntry) -> str:
    return f"{entry.state} in doubt" if entry.in_doubt and entry.state in UNSETTLED else entry.state


def _fits(spec: EventSpec, fact: Envelope) -> bool:
    return spec.type == fact.type and all(getattr(fact, name) == value for name, value in spec.fields.items())


def _named(type_: str, fields: Mapping[str, object]) -> str:
    shown = ", ".join(f"{name}={value!r}" for name, value in sorted(fields.items()) if value != "")
    return f"{type_}({shown})" if shown else type_
