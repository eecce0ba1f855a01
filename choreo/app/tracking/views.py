"""Project the tracker's state of a run into a row of the read model. Pure.

A row is made for every key of every batch, so it is a few small structs and one JSON text. Texts, and all that can be
worked out when a row is read, stand in `choreo.app.query.queries`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from choreo.core.attributes import OUTCOME, keys_of
from choreo.core.children import Children, count
from choreo.core.definition import FlowDefinition, is_timer
from choreo.core.errors import StorageError
from choreo.core.events import Envelope
from choreo.core.flow_table import FlowTable
from choreo.core.gates import Gates
from choreo.core.state import COMPLETED, FAILED, REQUESTED, LedgerEntry, OpenWait, PendingStep, Run
from choreo.core.timers import next_due_of
from choreo.ports.read_model import InstanceView


class ExpectedStep(msgspec.Struct, frozen=True):
    """A step with a trigger and without an outcome so far. Times are epoch milliseconds."""

    step: str
    trigger: str
    since_ms: int
    due_ms: int
    attempt: int
    """The last attempt known to have failed."""
    retry_ms: int
    """When the next attempt is woken; 0: no wait is under way."""
    held: bool
    """Whether it waits for the run to be resumed."""


class AwaitedEvent(msgspec.Struct, frozen=True):
    """An event from outside that the run waits for."""

    name: str
    until: str
    since_ms: int
    due_ms: int
    """0: it has no time-out."""
    reminder_ms: int = 0
    """When the next reminder is due; 0: none is."""
    reminded: int = 0
    """Reminders that were published."""
    escalation_ms: int = 0
    """When it is escalated; 0: it was, or never is."""

    @property
    def timers(self) -> list[tuple[int, str]]:
        """Return its due times with their names for people."""
        if is_timer(self.name):
            return [(self.due_ms, self.name)]
        wait = f"the wait for {self.until}"
        reminder = f"reminder {self.reminded + 1} of {wait}"
        escalation = f"the escalation of {wait}"
        return [(self.due_ms, f"the timeout of {wait}"), (self.reminder_ms, reminder), (self.escalation_ms, escalation)]


class Effect(msgspec.Struct, frozen=True):
    """A ledger entry: the effect that a step has left in the world, or may have left."""

    entry: str
    step: str
    state: str
    in_doubt: bool
    round: int
    """How often its undo was requested."""
    cause: str
    due_ms: int
    """Deadline of the present undo request; 0: none is under way."""
    retry_ms: int
    opened: int
    """Offset of the fact that opened it: undos go from the highest to the lowest."""


class ChildrenCount(msgspec.Struct, frozen=True):
    """The children of one step, counted."""

    step: str
    trigger: str
    total: int
    started: int
    ended: int
    """Children whose end was read, failed ones included."""
    failed: int
    undone: int
    stuck: int
    """Children that cannot be undone."""


class Detail(msgspec.Struct, frozen=True):
    """The state of a run for people. Times are epoch milliseconds; 0 means that there is none."""

    status: str
    cause: str
    version: int
    due_ms: int
    """The flow's deadline."""
    paused_ms: int
    pause_n: int
    ended_ms: int
    compensating: bool
    completing: bool
    duplicate: bool
    expected: list[ExpectedStep]
    waits: list[AwaitedEvent]
    ledger: list[Effect]
    """Oldest entry first."""
    over: list[str]
    """Names of the waits that were opened and will not be again."""
    closed: bool
    """Whether an end fact of it was read, also where a late success has opened it again."""
    children: list[ChildrenCount]
    outcome: str
    """The name of the way in which it completes, once that is known; "" where the flow has only one."""
    build: str
    """The build whose services work on it."""

    @property
    def timers(self) -> list[tuple[int, str]]:
        """Return due times and their subjects, as in `core.timers`: none while the run is paused or its end decided."""
        if self.ended_ms or self.paused_ms or self.completing:
            return []
        moments = [] if self.compensating else [(self.due_ms, "the flow's deadline")]
        for step in self.expected:
            moments += [(step.due_ms, f"the deadline of {step.step}"), (step.retry_ms, f"another try of {step.step}")]
        moments += [moment for wait in self.waits for moment in wait.timers]
        for effect in self.ledger:
            undo = f"the undo of {effect.step}"
            moments += [(effect.due_ms, f"the deadline of {undo}"), (effect.retry_ms, f"another try of {undo}")]
        return sorted((due_ms, about) for due_ms, about in moments if due_ms)

    @property
    def next_due_ms(self) -> int:
        """Return the next due time; 0 if there is none."""
        return min(self.timers, default=(0, ""))[0]


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """The stored form of a detail: the run's own parts, as they are; they get names when the row is read."""

    status: str
    cause: str
    version: int
    due_ms: int
    paused_ms: int
    pause_n: int
    ended_ms: int
    compensating: bool
    completing: bool
    duplicate: bool
    expected: list[PendingStep]
    waits: list[OpenWait]
    ledger: list[LedgerEntry]
    over: list[str] = []
    closed: bool = False
    children: list[ChildrenCount] = []
    outcome: str = ""
    build: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Kept).decode
_NOTHING: Mapping[str, str] = {}
_NO_KEYS: Mapping[str, str | None] = {}


def view(
    table: FlowTable, partition: int, key: str, run: Run, attributes: Mapping[str, str] | None = None
) -> InstanceView:
    """Return the run as a row of the read model, true up to the last event that changed the run.

    `attributes` are the filterable fields of its start event and its search attributes. None: the row has none.
    """
    status = run.shown
    outcome = table.nearest(run.version).flow.outcomes.get(run.completed_by, "")
    kept = _Kept(
        status,
        run.cause,
        run.version,
        run.due_ms,
        run.paused_ms,
        run.pause_n,
        run.ended_ms,
        run.compensating,
        run.completing,
        run.duplicate,
        run.expected,
        run.waits,
        run.ledger,
        _over(run.gates) if run.gates.once else [],
        run.closed,
        [_counted(children) for children in run.children],
        outcome,
        run.build,
    )
    return InstanceView(
        table.flow.name,
        key,
        run.id,
        status,
        run.cause,
        run.started_ms,
        run.changed_ms,
        partition,
        run.changed,
        _NOTHING if attributes is None else attributes,
        _encode(kept),
        _keys(table.flow, attributes or _NOTHING, outcome if status == COMPLETED else ""),
        *_standing(run),
        next_due_of(run),
    )


def _standing(run: Run) -> tuple[str, int]:
    """Return the place in which an open run stands, and since when: the oldest step before waits, which may be long."""
    if run.ended_ms or run.paused_ms:
        return "", 0
    if run.expected:
        since_ms, name = min([(step.since_ms, step.step) for step in run.expected])
        return name, since_ms
    for entry in run.ledger:
        if entry.state == REQUESTED:
            return undo_of(entry.step), run.changed_ms
    for entry in run.ledger:
        if entry.state == FAILED:
            return failed_undo_of(entry.step), run.changed_ms
    waits = [(wait.since_ms, wait.name) for wait in run.waits if not is_timer(wait.name)]
    since_ms, name = min(waits, default=(0, ""))
    return name, since_ms


def undo_of(step: str) -> str:
    """Return the name of a step's undo among the places in which a run stands."""
    return f"undo {step}"


def failed_undo_of(step: str) -> str:
    """Return the name of a step's undo that has failed among the places in which a run stands."""
    return f"failed undo {step}"


def _keys(flow: FlowDefinition, attributes: Mapping[str, str], outcome: str) -> Mapping[str, str | None]:
    """Return the keys of the search attributes, and of the outcome where the flow has several."""
    if not flow.attributes and not flow.outcomes:
        return _NO_KEYS
    keys = keys_of(flow.attributes, attributes)
    if flow.outcomes:
        keys[OUTCOME] = outcome or None
    return keys


def _over(gates: Gates) -> list[str]:
    """Return the names of the waits on no cycle that were opened and are no longer."""
    still = {opening.wait for opening in gates.openings}
    return [name for name in gates.once if name not in still]


def _counted(children: Children) -> ChildrenCount:
    return ChildrenCount(
        children.step,
        children.trigger,
        children.total,
        children.opened,
        count(children.ended),
        count(children.failed),
        count(children.undone),
        count(children.stuck),
    )


def detail_of(row: InstanceView) -> Detail:
    """Return the detail in a row; raises StorageError on one that another version of choreo wrote."""
    try:
        kept = _decode(row.detail)
    except msgspec.DecodeError as error:
        raise StorageError(
            f"the detail of this row cannot be read: {error}",
            where=f"read model, flow {row.flow}, key {row.key!r}, run {row.run}",
            remedy="Rebuild it from the log with `choreo projections rebuild`.",
        ) from error

    expected = [
        ExpectedStep(e.step, e.trigger, e.since_ms, e.due_ms, e.attempt, e.retry_ms, e.held) for e in kept.expected
    ]
    waits = [
        AwaitedEvent(w.name, w.until, w.since_ms, w.due_ms, reminder_ms, w.reminded, escalation_ms)
        for w in kept.waits
        for reminder_ms, escalation_ms in ((0, 0) if w.closing else (w.reminder_ms, w.escalation_ms),)
    ]
    ledger = [
        Effect(e.id, e.step, e.state, e.outcome < 0, e.round, e.cause, e.due_ms, e.retry_ms, e.opened)
        for e in kept.ledger
    ]
    closed = kept.closed or kept.ended_ms > 0
    after = (kept.over, closed, kept.children, kept.outcome, kept.build)
    return Detail(*astuple(kept)[:-8], expected, waits, ledger, *after)  # type: ignore[call-arg]  # the same fields before


class ShownRun(NamedTuple):
    """A run as the read model knows it, for the rules of attribution."""

    row: InstanceView
    detail: Detail

    @property
    def id(self) -> str:
        """Return the id of its start event."""
        return self.row.run

    @property
    def has_end(self) -> bool:
        """Return whether an end fact of it was read."""
        return self.detail.closed

    def has_read(self, event: Envelope) -> bool:  # noqa: ARG002 - a row does not remember events
        """Return False: a row does not remember which events were its own."""
        return False


def shown_runs(rows: Iterable[InstanceView]) -> list[ShownRun]:
    """Return the runs in these rows; raises StorageError on a detail that cannot be read."""
    return [ShownRun(row, detail_of(row)) for row in rows]


def attributes_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the scalar fields of a start event as text, for filters; composite fields are left out."""
    return {name: _text(value) for name, value in fields.items() if isinstance(value, str | int | float | Decimal)}


def _text(value: str | float | Decimal) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
